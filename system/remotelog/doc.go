// Package remotelog lets a follower follow an application of another service,
// over HTTP. The follower keeps its position in its own transaction, as with
// every leader, so that each event has its effects exactly once, whatever
// becomes of the connection.
//
// # Serving a log
//
// The service that has the application serves its log, to be read only:
//
//	mux.Handle("/log/", http.StripPrefix("/log", authenticated(remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{}))))
//
// A caller that may read it may read every event. The handler does not
// authenticate its callers: the service does that before it calls the handler:
//
//	func authenticated(next http.Handler) http.Handler {
//		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
//			token := []byte(r.Header.Get("Authorization"))
//			if subtle.ConstantTimeCompare(token, []byte("Bearer "+secret)) != 1 {
//				w.WriteHeader(http.StatusUnauthorized)
//				return
//			}
//			next.ServeHTTP(w, r)
//		})
//	}
//
// States are sent as they are stored: compressed and encrypted, if the
// application does that. So the log can be served by a program that has neither
// the keys nor the definitions, and the one that follows needs both. What is
// not encrypted in the database is not encrypted in an answer either; use
// https.
//
// # Following it
//
// The other service follows the client that [NewClient] returns. The client has
// the name of the application, under which followers keep their positions. Give
// it what it needs to read the events, as the application was given it: their
// definitions and, if there are any, the cipher and the compressor. Settings of
// the environment count too, under the application's name, such as
// TRAININGSCHOOL_CIPHER_KEY.
//
//	client, err := remotelog.NewClient("TrainingSchool", "https://school.example.com/log", remotelog.ClientConfig{
//		Application: []application.Option{application.WithDefinitions(school.Dogs)},
//		Header:      http.Header{"Authorization": {"Bearer " + secret}},
//	})
//	sys, err := system.New(system.Pipe(client, counters))
//	runner, err := system.NewRunner(sys, system.Config{})
//
// A runner asks for the head of the log twice a second, and for events if there
// are new ones. The client keeps the events that a follower did not get to in
// one transaction, so that nothing is sent twice.
//
// # Failures
//
// A request that finds no connection, loses it, or is answered 429, 502, 503 or
// 504 is repeated a few times within a call, after short waits, or after the
// one that the service asks for. What fails after that is an error, and the
// runner tries again later, after longer and longer times. A timeout is not
// repeated within the call: there was time enough. Meanwhile a follower of
// several leaders waits for this one.
//
// An answer is believed only when it can be true. The log must be that of the
// application the client was made for: positions in another log mean nothing.
// Ids must ascend after the position that was asked for. And a page that says
// that the log ends must not have a lower head than the client has already
// seen: it would come from a replica that lags, and events would be passed
// over. Serve the log from the primary all the same: a follower that only ever
// sees an old head takes itself to be ahead of the log, and stops with a
// system.ErrAhead.
//
// # The format
//
// Others can read the log too. GET notifications has the arguments after (the
// position after which to begin) or start (the first one wanted), stop (the
// last one wanted), limit, and topics, which may be repeated. Unknown arguments
// are ignored.
//
//	GET /log/notifications?after=4&limit=100&topics=Dog.TrickAdded
//
//	{"format": 1, "application": "TrainingSchool", "head": 7, "complete": true, "notifications": [
//	  {"id": 5, "originator_id": "f7ae7a4a-...", "originator_version": 2, "topic": "Dog.TrickAdded", "state": "ARl..."}]}
//
// States are in base64. A page may have fewer notifications than were asked
// for, because of their size; complete says that nothing follows in the range.
// GET head returns the same without complete and notifications, and with
// newest, the id of the newest event. GET head?held=1 also has held, if a
// transaction that is still open keeps readers from newer events: the fields of
// persistence.LogHold, with open_for_ms, the milliseconds for which it has been
// open, in place of since. Errors are {"format": 1, "error": "..."}. Fields may
// be added at any time, so readers must ignore those that they do not know;
// format changes when the meaning of a field changes.
package remotelog
