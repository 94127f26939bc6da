package groupcommit

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// line is a queue whose batches a test lets go one by one. It is used in a
// synctest bubble, where synctest.Wait returns when everybody waits.
type line struct {
	queue   Queue[*work]
	batches [][]string    // the names of the saves of each batch, in the order of the batches
	proceed chan struct{} // receives once for each batch that may go
	fail    func(batch []string)
	t       *testing.T
}

func newLine(t *testing.T) *line { return &line{t: t, proceed: make(chan struct{})} }

// write records a batch, waits for its turn, and answers.
func (l *line) write(_ context.Context, batch []*work) {
	var names []string
	for _, s := range batch {
		names = append(names, nameOf(s))
	}
	l.batches = append(l.batches, names) // one leader at a time, or the race detector finds this
	<-l.proceed
	for i, s := range batch {
		s.ids, s.Err = []int64{int64(100*len(l.batches) + i)}, nil
	}
	if l.fail != nil {
		l.fail(names) // the answers do not hold if it panics
	}
}

// release lets the batch that is being written go, and waits until the next one
// is being written.
func (l *line) release() {
	l.t.Helper()
	select {
	case l.proceed <- struct{}{}:
	default:
		l.t.Fatal("no batch is being written")
	}
	synctest.Wait()
}

// call is a submit that is going on.
type call struct {
	name     string
	done     bool
	ids      []int64
	err      error
	panicked any
}

// submit writes a save, and waits until it has got somewhere.
func (l *line) submit(ctx context.Context, s *work) *call {
	c := &call{name: nameOf(s)}
	go func() {
		defer func() {
			c.panicked = recover()
			c.done = true
		}()
		c.err = l.queue.Do(ctx, s, l.write)
		if c.err == nil {
			c.ids = s.ids
		}
	}()
	synctest.Wait()
	return c
}

// want fails the test unless these batches have been written or begun.
func (l *line) want(batches ...string) {
	l.t.Helper()
	var got []string
	for _, names := range l.batches {
		got = append(got, strings.Join(names, " "))
	}
	if !slices.Equal(got, batches) {
		l.t.Errorf("batches are %q, want %q", got, batches)
	}
}

// wantIdle fails the test unless the queue is empty and has no leader.
func (l *line) wantIdle() {
	l.t.Helper()
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	if l.queue.led || len(l.queue.waiting) > 0 {
		l.t.Errorf("the queue has a leader: %v, and %d waiting; want neither", l.queue.led, len(l.queue.waiting))
	}
}

func wantDone(t *testing.T, calls ...*call) {
	t.Helper()
	for _, c := range calls {
		if !c.done || c.err != nil || len(c.ids) == 0 {
			t.Errorf("save %s: done %v, ids %v, error %v; want ids", c.name, c.done, c.ids, c.err)
		}
	}
}

func wantPending(t *testing.T, calls ...*call) {
	t.Helper()
	for _, c := range calls {
		if c.done {
			t.Errorf("save %s has returned with %v, %v; want it to wait", c.name, c.ids, c.err)
		}
	}
}

// work is a write of the tests.
type work struct {
	Entry
	name    string
	version int64
	ids     []int64
}

// saveOf makes a write with a name, of one row with a new key.
func saveOf(name string) *work { return saveFor(name, uuid.New()) }

// saveFor makes a write of one row for each of the keys.
func saveFor(name string, keys ...uuid.UUID) *work {
	return &work{name: name, version: 1,
		Entry: Entry{Key: keys[0], Alone: len(keys) > 1, Rows: len(keys), Bytes: len(keys) * (len(name) + 1)}}
}

// bulk makes a write of n rows with size bytes each, and their name.
func bulk(name string, n, size int) *work {
	return &work{name: name, version: 1, Entry: Entry{Key: uuid.New(), Rows: n, Bytes: n * (size + len(name))}}
}

func nameOf(w *work) string { return w.name }

func TestFirstIsWrittenAtOnceAndOthersTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t)
		a := l.submit(t.Context(), saveOf("a"))
		l.want("a")
		b, c, d := l.submit(t.Context(), saveOf("b")), l.submit(t.Context(), saveOf("c")), l.submit(t.Context(), saveOf("d"))
		l.want("a")
		wantPending(t, a, b, c, d)
		l.release()
		wantDone(t, a)
		l.want("a", "b c d")
		e := l.submit(t.Context(), saveOf("e"))
		wantPending(t, b, c, d, e)
		l.release()
		wantDone(t, b, c, d)
		l.want("a", "b c d", "e")
		l.release()
		wantDone(t, e)
		l.wantIdle()

		f := l.submit(t.Context(), saveOf("f")) // a queue that was idle has no memory
		l.release()
		wantDone(t, f)
		l.want("a", "b c d", "e", "f")
		l.wantIdle()
	})
}

// A save that has to wait for a later batch is first in it, so that none waits
// for ever.
func TestBatchLeavesToTheNextWhatDoesNotFit(t *testing.T) {
	hot, other := uuid.New(), uuid.New()
	limit := func() []*work {
		saves := make([]*work, maxWrites+3)
		for i := range saves {
			saves[i] = saveOf("s")
		}
		return saves
	}
	many := func(n int) string { return strings.TrimSpace(strings.Repeat("s ", n)) }
	for _, test := range []struct {
		name  string
		saves func() []*work // called in the bubble, as saves have channels
		want  []string
	}{
		{"number of saves", limit, []string{many(maxWrites), many(3)}},
		{"number of events", func() []*work {
			return []*work{bulk("a", 1500, 1), bulk("b", 501, 1), bulk("c", 500, 1), bulk("d", 1, 1)}
		}, []string{"a c", "b d"}},
		{"number of events, exactly", func() []*work {
			return []*work{bulk("a", 1000, 1), bulk("b", 1000, 1), bulk("c", 1, 1)}
		}, []string{"a b", "c"}},
		{"bytes", func() []*work {
			return []*work{bulk("a", 1, maxBytes/2), bulk("b", 1, maxBytes/2), bulk("c", 1, 100)}
		}, []string{"a c", "b"}},
		{"the same originator", func() []*work {
			return []*work{saveFor("a", hot), saveFor("b", hot), saveFor("c", other), saveFor("d", hot)}
		}, []string{"a c", "b", "d"}},
		{"several originators go alone", func() []*work {
			return []*work{saveFor("a", hot, other), saveOf("b"), saveOf("c")}
		}, []string{"a", "b c"}},
		{"several originators, not first", func() []*work {
			return []*work{saveOf("a"), saveFor("b", hot, other), saveOf("c")}
		}, []string{"a c", "b"}},
		{"several of several", func() []*work {
			return []*work{saveFor("a", hot, other), saveFor("b", other, hot), saveOf("c")}
		}, []string{"a", "b", "c"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLine(t)
				calls := []*call{l.submit(t.Context(), saveOf("first"))}
				for _, s := range test.saves() {
					if !s.Fits() {
						t.Fatalf("%s is too large for a batch", nameOf(s))
					}
					calls = append(calls, l.submit(t.Context(), s))
				}
				for range len(test.want) + 1 {
					l.release()
				}
				wantDone(t, calls...)
				l.want(append([]string{"first"}, test.want...)...)
				l.wantIdle()
			})
		})
	}
}

func TestFits(t *testing.T) {
	for _, test := range []struct {
		name string
		work *work
		fits bool
	}{
		{"most events", bulk("Topic", maxRows, 1), true},
		{"too many events", bulk("Topic", maxRows+1, 1), false},
		{"most bytes", bulk("Topic", 1, maxBytes-len("Topic")), true},
		{"too many bytes", bulk("Topic", 1, maxBytes), false},
	} {
		if got := test.work.Fits(); got != test.fits {
			t.Errorf("%s: fits is %v, want %v", test.name, got, test.fits)
		}
	}
}

func TestCanceledWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t)
		ctx, cancel := context.WithCancel(t.Context())
		a, b := l.submit(t.Context(), saveOf("a")), l.submit(ctx, saveOf("b"))
		c, d := l.submit(t.Context(), saveOf("c")), l.submit(ctx, saveOf("d"))
		cancel()
		synctest.Wait()
		for _, left := range []*call{b, d} {
			if !left.done || !errors.Is(left.err, context.Canceled) || left.ids != nil {
				t.Errorf("save %s: done %v, ids %v, error %v; want context.Canceled at once", left.name, left.done, left.ids, left.err)
			}
		}
		wantPending(t, a, c)
		l.release()
		l.release()
		wantDone(t, a, c)
		l.want("a", "c")
		l.wantIdle()
	})
}

func TestAllThatWaitAreCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t)
		ctx, cancel := context.WithCancel(t.Context())
		a := l.submit(t.Context(), saveOf("a"))
		l.submit(ctx, saveOf("b"))
		cancel()
		synctest.Wait()
		l.release()
		wantDone(t, a)
		l.wantIdle()
		c := l.submit(t.Context(), saveOf("c"))
		l.release()
		wantDone(t, c)
		l.want("a", "c")
	})
}

func TestCanceledWhileWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t)
		l.queue.Interruptible = true // which only a lone write is
		leading, cancelLeading := context.WithCancel(t.Context())
		following, cancelFollowing := context.WithCancel(t.Context())
		a := l.submit(t.Context(), saveOf("a"))
		b, c := l.submit(leading, saveOf("b")), l.submit(following, saveOf("c"))
		l.release()
		l.want("a", "b c")
		cancelLeading()
		cancelFollowing()
		synctest.Wait()
		wantPending(t, b, c)
		l.release()
		wantDone(t, a, b, c)
		l.wantIdle()
	})
}

// The context of a save that waits ends at the moment at which it is given the
// lead. It must take it, or all that wait after it would wait for ever.
func TestCanceledWhenGivenTheLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t)
		ctx, cancel := context.WithCancel(t.Context())
		l.queue.led = true // by the test
		own := saveOf("own")
		l.queue.waiting = []*work{own}
		l.queue.take()
		b, c := l.submit(ctx, saveOf("b")), l.submit(t.Context(), saveOf("c"))

		// b cannot leave before it has the lead, nor lead before it wants to
		// leave.
		l.queue.mu.Lock()
		cancel()
		next := l.queue.waiting[0]
		next.lead = true
		close(next.wake)
		l.queue.mu.Unlock()
		synctest.Wait()

		l.want("b c")
		l.release()
		wantDone(t, b, c)
		l.wantIdle()
	})
}

func TestWritePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t)
		l.fail = func(batch []string) {
			if batch[0] == "b" {
				panic("on purpose")
			}
		}
		a := l.submit(t.Context(), saveOf("a"))
		b, c, d := l.submit(t.Context(), saveOf("b")), l.submit(t.Context(), saveOf("c")), l.submit(t.Context(), saveOf("d"))
		l.release()
		e := l.submit(t.Context(), saveOf("e"))
		l.release()
		if b.panicked != "on purpose" {
			t.Errorf("the leader panicked with %v, want what the write panicked with", b.panicked)
		}
		for _, other := range []*call{c, d} {
			if !other.done || !errors.Is(other.err, persistence.ErrOutcomeUnknown) || other.ids != nil {
				t.Errorf("save %s: done %v, ids %v, error %v; want ErrOutcomeUnknown", other.name, other.done, other.ids, other.err)
			}
		}
		l.release()
		wantDone(t, a, e)
		l.want("a", "b c d", "e")
		l.wantIdle()
	})
}
