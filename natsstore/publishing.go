package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// outgoing is a message to be stored.
type outgoing struct {
	subject string
	data    []byte
	// expect says that the last message of the subject must have the sequence
	// last, which is 0 if there is none. The server compares a literal subject
	// only: with wildcards in two spellings two writers could both succeed.
	expect bool
	last   int64
	// end is the sequence that the stream must end with, or nil. Only the first
	// of several messages can have one.
	end *int64
}

// errRefused says that an expectation did not hold, or that another write of
// the subject is in flight. Nothing of this try was stored.
var errRefused = errors.New("the last sequence of a subject is another one")

// writing is a call that writes. It is tried until its outcome is known.
type writing struct {
	*stream
	op string
	id writeID
	// unknown says that a try got no answer, so that its messages may be stored
	// or be stored later.
	unknown bool
}

func (s *stream) newWriting(op string) *writing {
	return &writing{stream: s, op: op, id: newWriteID()}
}

// publish stores all messages or none, and returns the sequence of the first.
// It tries the same again while no answer comes: at most one of the tries can
// be stored, because each message begins with an expectation. errRefused says
// that the caller must look at what is stored.
func (w *writing) publish(ctx context.Context, messages []outgoing) (first int64, err error) {
	size := 0
	for i := range messages {
		size += len(messages[i].data)
	}
	timeout := 2*time.Second + time.Duration(size>>20)*time.Second/2
	longest := 2 * timeout // a try that was sent to a leader which was cut off is answered never
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		first, err := w.try(ctx, messages, timeout)
		if err == nil {
			w.saw(first + int64(len(messages)) - 1)
			return first, nil
		}
		var unknown errUnknown
		if errors.As(err, &unknown) {
			w.unknown = true
		} else if !isAgain(err) {
			return 0, w.final(err)
		}
		if !sleep(ctx, pause) {
			return 0, w.ended(ctx, err)
		}
		timeout = min(2*timeout, longest)
	}
}

// final returns the error of a write that no repetition can change. What was
// sent before may have been stored.
func (w *writing) final(err error) error {
	if !w.unknown || errors.Is(err, errRefused) {
		return err
	}
	return w.outcomeUnknown(err)
}

// ended returns the error of a write whose context has ended.
func (w *writing) ended(ctx context.Context, cause error) error {
	denied := w.permission(w.op)
	switch {
	case w.unknown:
		return w.outcomeUnknown(errors.Join(cause, ctx.Err(), denied))
	case denied != nil:
		return denied
	}
	return w.unavailable(ctx, w.op, cause)
}

func (w *writing) outcomeUnknown(cause error) error {
	return w.failure(w.op, persistence.ErrOutcomeUnknown, "read before writing again", cause)
}

// errUnknown is a try that may have stored its messages.
type errUnknown struct{ error }

func (e errUnknown) Unwrap() error { return e.error }

// ack is the answer to a publish.
type ack struct {
	Error *apiError `json:"error"`
	Seq   int64     `json:"seq"`
}

// try sends the messages once.
func (w *writing) try(ctx context.Context, messages []outgoing, timeout time.Duration) (first int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, errAgain{err}
	}
	if !w.store.conn.IsConnected() {
		if w.store.conn.IsClosed() {
			return 0, w.tryFailed(w.op, nats.ErrConnectionClosed)
		}
		return 0, errAgain{nats.ErrDisconnected}
	}
	// The check is made again after an election or a new connection.
	if err := w.check(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var reply *nats.Msg
	if len(messages) == 1 {
		reply, err = w.store.conn.RequestMsgWithContext(ctx, w.encode(&messages[0]))
	} else {
		reply, err = w.tryBatch(ctx, messages)
	}
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return 0, errAgain{err} // no server took it
	case errors.Is(err, nats.ErrMaxPayload):
		return 0, w.failure(w.op, persistence.ErrNotSupported, "nothing was stored; raise max_payload of the servers", err)
	case err != nil:
		if errors.Is(w.tryFailed(w.op, err), persistence.ErrInterface) && !w.unknown {
			return 0, w.tryFailed(w.op, err)
		}
		return 0, errUnknown{err}
	}
	var answer ack
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return 0, errUnknown{err}
	}
	if answer.Error == nil {
		return answer.Seq - int64(len(messages)) + 1, nil
	}
	switch answer.Error.ErrCode {
	case codeWrongLastSeq, codeSubjectInFlight, codeNotReady:
		return 0, errRefused
	case codeBatchIncomplete, codeBatchesInFlight:
		return 0, errAgain{answer.Error}
	}
	if err := w.apiFailure(w.op, answer.Error); err != nil {
		return 0, err
	}
	return 0, errUnknown{answer.Error}
}

// tryBatch sends the messages as an atomic batch, all at once, and returns the
// answer to its last message. An error of the first message ends the batch at
// the server, and the last one is answered as incomplete.
func (w *writing) tryBatch(ctx context.Context, messages []outgoing) (reply *nats.Msg, err error) {
	batch := nuid.Next()
	for i := range messages {
		m := w.encode(&messages[i])
		m.Header.Set("Nats-Batch-Id", batch)
		m.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		if i < len(messages)-1 {
			if err := w.store.conn.PublishMsg(m); err != nil {
				return nil, err
			}
			continue
		}
		m.Header.Set("Nats-Batch-Commit", "1")
		reply, err = w.store.conn.RequestMsgWithContext(ctx, m)
	}
	return reply, err
}

func (w *writing) encode(m *outgoing) *nats.Msg {
	header := nats.Header{"Nats-Expected-Stream": {w.name}}
	if m.expect {
		header["Nats-Expected-Last-Subject-Sequence"] = []string{strconv.FormatInt(m.last, 10)}
	}
	if m.end != nil {
		header["Nats-Expected-Last-Sequence"] = []string{strconv.FormatInt(*m.end, 10)}
	}
	return &nats.Msg{Subject: m.subject, Header: header, Data: m.data}
}
