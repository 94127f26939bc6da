package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/eventsourcing-go/eventsourcing/internal/limits"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// checkInterval is how often the settings of a stream that is used are
// compared.
const checkInterval = 30 * time.Second

// firstKey is the key of a stream's metadata that has its first sequence.
const firstKey = "eventsourcing-first"

// settings returns the settings that Create gives a stream.
func (n names) settings(k kind, replicas int, first int64) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:               n.events,
		Subjects:           []string{n.allEvents(), n.allPositions(), n.allParked(), n.filler()},
		Retention:          jetstream.LimitsPolicy,
		Storage:            jetstream.FileStorage,
		Discard:            jetstream.DiscardNew,
		MaxMsgs:            -1,
		MaxBytes:           -1,
		MaxMsgsPerSubject:  -1,
		MaxMsgSize:         -1,
		MaxConsumers:       -1,
		Replicas:           replicas,
		AllowDirect:        true,
		AllowAtomicPublish: true,
		DenyDelete:         true,
		DenyPurge:          true,
		RePublish:          &jetstream.RePublish{Source: n.allEvents(), Destination: n.wake(), HeadersOnly: true},
		Metadata:           map[string]string{firstKey: strconv.FormatInt(max(first, 1), 10)},
	}
	if first > 1 {
		c.FirstSeq = uint64(first)
	}
	if k != ofEvents { // what is replaced by newer ones
		c.Name, c.Subjects, c.MaxMsgsPerSubject = n.stream(k), []string{n.allSnapshots()}, 1
		c.DenyDelete, c.DenyPurge, c.RePublish, c.Metadata = false, false, nil, nil
	}
	if k == ofStatuses {
		c.Subjects = []string{n.allStatuses()}
	}
	return c
}

// problems compares the settings of a stream with those that it needs.
func problems(got, want jetstream.StreamConfig, config Config) (all []string) {
	need := func(ok bool, setting string, value any) {
		if !ok {
			all = append(all, fmt.Sprintf("set %s to %v", setting, value))
		}
	}
	slices.Sort(got.Subjects)
	slices.Sort(want.Subjects)
	need(slices.Equal(got.Subjects, want.Subjects), "subjects", strings.Join(want.Subjects, ", "))
	need(got.Retention == want.Retention, "retention", "limits")
	need(got.Storage == want.Storage, "storage", "file")
	need(got.Discard == want.Discard, "discard", "new")
	need(!got.DiscardNewPerSubject, "discard_new_per_subject", false)
	need(got.MaxMsgs <= 0, "max_msgs", -1)
	need(got.MaxAge == 0, "max_age", 0)
	need(got.MaxMsgsPerSubject == want.MaxMsgsPerSubject, "max_msgs_per_subject", want.MaxMsgsPerSubject)
	need(got.MaxMsgSize <= 0 || int64(got.MaxMsgSize) >= largestMessage || config.waives(SmallPayload), "max_msg_size", -1)
	need(got.AllowDirect, "allow_direct", true)
	need(got.AllowAtomicPublish, "allow_atomic", "true, which needs NATS 2.12 or later")
	need(got.DenyDelete == want.DenyDelete, "deny_delete", want.DenyDelete)
	need(got.DenyPurge == want.DenyPurge, "deny_purge", want.DenyPurge)
	need(!got.NoAck, "no_ack", false)
	need(!got.Sealed, "sealed", false)
	need(!got.AllowRollup, "allow_rollup_hdrs", false)
	need(!got.AllowMsgTTL, "allow_msg_ttl", false)
	need(!got.AllowMsgCounter, "allow_msg_counter", false)
	need(!got.AllowMsgSchedules, "allow_msg_schedules", false)
	need(got.PersistMode == jetstream.DefaultPersistMode, "persist_mode", "default")
	need(got.Mirror == nil && len(got.Sources) == 0, "mirror and sources", "none")
	need(got.SubjectTransform == nil, "subject_transform", "none")
	if want.RePublish != nil {
		need(got.RePublish != nil && *got.RePublish == *want.RePublish, "republish",
			want.RePublish.Source+" to "+want.RePublish.Destination+", headers only")
	}
	need(got.Replicas >= defaultReplicas || config.waives(SingleReplica), "num_replicas",
		fmt.Sprintf("3 or more, or waive %q", SingleReplica))
	return all
}

// largestMessage is the size of the message of a largest state, with its
// headers.
const largestMessage = limits.State + 4096

// check compares the settings of the stream, unless that was done a short while
// ago and the stream is not suspect since. Callers that come meanwhile do not
// wait if only the time has passed.
func (s *stream) check(ctx context.Context) error {
	switch last, suspect := s.lastCheck(); {
	case !suspect && time.Since(last) < checkInterval:
		return nil
	case suspect || last.IsZero():
		select {
		case s.checking <- struct{}{}:
		case <-ctx.Done():
			return s.unavailable(ctx, "compare the settings of a stream", errBusy)
		}
	default:
		select {
		case s.checking <- struct{}{}:
		default:
			return nil
		}
	}
	defer func() { <-s.checking }()
	last, suspect := s.lastCheck()
	if !suspect && time.Since(last) < checkInterval {
		return nil
	}
	connects := s.store.conn.Stats().Reconnects
	s.setSuspect(false) // what happens during the check makes it suspect again
	first, err := s.checkNow(ctx, last.IsZero())
	if err != nil {
		s.setSuspect(!last.IsZero())
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked, s.connects, s.first = time.Now(), connects, first
	return nil
}

var errNoLeader = errors.New("the stream has no leader at the moment")

var errBusy = errors.New("another call waits for the leader of the stream")

// lastCheck returns when the stream was compared last, and whether the stream may
// have changed since: it has another leader, was changed or made anew, or the
// connection was lost, so that none of these would have been heard of.
func (s *stream) lastCheck() (at time.Time, suspect bool) {
	connects := s.store.conn.Stats().Reconnects
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.checked, s.suspect || !s.checked.IsZero() && connects != s.connects
}

func (s *stream) setSuspect(suspect bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspect = suspect
}

// watch hears of new leaders, whose state is compared before they are believed
// because their files may be damaged, and of changes of the stream.
func (s *stream) watch(ctx context.Context, op string) error {
	s.mu.Lock()
	watched := s.advices != nil || s.store.closed.Load() // a closed store uses nothing any more
	s.mu.Unlock()
	if watched {
		return nil
	}
	advices, err := s.store.subscribe(ctx, s.application, op, "$JS.EVENT.ADVISORY.STREAM.*."+s.name, func(*nats.Msg) { s.setSuspect(true) })
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store.closed.Load() {
		return advices.Unsubscribe()
	}
	s.advices = advices
	return nil
}

// subscribe subscribes to a subject, and returns an error if the user has not
// the right to it, which the server tells later.
func (s *Store) subscribe(ctx context.Context, application, op, subject string, f nats.MsgHandler) (*nats.Subscription, error) {
	failed := func(class error, hint string, err error) error {
		return &persistence.Error{Class: class, Op: application + ": " + op, Hint: hint, Err: err}
	}
	subscription, err := s.conn.Subscribe(subject, f)
	if errors.Is(err, nats.ErrConnectionClosed) {
		return nil, failed(persistence.ErrInterface, "the connection that the store was given is closed", err)
	}
	if err != nil {
		return nil, failed(persistence.ErrOperational, "", err)
	}
	try, cancel := context.WithTimeout(ctx, longestTry)
	defer cancel()
	if s.conn.FlushWithContext(try) != nil {
		return subscription, nil // no connection at the moment; it is subscribed to by the next one
	}
	if err := s.conn.LastError(); errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+subject+`"`) {
		subscription.Unsubscribe()
		return nil, failed(persistence.ErrOperational, "allow the NATS user to subscribe to "+subject, err)
	}
	return subscription, nil
}

// close ends what the stream hears.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.advices != nil {
		s.advices.Unsubscribe()
	}
}

// checkNow compares the settings of the stream, and its state with what this
// process knows. It returns the first sequence.
func (s *stream) checkNow(ctx context.Context, isNew bool) (first int64, err error) {
	const op = "compare the settings of a stream"
	if err := s.retry(ctx, op, func() error { return s.store.checkServer(ctx) }); err != nil {
		return 0, err
	}
	if err := s.watch(ctx, op); err != nil {
		return 0, err
	}
	var info *jetstream.StreamInfo // the last answer
	err = s.retry(ctx, op, func() error {
		answer, err := s.info(ctx, op, "")
		if err == nil {
			info = answer
		}
		switch {
		case err == nil && info.Cluster != nil && info.Cluster.Leader == "":
			return errAgain{errNoLeader}
		case err == nil && s.kind == ofEvents && int64(info.State.LastSeq) < s.highest():
			return errStale
		case !isNew || !s.store.config.CreateStreams || !errors.Is(err, persistence.ErrNotMigrated):
			return err
		}
		if err := s.store.create(ctx, s.names.settings(s.kind, s.store.config.Replicas, 1)); err != nil {
			return err
		}
		return errAgain{err} // other servers may not know of it yet
	})
	switch {
	case errors.Is(err, errStale):
		return 0, s.damageIn(info, DamageError{From: int64(info.State.LastSeq) + 1, To: s.highest(),
			Problem: "unless the stream was made anew or restored, after which services have to be restarted"})
	case err != nil:
		return 0, err
	}
	want := s.names.settings(s.kind, s.store.config.Replicas, 1)
	found := problems(info.Config, want, s.store.config)
	first = int64(1)
	if s.kind == ofEvents {
		first, err = strconv.ParseInt(info.Config.Metadata[firstKey], 10, 64)
		if err != nil || first < 1 {
			found = append(found, "restore the metadata "+firstKey+", which has the first sequence of the stream")
		}
	}
	if err := s.store.checkSync(ctx, info); err != nil {
		found = append(found, err.Error())
	}
	if len(found) > 0 {
		return 0, &SettingsError{Name: "stream " + s.name, Problems: found}
	}
	return first, s.checkState(info, first)
}

// checkState finds what the leader lacks. Nothing is deleted from a stream of
// events, so it has all sequences from its first to its last.
func (s *stream) checkState(info *jetstream.StreamInfo, first int64) error {
	state := info.State
	if s.kind != ofEvents || state.Msgs == 0 && s.highest() == 0 {
		return nil
	}
	have, last := int64(state.Msgs), int64(state.LastSeq)
	damaged := DamageError{}
	switch {
	case have > 0 && int64(state.FirstSeq) != first:
		damaged.From, damaged.To = first, int64(state.FirstSeq)-1
	case have != last-first+1:
		damaged.Problem = fmt.Sprintf("the leader has %d of the %d messages from sequence %d to %d", have, last-first+1, first, last)
	default:
		return nil
	}
	return s.damageIn(info, damaged)
}

// damage returns the error of a damaged replica, with the servers that have the
// stream if they can be found out.
func (s *stream) damage(e DamageError) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	info, err := s.info(ctx, "find the replicas of a stream", "")
	if err != nil {
		info = nil
	}
	return s.damageIn(info, e)
}

func (s *stream) damageIn(info *jetstream.StreamInfo, e DamageError) error {
	e.Stream = s.name
	if info != nil && info.Cluster != nil {
		e.Leader = info.Cluster.Leader
		for _, replica := range info.Cluster.Replicas {
			e.Replicas = append(e.Replicas, replica.Name)
		}
	}
	return s.store.alarm(&e)
}

// info returns what the leader of the stream says about it, with the subjects
// that the filter selects.
func (s *stream) info(ctx context.Context, op, filter string) (*jetstream.StreamInfo, error) {
	var response struct {
		Error *apiError `json:"error"`
		Total int       `json:"total"`
		jetstream.StreamInfo
	}
	var all *jetstream.StreamInfo
	for offset := 0; ; {
		body, err := json.Marshal(map[string]any{"subjects_filter": filter, "offset": offset})
		if err != nil {
			return nil, err
		}
		reply, err := s.request(ctx, op, "$JS.API.STREAM.INFO."+s.name, body)
		if err == nil {
			err = json.Unmarshal(reply.Data, &response)
		}
		if err != nil {
			return nil, err
		}
		if response.Error != nil {
			if err := s.apiFailure(op, response.Error); err != nil {
				return nil, err
			}
			return nil, errAgain{response.Error}
		}
		page := response.StreamInfo
		if all == nil {
			all = &page
		} else {
			for subject, n := range page.State.Subjects {
				all.State.Subjects[subject] = n
			}
		}
		if offset += len(page.State.Subjects); len(page.State.Subjects) == 0 || offset >= response.Total {
			return all, nil
		}
		response.State.Subjects = nil
	}
}

// request sends a request to the API of JetStream.
func (s *Store) request(ctx context.Context, subject string, body []byte, response any) error {
	try, cancel := context.WithTimeout(ctx, longestTry)
	defer cancel()
	reply, err := s.conn.RequestWithContext(try, subject, body)
	if err != nil {
		return err
	}
	return json.Unmarshal(reply.Data, response)
}

// create makes a stream. One that exists is left as it is, and compared later.
func (s *Store) create(ctx context.Context, settings jetstream.StreamConfig) error {
	js, err := jetstream.New(s.conn)
	if err != nil {
		return err
	}
	_, err = js.CreateStream(ctx, settings)
	if err == nil || errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return nil
	}
	hint := "give the cluster enough servers with JetStream, or the NATS user the right"
	return &persistence.Error{Class: persistence.ErrOperational, Op: "natsstore: create stream " + settings.Name, Hint: hint, Err: err}
}

// checkServer finds out, once for each server that the store is connected to,
// whether it can do what the store needs.
func (s *Store) checkServer(ctx context.Context) error {
	s.checking.Lock()
	defer s.checking.Unlock()
	id := s.conn.ConnectedServerId()
	switch {
	case s.conn.IsClosed():
		return &persistence.Error{Class: persistence.ErrInterface, Op: "natsstore: use JetStream",
			Hint: "the connection that the store was given is closed", Err: nats.ErrConnectionClosed}
	case id == "":
		return errAgain{nats.ErrDisconnected}
	case id == s.checkedServer:
		return nil
	}
	var found []string
	version := s.conn.ConnectedServerVersion()
	if !isAtLeast(version, 2, 12) {
		found = append(found, fmt.Sprintf("it is NATS %s; use 2.12 or later", version))
	}
	if size := s.conn.MaxPayload(); size < largestMessage && !s.config.waives(SmallPayload) {
		found = append(found, fmt.Sprintf("max_payload is %d; set it to 32MB, or waive %q", size, SmallPayload))
	}
	if len(found) > 0 {
		return &SettingsError{Name: "server " + s.conn.ConnectedServerName(), Problems: found}
	}
	var response struct {
		Error *apiError `json:"error"`
	}
	err := s.request(ctx, "$JS.API.INFO", nil, &response)
	if err == nil && response.Error != nil {
		err = response.Error
	}
	if errors.Is(err, nats.ErrNoResponders) || response.Error != nil && response.Error.ErrCode == codeNotEnabledForAcc {
		return &persistence.Error{Class: persistence.ErrNotSupported, Op: "natsstore: use JetStream",
			Hint: "enable JetStream on the servers and for the account, and allow the NATS user $JS.API.INFO", Err: err}
	}
	if err == nil {
		s.checkedServer = id
	}
	return nil // the server is there, and may be busy; the caller's request finds out more
}

// isAtLeast reports whether a version of NATS is the given one or later.
func isAtLeast(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	x, err1 := strconv.Atoi(parts[0])
	y, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (x > major || x == major && y >= minor)
}

// checkSync reads from the monitoring ports whether the servers that have the
// stream write to disk before they answer. A server that is away is looked at
// when it is back.
func (s *Store) checkSync(ctx context.Context, info *jetstream.StreamInfo) error {
	if s.config.waives(PeriodicSync) {
		return nil
	}
	if len(s.config.Monitoring) == 0 {
		return fmt.Errorf("give Config.Monitoring the monitoring URLs of all servers, so that sync_interval can be read, or waive %q", PeriodicSync)
	}
	servers := []string{s.conn.ConnectedServerName()}
	if info.Cluster != nil {
		servers = []string{info.Cluster.Leader}
		for _, replica := range info.Cluster.Replicas {
			if replica.Current && !replica.Offline {
				servers = append(servers, replica.Name)
			}
		}
	}
	s.checking.Lock()
	defer s.checking.Unlock()
	isUnknown := func(server string) bool { _, known := s.syncing[server]; return !known }
	var failed error
	if slices.ContainsFunc(servers, isUnknown) || time.Since(s.syncingRead) >= checkInterval {
		failed = s.readSyncing(ctx)
	}
	for _, server := range servers {
		switch always, known := s.syncing[server]; {
		case !known && failed != nil:
			return fmt.Errorf("make the monitoring port of server %s reachable: %w", server, failed)
		case !known:
			return fmt.Errorf("add the monitoring URL of server %s to Config.Monitoring", server)
		case !always:
			return fmt.Errorf("set sync_interval of server %s to always, or waive %q", server, PeriodicSync)
		}
	}
	return nil
}

// monitoringTimeout is how long a monitoring port may take to answer.
const monitoringTimeout = 2 * time.Second

// readSyncing reads from all monitoring ports at once which servers write to
// disk before they answer. It returns the errors of those that do not answer,
// whose servers stay as they were known.
func (s *Store) readSyncing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, monitoringTimeout)
	defer cancel()
	type answer struct {
		server string
		always bool
		err    error
	}
	answers := make(chan answer, len(s.config.Monitoring))
	for _, url := range s.config.Monitoring {
		go func() {
			server, always, err := readSync(ctx, url)
			answers <- answer{server, always, err}
		}()
	}
	if s.syncing == nil {
		s.syncing = map[string]bool{}
	}
	var errs []error
	for range s.config.Monitoring {
		a := <-answers
		if a.err != nil {
			errs = append(errs, a.err)
			continue
		}
		s.syncing[a.server] = a.always
	}
	s.syncingRead = time.Now()
	return errors.Join(errs...)
}

// readSync reads from a monitoring port whether its server writes to disk before
// it answers.
func readSync(ctx context.Context, url string) (name string, always bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/varz", nil)
	if err != nil {
		return "", false, err
	}
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	reply, err := client.Do(request)
	if err != nil {
		return "", false, err
	}
	defer reply.Body.Close()
	var server struct {
		Name      string `json:"server_name"`
		JetStream struct {
			Config *struct {
				SyncAlways bool `json:"sync_always"`
			} `json:"config"`
		} `json:"jetstream"`
	}
	if err := json.NewDecoder(reply.Body).Decode(&server); err != nil || server.Name == "" {
		return "", false, fmt.Errorf("%s is not the monitoring port of a NATS server", url)
	}
	return server.Name, server.JetStream.Config != nil && server.JetStream.Config.SyncAlways, nil
}
