package gormstore_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// overtaking is two writers, of which the slow one has drawn its ids and has
// not committed when the fast one writes. A reader without a guard passes the
// ids of the slow one, and never sees its events.
type overtaking struct {
	slow, fast writing
	// readings returns how often the reader has read that has done so least.
	readings func() int64
	// waits reports whether the fast writer waits for the slow one.
	waits func() bool
	// stopReader stops a reader in the middle of a reading. The function that
	// it returns, called after the slow commit, lets the reader go on.
	// stopReader may be nil.
	stopReader func() (goOn func())
}

// run returns when both have committed. The slow one does so when the fast one
// waits for it, or has committed and each reader has read since.
func (o overtaking) run(t *testing.T) {
	t.Helper()
	held, commit := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(commit) })
	defer release()
	slowly := context.WithValue(t.Context(), holdKey{}, sync.OnceFunc(func() { close(held); <-commit }))
	slow, fast := make(chan error, 1), make(chan error, 1)
	go func() { slow <- o.slow(slowly, history(uuid.New(), 1, writtenPerSave)) }()
	select {
	case <-held:
	case err := <-slow:
		t.Fatalf("the slow writer has not held its transaction: %v", err)
	}
	go func() { fast <- o.fast(t.Context(), history(uuid.New(), 1, writtenPerSave)) }()
	expect.Until(t, "the fast writer has ended, or waits", func() bool { return len(fast) > 0 || o.waits() })
	goOn := func() {}
	if len(fast) > 0 {
		before := o.readings()
		// One reading may have begun before the commit.
		expect.Until(t, "each reader has read since", func() bool { return o.readings() >= before+2 })
		if o.stopReader != nil {
			goOn = o.stopReader()
		}
	}
	release()
	err := <-slow
	goOn()
	expect.NoError(t, err, <-fast)
}

// holdKey is the key of a function in a context that a writer calls instead of
// holding its transaction for a moment.
type holdKey struct{}

// hold keeps a transaction open for a moment, or for as long as the context
// says.
func hold(ctx context.Context) { holdFor(ctx, rand.N(2*time.Millisecond)) }

// holdLong keeps a transaction open, mostly for a moment and sometimes for
// long, or for as long as the context says.
func holdLong(ctx context.Context) {
	if rand.N(4) == 0 {
		holdFor(ctx, rand.N(30*time.Millisecond))
		return
	}
	hold(ctx)
}

func holdFor(ctx context.Context, d time.Duration) {
	if until, ok := ctx.Value(holdKey{}).(func()); ok {
		until()
		return
	}
	time.Sleep(d)
}

// countedLog counts the readings of a log.
type countedLog struct {
	persistence.ApplicationRecorder
	readings *atomic.Int64
}

func (l countedLog) SelectNotifications(ctx context.Context, r persistence.NotificationRange) ([]persistence.Notification, error) {
	page, err := l.ApplicationRecorder.SelectNotifications(ctx, r)
	if err == nil {
		l.readings.Add(1)
	}
	return page, err
}

// overtake has the fast writer overtake the slow one before the eyes of the
// readers.
func (c *concurrency) overtake(t *testing.T, readers *startedReaders, slow, fast writing) {
	t.Helper()
	waits := func() bool { return sessionsWaiting(t, c.db) > 0 }
	o := overtaking{slow: slow, fast: fast, readings: readers.fewest, waits: waits}
	if c.stopsReader {
		o.stopReader = func() (goOn func()) {
			tx := c.db.Begin()
			expect.NoError(t, tx.Exec("SELECT pg_advisory_xact_lock(?)", readerLock).Error)
			goOn = func() { tx.Rollback() }
			t.Cleanup(goOn)
			expect.Until(t, "the reader is stopped", waits)
			return goOn
		}
	}
	o.run(t)
	c.written.Add(2 * writtenPerSave)
}

// sessionsWaiting returns how many sessions on a database of PostgreSQL, which
// the test has to itself, wait for a lock.
func sessionsWaiting(t testing.TB, db *gorm.DB) (sessions int) {
	t.Helper()
	expect.NoError(t, db.Raw("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pid IN "+
		"(SELECT pid FROM pg_stat_activity WHERE datname = current_database())").Scan(&sessions).Error)
	return sessions
}

// readerLock is the key of the lock that stops the reader of oneStatement.
const readerLock = 4712

// reader is what a reading has seen.
type reader struct {
	readings atomic.Int64
	mu       sync.Mutex // protects seen
	seen     []int64
}

func (r *reader) see(id int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, id)
}

// ids returns the ids of the events that the reader has seen, in its order.
func (r *reader) ids() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// fewest returns how often the reader has read that has done so least.
func (r *startedReaders) fewest() int64 {
	fewest := int64(-1)
	for _, reader := range r.readers {
		if n := reader.readings.Load(); fewest < 0 || n < fewest {
			fewest = n
		}
	}
	return fewest
}
