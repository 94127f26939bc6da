package natsstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/eventsourcing-go/eventsourcing/natsstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// TestRequestsWithoutAnswer reads while a request is lost, as that to a server
// that is frozen: to the leader, and to a replica. The read is sent again and is
// answered. In the control it is not sent again, and ends without an answer.
func TestRequestsWithoutAnswer(t *testing.T) {
	t.Parallel()
	url := startServer(t).ClientURL()
	config := single
	config.Timeout = 2 * time.Second
	if _, err := recorderOf(t, connect(t, url), config).InsertEvents(t.Context(), large("Fido", 1, 3)); err != nil {
		t.Fatal(err)
	}
	silent := connect(t, url)
	if _, err := silent.SubscribeSync(lost + ".>"); err != nil {
		t.Fatal(err)
	}
	for name, subject := range map[string]string{"leader": "$JS.API.STREAM.MSG.GET", "replica": "$JS.API.DIRECT.GET"} {
		for _, hedges := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, hedges %v", name, hedges), func(t *testing.T) {
				t.Parallel()
				loses := &losingDialer{subject: subject}
				store := newStore(t, connect(t, url, nats.SetCustomDialer(loses)), config)
				if !hedges {
					natsstore.WithoutHedges(store)
				}
				r, err := store.ProcessRecorder(training)
				if err != nil {
					t.Fatal(err)
				}
				if err := readDog(t, r, "Fido", 3); err != nil {
					t.Fatal(err)
				}
				loses.next.Store(true)
				err = readDog(t, r, "Fido", 3)
				if loses.next.Load() {
					t.Fatal("no request was lost")
				}
				if hedges && err != nil {
					t.Errorf("the read ended with the error %v", err)
				}
				if !hedges && !errors.Is(err, persistence.ErrUnavailable) {
					t.Errorf("the control: got the error %v, want an ErrUnavailable", err)
				}
			})
		}
	}
}

// lost is where lost requests go: a subject that is heard and not answered.
const lost = "lost"

// losingDialer makes connections that lose the next request of a subject.
type losingDialer struct {
	subject string
	next    atomic.Bool
	// answer says that the answer to it is lost, in place of the request.
	answer bool
}

func (d *losingDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	return losingConn{conn, d}, err
}

type losingConn struct {
	net.Conn
	dialer *losingDialer
}

func (c losingConn) Write(b []byte) (int, error) {
	if at := bytes.Index(b, []byte(c.dialer.subject)); at >= 0 && c.dialer.next.Swap(false) {
		b = bytes.Clone(b)
		subject := b[at : at+len(c.dialer.subject)]
		if c.dialer.answer {
			inbox := bytes.LastIndex(b[:at], []byte(nats.InboxPrefix))
			subject = b[inbox : inbox+len(nats.InboxPrefix)]
		}
		copy(subject, lost+"."+strings.Repeat("x", len(subject)))
	}
	return c.Conn.Write(b)
}

func TestHedgedReads(t *testing.T) {
	t.Parallel()
	errOnce, errAll := errors.New("not now"), errors.New("never")
	wait := func(ctx context.Context) error { <-ctx.Done(); return natsstore.Again(ctx.Err()) }
	for name, test := range map[string]struct {
		try   func(ctx context.Context, call int, begun func()) (int, error)
		want  int
		err   error
		calls int
		after time.Duration
	}{
		"the first is answered": {calls: 1, want: 1,
			try: func(_ context.Context, call int, _ func()) (int, error) { return call, nil }},
		"the second is answered": {calls: 2, want: 2, after: 150 * time.Millisecond,
			try: func(ctx context.Context, call int, _ func()) (int, error) {
				if call == 1 {
					return 0, wait(ctx)
				}
				return call, nil
			}},
		"an answer that has begun is waited for": {calls: 1, want: 1, after: time.Second,
			try: func(_ context.Context, call int, begun func()) (int, error) {
				begun()
				time.Sleep(time.Second)
				return call, nil
			}},
		"an error that is final ends all": {calls: 2, err: errAll, after: 150 * time.Millisecond,
			try: func(ctx context.Context, call int, _ func()) (int, error) {
				if call == 1 {
					return 0, wait(ctx)
				}
				return 0, errAll
			}},
		"an error that passes does not end the others": {calls: 2, want: 1, after: 200 * time.Millisecond,
			try: func(_ context.Context, call int, _ func()) (int, error) {
				if call == 2 {
					return 0, natsstore.Again(errOnce)
				}
				time.Sleep(200 * time.Millisecond)
				return call, nil
			}},
		"all fail": {calls: 1, err: errOnce,
			try: func(context.Context, int, func()) (int, error) { return 0, natsstore.Again(errOnce) }},
		"three wait at most": {calls: 3, want: 3, after: 4 * time.Second,
			try: func(ctx context.Context, call int, _ func()) (int, error) {
				if call == 3 { // which begins after 450 milliseconds
					time.Sleep(4*time.Second - 450*time.Millisecond)
					return call, nil
				}
				return 0, wait(ctx)
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls, begin := make(chan int, 10), time.Now()
				got, err := natsstore.NewHedged()(t.Context(), func(ctx context.Context, begun func()) (int, error) {
					calls <- 0
					return test.try(ctx, len(calls), begun)
				})
				if got != test.want || !errors.Is(err, test.err) || len(calls) != test.calls || time.Since(begin) != test.after {
					t.Errorf("got %d and the error %v of %d calls after %v, want %d, %v, %d and %v",
						got, err, len(calls), time.Since(begin), test.want, test.err, test.calls, test.after)
				}
			})
		})
	}
}

// TestHedgesOfSlowAnswers reads what takes long to answer, such as large states.
// The reads after it are sent again later, so that they do not make it slower
// still, until answers are quick again.
func TestHedgesOfSlowAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hedged := natsstore.NewHedged()
		read := func(takes time.Duration, want int32) {
			t.Helper()
			var calls atomic.Int32
			_, err := hedged(t.Context(), func(ctx context.Context, _ func()) (int, error) {
				calls.Add(1)
				select {
				case <-ctx.Done():
					return 0, natsstore.Again(ctx.Err())
				case <-time.After(takes):
					return 0, nil
				}
			})
			if err != nil || calls.Load() != want {
				t.Errorf("an answer that takes %v: %d calls and the error %v, want %d", takes, calls.Load(), err, want)
			}
		}
		read(400*time.Millisecond, 2)
		read(700*time.Millisecond, 1)
		read(1300*time.Millisecond, 1)
		read(3*time.Second, 2)
		for range 50 {
			read(time.Millisecond, 1)
		}
		read(400*time.Millisecond, 2)
	})
}
