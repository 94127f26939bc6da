package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// message is a message of a stream.
type message struct {
	seq     int64
	subject string
	frame
}

// getRequest asks for messages.
type getRequest struct {
	Seq      int64  `json:"seq,omitempty"`
	LastFor  string `json:"last_by_subj,omitempty"`
	NextFor  string `json:"next_by_subj,omitempty"`
	Batch    int    `json:"batch,omitempty"`
	MaxBytes int    `json:"max_bytes,omitempty"`
}

// pageBytes is how much a page of messages has at most, unless a single one is
// larger.
const pageBytes = 8 << 20

// The pauses between tries that failed at once.
const (
	shortestPause = 2 * time.Millisecond
	longestPause  = 250 * time.Millisecond
)

// midPage is how long a page waits for its next message. One that has stopped
// is asked for again, because another replica may have all of it.
const midPage = 2 * time.Second

// leaderLast returns the last message of a subject, as the leader of the stream
// has it. It waits for a leader that has the message with the sequence atLeast,
// which the caller knows of: a leader that was cut off from the others may
// answer for some seconds with what it had.
func (s *stream) leaderLast(ctx context.Context, op, subject string, atLeast int64) (m message, found bool, err error) {
	err = s.retry(ctx, op, func() error {
		m, found, err = s.store.ask(s, ctx, op, getRequest{LastFor: subject})
		if err == nil && m.seq < atLeast {
			err = errStale
		}
		return err
	})
	if errors.Is(err, errStale) {
		err = s.damage(DamageError{From: atLeast, To: atLeast})
	}
	return m, found, err
}

var errStale = errors.New("the leader does not know what was acknowledged")

// leaderNext returns the first message at or after a sequence whose subject
// matches, as the leader has it.
func (s *stream) leaderNext(ctx context.Context, op, filter string, seq int64) (m message, found bool, err error) {
	err = s.retry(ctx, op, func() error {
		m, found, err = s.store.ask(s, ctx, op, getRequest{Seq: seq, NextFor: filter})
		return err
	})
	return m, found, err
}

// retry calls try until it returns no error, or one that is final. If
// Config.Timeout ends it after an answer that was errStale, that is the error.
func (s *stream) retry(ctx context.Context, op string, try func() error) error {
	stale := false
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		err := try()
		if err == nil || !isAgain(err) && !errors.Is(err, errStale) {
			return err
		}
		if errors.Is(err, errStale) {
			stale = true
		} else if ctx.Err() == nil {
			stale = false
		}
		if sleep(ctx, pause) {
			continue
		}
		if denied := s.permission(op); denied != nil {
			return denied
		}
		if stale && context.Cause(ctx) == errTimedOut {
			return errStale
		}
		return s.unavailable(ctx, op, err)
	}
}

// errTimedOut is the cause of a context that Config.Timeout has ended.
var errTimedOut = errors.New("natsstore: Config.Timeout is over")

// unavailable is the error of an operation that ended without an answer, and
// that has stored nothing.
func (s *stream) unavailable(ctx context.Context, op string, cause error) error {
	switch {
	case s.store.closed.Load():
		return s.store.closedError(s.application, op)
	case context.Cause(ctx) != errTimedOut:
		return contextError(s.application, op, ctx.Err())
	}
	hint := "the servers do not answer; look whether a majority of them is up and stream " + s.name + " has a leader"
	return s.failure(op, persistence.ErrUnavailable, hint, cause)
}

// sleep waits, and returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// leaderGet asks the leader for one message.
func (s *stream) leaderGet(ctx context.Context, op string, request getRequest) (m message, found bool, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return m, false, err
	}
	reply, err := s.request(ctx, op, "$JS.API.STREAM.MSG.GET."+s.name, body)
	if err != nil {
		return m, false, err
	}
	var response struct {
		Error   *apiError `json:"error"`
		Message struct {
			Subject string `json:"subject"`
			Seq     int64  `json:"seq"`
			Data    []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &response); err != nil {
		return m, false, s.failure(op, persistence.ErrInternal, "the server's answer cannot be read", err)
	}
	if response.Error != nil {
		if response.Error.ErrCode == codeMessageNotFound {
			return m, false, nil
		}
		if err := s.apiFailure(op, response.Error); err != nil {
			return m, false, err
		}
		return m, false, errAgain{response.Error}
	}
	m, err = s.message(response.Message.Seq, response.Message.Subject, response.Message.Data)
	return m, err == nil, err
}

// tryFailed returns the error of a try that got no answer.
func (s *stream) tryFailed(op string, err error) error {
	switch {
	case errors.Is(err, nats.ErrConnectionClosed):
		if s.store.closed.Load() {
			return s.store.closedError(s.application, op)
		}
		return s.failure(op, persistence.ErrInterface, "the connection that the store was given is closed", err)
	case errors.Is(err, nats.ErrPermissionViolation):
		return s.failure(op, persistence.ErrOperational, "give the NATS user the right", err)
	}
	return errAgain{err}
}

// message decodes a message.
func (s *stream) message(seq int64, subject string, data []byte) (message, error) {
	f, err := decodeFrame(data)
	if err != nil {
		return message{}, s.failure("read", persistence.ErrInternal,
			"message "+strconv.FormatInt(seq, 10)+" of stream "+s.name+" was written by another program, or by a newer version of this one", err)
	}
	s.saw(seq)
	return message{seq: seq, subject: subject, frame: f}, nil
}

// page returns the messages from a sequence on whose subject matches, at most
// limit, as some replica has them. A replica may not have the newest ones.
func (s *stream) page(ctx context.Context, op, filter string, from int64, limit int) (messages []message, err error) {
	err = s.retry(ctx, op, func() error {
		messages, err = hedged(ctx, &s.store.hedging, func(ctx context.Context, begun func()) ([]message, error) {
			return s.tryPage(ctx, op, filter, from, limit, begun)
		})
		return err
	})
	return messages, err
}

// tryPage asks for a page once. It calls begun when the answer begins.
func (s *stream) tryPage(ctx context.Context, op, filter string, from int64, limit int, begun func()) ([]message, error) {
	body, err := json.Marshal(getRequest{Seq: from, NextFor: filter, Batch: limit, MaxBytes: pageBytes})
	if err != nil {
		return nil, err
	}
	conn := s.store.conn
	inbox := conn.NewInbox()
	replies := make(chan *nats.Msg, limit+1) // all that may come: the messages and the end
	subscription, err := conn.ChanSubscribe(inbox, replies)
	if err != nil {
		return nil, s.tryFailed(op, err)
	}
	defer subscription.Unsubscribe()
	if err := conn.PublishRequest("$JS.API.DIRECT.GET."+s.name, inbox, body); err != nil {
		return nil, s.tryFailed(op, err)
	}
	var messages []message
	timeout := longestTry
	for {
		reply, err := next(ctx, replies, timeout)
		if err != nil {
			return nil, s.tryFailed(op, err)
		}
		if timeout != midPage {
			begun()
			timeout = midPage
		}
		switch status := reply.Header.Get("Status"); status {
		case "":
		case "204", "404": // the end, and nothing found
			return messages, nil
		case "503":
			return nil, errAgain{nats.ErrNoResponders}
		default:
			return nil, s.failure(op, persistence.ErrNotSupported, "the servers must be NATS 2.12 or later",
				errors.New("nats: "+status+" "+reply.Header.Get("Description")))
		}
		seq, err := strconv.ParseInt(reply.Header.Get("Nats-Sequence"), 10, 64)
		if err != nil {
			return nil, s.failure(op, persistence.ErrInternal, "the server's answer has no sequence", err)
		}
		m, err := s.message(seq, strings.Clone(reply.Header.Get("Nats-Subject")), reply.Data)
		if err != nil {
			return nil, err
		}
		messages = append(messages, m)
	}
}

// next returns the next reply, unless none comes within the timeout.
func next(ctx context.Context, replies <-chan *nats.Msg, timeout time.Duration) (*nats.Msg, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case reply := <-replies:
		if reply == nil {
			return nil, nats.ErrConnectionClosed
		}
		return reply, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, nats.ErrTimeout
	}
}
