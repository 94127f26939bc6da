package gormstore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Readers of every kind see every event once and in order while many writers
// hold, roll back, prepare and commit their own transactions at random.
func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	c := newConcurrency(t)
	// PostgreSQL does not prepare transactions with a NOTIFY.
	notifying := c.writer(gormstore.WithNotify())
	c.writers = append(c.ways(c.writer(), c.writer()), mixed(notifying.db, notifying.r), c.held(notifying))
	c.overtaken = [][2]writing{{c.held(c.writer()), c.held(c.writer())}, {c.undoneSavepoint(c.writer()), c.held(notifying)}}
	c.readers = map[string]reading{
		"pages":         c.pages,
		"topics":        c.topics,
		"subscription":  c.subscription,
		"remote log":    c.remoteLog,
		"other process": c.otherProcess,
	}
	c.wantNothingLost(t, testdb.Figure(testdb.Sample(800, 3_000), 200_000))
}

// Strict writers, the table lock of Django and writers of this package may
// write at the same time.
func TestConcurrentWritersOfSeveralKinds(t *testing.T) {
	t.Parallel()
	c := newConcurrency(t)
	c.writers = append(c.ways(c.writer(), c.strict()), c.tableLock)
	c.overtaken = [][2]writing{{c.held(c.strict()), c.held(c.writer())}, {c.held(c.writer()), c.held(c.strict())},
		{c.tableLock, c.held(c.writer())}, {c.held(c.writer()), c.tableLock}}
	c.readers = map[string]reading{"pages": c.pages, "topics": c.topics, "other process": c.otherProcess}
	c.wantNothingLost(t, testdb.Figure(testdb.Sample(300, 1_500), 40_000))
}

// Strict writers alone show their events in the order of the ids to any reader.
func TestStrictWriters(t *testing.T) {
	t.Parallel()
	c := newConcurrency(t)
	c.writers = c.ways(c.strict(), c.strict())
	c.overtaken = [][2]writing{{c.held(c.strict()), c.held(c.strict())}}
	c.readers = map[string]reading{"any reader": c.byID}
	c.wantNothingLost(t, testdb.Figure(testdb.Sample(300, 1_000), 20_000))
}

// Writers of two applications in the order of the table show their events in the
// order of the ids to a program that reads the whole table, whether they were
// told so or write the Python layout.
func TestWritersInTheOrderOfTheTable(t *testing.T) {
	t.Parallel()
	c := newConcurrency(t)
	ordered := expect.Must(gormstore.New(c.db, gormstore.WithTableOrder(), unhurried).ProcessRecorder(schoolName))
	python := expect.Must(capability.Of(gormstore.New(c.db, unhurried)).Python.PythonProcessRecorder(countersName))
	c.writers = c.ways(writer{c.db, ordered}, writer{c.db, python})
	c.overtaken = [][2]writing{{c.held(writer{c.db, ordered}), c.held(writer{c.db, python})},
		{c.held(writer{c.db, python}), c.held(writer{c.db, ordered})}}
	c.readers = map[string]reading{"reader of the table": c.wholeTable}
	c.wantNothingLost(t, testdb.Figure(testdb.Sample(300, 1_000), 20_000))
}

// The controls: each of these loses events, so the test above can see it.
func TestConcurrentWritersControls(t *testing.T) {
	t.Parallel()
	controls := map[string]func(c *concurrency){
		"no bound": func(c *concurrency) {
			c.readers = map[string]reading{"any reader": c.byID}
		},
		"the bound in the statement of the rows": func(c *concurrency) {
			c.readers = map[string]reading{"one statement": c.oneStatement}
			c.stopsReader = true
		},
		"no floor": func(c *concurrency) {
			unlocked := c.held(c.changed(gormstore.WithoutOrderLock))
			c.overtaken = [][2]writing{{unlocked, unlocked}}
		},
		"the client's memory in place of the setting": func(c *concurrency) {
			remembering := c.undoneSavepoint(c.changed(gormstore.WithClientMemory))
			c.overtaken = [][2]writing{{remembering, remembering}}
		},
		"strict writers of two applications without the order of the table": func(c *concurrency) {
			other := expect.Must(gormstore.New(c.db, gormstore.WithStrictOrder(), unhurried).ProcessRecorder(countersName))
			c.overtaken = [][2]writing{{c.held(c.strict()), c.held(writer{c.db, other})}}
			c.readers = map[string]reading{"reader of the table": c.wholeTable}
		},
		"strict writers without the shared lock": func(c *concurrency) {
			c.overtaken = [][2]writing{{c.held(c.strict()), c.held(c.changed(gormstore.WithoutSharedLock))}}
		},
	}
	for name, change := range controls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newConcurrency(t)
			c.overtaken = [][2]writing{{c.held(c.writer()), c.held(c.writer())}}
			c.readers = map[string]reading{"pages": c.pages}
			change(c)
			if lost := c.run(t, 0); lost != writtenPerSave {
				t.Errorf("%d events were lost, want the %d that were overtaken", lost, writtenPerSave)
			}
		})
	}
}

// concurrency is a test of writers against readers on a separate database.
type concurrency struct {
	db      *gorm.DB
	dsn     string
	writers []writing
	// overtaken are pairs of a slow writer and a fast one, which meet before
	// the writers begin.
	overtaken [][2]writing
	readers   map[string]reading
	written   atomic.Int64
	// stopsReader stops the reader of oneStatement while it is overtaken.
	stopsReader bool
	outages     bool // readers go on after the errors of a database that is down
}

// A writing stores the events or undoes it on purpose with errUndone.
type writing func(ctx context.Context, events []persistence.StoredEvent) error

// A reading shows r the id of each event, until done is closed and it has seen
// the rest. It counts how often it has read.
type reading func(ctx context.Context, done <-chan struct{}, r *reader) error

func newConcurrency(t *testing.T) *concurrency {
	t.Helper()
	dsn := testdb.PreparingPostgres(t)
	return &concurrency{db: migrated(t, testdb.Open(t, dialector("postgres", dsn))), dsn: dsn}
}

// A writer is the store of one process.
type writer struct {
	db *gorm.DB
	r  persistence.ProcessRecorder
}

func (c *concurrency) writer(options ...gormstore.Option) writer {
	return writer{c.db, mustRecorder(gormstore.New(c.db, append(options, unhurried)...))}
}

// strict is a writer in strict order.
func (c *concurrency) strict() writer {
	return writer{c.db, mustRecorder(gormstore.New(c.db, gormstore.WithStrictOrder(), unhurried))}
}

func (c *concurrency) changed(change func(*gormstore.Store)) writer {
	store := gormstore.New(c.db, unhurried)
	change(store)
	return writer{c.db, mustRecorder(store)}
}

// run lets writers overtake each other and writes at least the given number of
// events. It returns how many of the stored events some reader has not seen.
func (c *concurrency) run(t *testing.T, events int) (lost int) {
	t.Helper()
	const writers, perSave = 64, 2
	pool, err := c.db.DB()
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(writers + 16)
	pool.SetMaxIdleConns(writers + 16)
	readers := c.startReaders(t)
	for _, pair := range c.overtaken {
		c.overtake(t, readers, pair[0], pair[1])
	}
	var group sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(events / perSave))
	for i := range writers {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				write := c.writers[(i+rand.N(len(c.writers)))%len(c.writers)]
				err := write(t.Context(), history(uuid.New(), 1, perSave))
				switch {
				case err == nil:
					c.written.Add(perSave)
				case errors.Is(err, errUndone):
					left.Add(1)
				default:
					t.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	group.Wait()
	for _, missing := range readers.finish(t, c.stored(t)) {
		lost += missing
	}
	return lost
}

// stored returns the ids of the stored events.
func (c *concurrency) stored(t *testing.T) (ids []int64) {
	t.Helper()
	if err := c.db.Raw("SELECT id FROM stored_events ORDER BY id").Scan(&ids).Error; err != nil {
		t.Fatal(err)
	}
	return ids
}

// startedReaders are readers that run.
type startedReaders struct {
	end     func() // lets them read the rest
	readers map[string]*reader
}

func (c *concurrency) startReaders(t *testing.T) *startedReaders {
	done := make(chan struct{})
	var group sync.WaitGroup
	readers := &startedReaders{end: sync.OnceFunc(func() { close(done); group.Wait() }), readers: map[string]*reader{}}
	for name, read := range c.readers {
		r := &reader{}
		readers.readers[name] = r
		group.Go(func() {
			if err := read(t.Context(), done, r); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	t.Cleanup(readers.end)
	return readers
}

// finish lets the readers read the rest, and returns how many of the stored
// events each of them has not seen.
func (r *startedReaders) finish(t *testing.T, stored []int64) (lost map[string]int) {
	t.Helper()
	r.end()
	lost = map[string]int{}
	for name, reader := range r.readers {
		missing, twice, late, taken := comparison(stored, reader.ids())
		if twice+late+taken > 0 {
			t.Errorf("%s: %d events were seen twice, %d late, and %d are not stored, want 0", name, twice, late, taken)
		}
		t.Logf("%s: %d of %d events were lost", name, missing, len(stored))
		lost[name] = missing
	}
	return lost
}

// comparison compares what was seen with what is stored. What is taken was seen
// and is not stored.
func comparison(stored, seen []int64) (missing, twice, late, taken int) {
	times := map[int64]int{}
	for i, id := range seen {
		times[id]++
		if i > 0 && id < seen[i-1] {
			late++
		}
	}
	for _, id := range stored {
		switch times[id] {
		case 0:
			missing++
		case 1:
		default:
			twice++
		}
		delete(times, id)
	}
	return missing, twice, late, len(times)
}

func (c *concurrency) wantNothingLost(t *testing.T, events int) {
	t.Helper()
	if lost := c.run(t, events); lost > 0 {
		t.Errorf("%d events were lost, want 0", lost)
	}
}
