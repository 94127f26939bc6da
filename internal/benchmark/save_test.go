package benchmark

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// What is saved at the level of the recorder.
const eventsPerAggregate = 100

var (
	sampleTopic = strings.Repeat("t", 40)
	sampleState = []byte(strings.Repeat("z", 200))
)

var writers = []int{1, 16, 64}

// BenchmarkSave is the row Save.
func BenchmarkSave(b *testing.B) {
	each(b, func(b *testing.B, d *database) {
		for _, events := range []int{1, 10} {
			for _, writers := range writers {
				b.Run(fmt.Sprintf("writers=%d/events=%d", writers, events), func(b *testing.B) {
					compareSaves(b, d, writers, events, openRaw, openOriginal, openOurs)
				})
			}
		}
	})
}

// BenchmarkTransaction is the row Transaction: an own row, a save and a commit.
func BenchmarkTransaction(b *testing.B) {
	transactions := func(b *testing.B, d *database) {
		key, ways := "bigserial PRIMARY KEY", []opener{openRawTransaction, inTransaction(ours), inTransaction("strict", gormstore.WithStrictOrder())}
		if d.kind == sqliteKind {
			key, ways = "INTEGER PRIMARY KEY AUTOINCREMENT", ways[:2]
		}
		d.execute(b, "CREATE TABLE own_rows (id "+key+", text text NOT NULL)")
		for _, writers := range writers {
			b.Run("writers="+strconv.Itoa(writers), func(b *testing.B) { compareSaves(b, d, writers, 1, ways...) })
		}
	}
	each(b, transactions)
	b.Run("database=postgres+1ms", func(b *testing.B) { transactions(b, newPostgres(b, newSlowServer(b))) })
}

// BenchmarkSlowDisk is the row SlowDisk. The library that makes syncs slower is
// preloaded by the program that syncs: the server, or with SQLite the process
// that writes.
func BenchmarkSlowDisk(b *testing.B) {
	const writers = 64
	b.Run("database="+postgresKind, func(b *testing.B) {
		compareSaves(b, newPostgres(b, newSlowServer(b)), writers, 1, openRaw, openOriginal, openOurs)
	})
	b.Run("database="+sqliteKind, func(b *testing.B) {
		d, library := newSQLite(b), "LD_PRELOAD="+buildShim(b)
		compare(b, inWorkers(d, raw, raw, 1, writers, library), inWorkers(d, original, original, 1, writers, library),
			inWorkers(d, ours, ours, 1, writers, library))
	})
}

// BenchmarkProcesses is the row Processes.
func BenchmarkProcesses(b *testing.B) {
	each(b, func(b *testing.B, d *database) {
		const writers = 64
		compare(b, inWorkers(d, raw, raw, 4, writers/4), inWorkers(d, "raw-one-process", raw, 1, writers),
			inWorkers(d, ours, ours, 4, writers/4), inWorkers(d, "ours-one-process", ours, 1, writers))
	})
}

// A save stores events. It is safe for concurrent use.
type save func(context.Context, []persistence.StoredEvent) error

// An opener opens a way to save, for a number of concurrent writers and of
// events in each save.
type opener func(t testing.TB, d *database, writers, events int) (name string, s save)

// compareSaves compares ways to save in this process.
func compareSaves(b *testing.B, d *database, writers, events int, openers ...opener) {
	b.Helper()
	var ways []way
	for _, open := range openers {
		name, save := open(b, d, writers, events)
		ways = append(ways, unprepared(name, func(b *testing.B) float64 {
			return saving(b, d, newWriters(writers, events, sampleTopic, sampleState, save), b.N*events)
		}))
	}
	compare(b, ways...)
}

// saving is a turn of writers, with what makes it comparable, and with the
// check that it has stored what it has acknowledged.
func saving(b *testing.B, d *database, operations []operation, stored int) float64 {
	b.Helper()
	d.reset(b, *preload)
	taken := operate(b, d, operations)
	d.verify(b, stored)
	return taken
}

// newWriters makes n operations, each of which appends to another aggregate, and
// begins a new one when that has eventsPerAggregate events.
func newWriters(n, events int, topic string, state []byte, save save) (operations []operation) {
	for range n {
		// stored is used again, because recorders do not keep it.
		stored := make([]persistence.StoredEvent, events)
		for i := range stored {
			stored[i] = persistence.StoredEvent{Topic: topic, State: state}
		}
		last := int64(eventsPerAggregate)
		operations = append(operations, func(ctx context.Context) error {
			id := stored[0].OriginatorID
			if last+int64(events) > eventsPerAggregate {
				id, last = uuid.New(), 0
			}
			for i := range stored {
				last++
				stored[i].OriginatorID, stored[i].OriginatorVersion = id, last
			}
			return save(ctx, stored)
		})
	}
	return operations
}

// openOurs saves through the recorder of an application.
func openOurs(t testing.TB, d *database, writers, _ int) (string, save) {
	t.Helper()
	recorder := expect.Must(gormstore.New(d.gorm(t, writers)).ProcessRecorder(applicationName))
	return ours, func(ctx context.Context, events []persistence.StoredEvent) error {
		_, err := recorder.InsertEvents(ctx, events)
		return err
	}
}

// openRaw saves with one prepared INSERT, which is a transaction by itself.
func openRaw(t testing.TB, d *database, writers, events int) (string, save) {
	t.Helper()
	insert := prepare(t, d.pool(t, writers), insertion(events))
	return raw, func(ctx context.Context, events []persistence.StoredEvent) error {
		_, err := insert.ExecContext(ctx, d.arguments(events)...)
		return err
	}
}

// insertion is the INSERT of a number of rows, in a form that both databases
// understand.
func insertion(rows int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO stored_events (application_name, originator_id, originator_version, topic, state) VALUES ")
	for row := range rows {
		if row > 0 {
			b.WriteString(", ")
		}
		n := 5 * row
		fmt.Fprintf(&b, "($%d, $%d, $%d, $%d, $%d)", n+1, n+2, n+3, n+4, n+5)
	}
	return b.String()
}

func (d *database) arguments(events []persistence.StoredEvent) []any {
	arguments := make([]any, 0, 5*len(events))
	for _, e := range events {
		arguments = append(arguments, applicationName, d.uuid(e.OriginatorID), e.OriginatorVersion, e.Topic, e.State)
	}
	return arguments
}

// openOriginal saves as the Python library does with its Django models: in a
// transaction that first locks the table against other writers, a row at a
// time.
func openOriginal(t testing.TB, d *database, writers, _ int) (string, save) {
	t.Helper()
	db := d.gorm(t, writers)
	return original, func(ctx context.Context, events []persistence.StoredEvent) error {
		return d.locked(ctx, db, func(tx *gorm.DB) error {
			for _, e := range events {
				row := gormstore.StoredEvent{
					ApplicationName: applicationName, OriginatorID: gormstore.UUID(e.OriginatorID),
					OriginatorVersion: e.OriginatorVersion, Topic: e.Topic, State: e.State,
				}
				if err := tx.Create(&row).Error; err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// locked calls f with a transaction that has locked the table of events.
func (d *database) locked(ctx context.Context, db *gorm.DB, f func(tx *gorm.DB) error) error {
	return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if d.kind == postgresKind {
			if err := tx.Exec("LOCK TABLE stored_events IN EXCLUSIVE MODE").Error; err != nil {
				return err
			}
		}
		return f(tx)
	})
}

// ownRow is the statement for the caller's own row.
const ownRow = "INSERT INTO own_rows (text) VALUES ('0123456789012345678901234567890123456789')"

// inTransaction saves through the recorder in gormstore.Transaction.
func inTransaction(name string, options ...gormstore.Option) opener {
	return func(t testing.TB, d *database, writers, _ int) (string, save) {
		t.Helper()
		db := d.gorm(t, writers)
		recorder := expect.Must(gormstore.New(db, options...).ProcessRecorder(applicationName))
		return name, func(ctx context.Context, events []persistence.StoredEvent) error {
			return gormstore.Transaction(ctx, db, func(ctx context.Context, tx *gorm.DB) error {
				if err := tx.Exec(ownRow).Error; err != nil {
					return err
				}
				_, err := recorder.InsertEvents(ctx, events)
				return err
			})
		}
	}
}

// openRawTransaction inserts the events in a transaction of GORM, in no order.
func openRawTransaction(t testing.TB, d *database, writers, events int) (string, save) {
	t.Helper()
	db, insert := d.gorm(t, writers), insertion(events)
	return raw, func(ctx context.Context, stored []persistence.StoredEvent) error {
		return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Exec(ownRow).Error; err != nil {
				return err
			}
			return tx.Exec(insert, d.arguments(stored)...).Error
		})
	}
}
