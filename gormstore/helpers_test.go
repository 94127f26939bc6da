package gormstore_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

// The applications of these tests.
const (
	schoolName   = "TrainingSchool"
	countersName = "Counters"
)

// patience is how long a test waits for what must happen, before it calls it
// missing.
const patience = 3 * time.Minute

// each runs a test in parallel on every kind of database, with usual pools and
// with pools of one connection. Without full figures PostgreSQL has the pool of
// one connection only and SQLite's file the usual one only: SQLite in memory has
// one connection anyway.
func each(t *testing.T, test func(t *testing.T, db *gorm.DB)) {
	t.Helper()
	t.Parallel()
	for _, backend := range append(testdb.Backends(), testdb.OneConnection()...) {
		if !testdb.Full() && onlyFull[backend.Name] {
			continue
		}
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			test(t, created(t, backend.Open(t)))
		})
	}
}

// onlyFull names the kinds of databases that each leaves out without full
// figures.
var onlyFull = map[string]bool{"postgres": true, "sqlite-file-one-connection": true}

// eachShared is each for tests that need two connections.
func eachShared(t *testing.T, test func(t *testing.T, db *gorm.DB)) {
	t.Helper()
	eachOf(t, sharedBackends, test)
}

// eachAlone is eachShared for tests that look at all sessions of their database.
func eachAlone(t *testing.T, test func(t *testing.T, db *gorm.DB)) {
	t.Helper()
	eachOf(t, []testdb.Backend{{Name: "sqlite-file", Open: testdb.SQLiteFile}, {Name: "postgres", Open: testdb.OpenPostgres}}, test)
}

func eachOf(t *testing.T, backends []testdb.Backend, test func(t *testing.T, db *gorm.DB)) {
	t.Helper()
	t.Parallel()
	for _, backend := range backends {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			test(t, created(t, backend.Open(t)))
		})
	}
}

// sharedBackends are the databases that several processes can use at once.
var sharedBackends = []testdb.Backend{
	{Name: "sqlite-file", Open: testdb.SQLiteFile},
	{Name: "postgres", Open: testdb.OpenPostgresSchema},
}

// migrated returns the database with the tables created.
func migrated(t testing.TB, db *gorm.DB) *gorm.DB {
	t.Helper()
	if err := gormstore.AutoMigrate(db); err != nil {
		t.Fatalf("AutoMigrate: %v", err)
	}
	return db
}

// dialector opens the database at an address again.
func dialector(name, dsn string) gorm.Dialector {
	if name == "postgres" {
		return postgres.Open(dsn)
	}
	return sqlite.Open(dsn)
}

// dsn is the address that a database was opened with.
func dsn(t testing.TB, db *gorm.DB) string {
	t.Helper()
	switch d := db.Dialector.(type) {
	case *postgres.Dialector:
		return d.DSN
	case *sqlite.Dialector:
		return d.DSN
	}
	t.Fatalf("database %s has no address", db.Name())
	return ""
}

// again opens a second handle on a database, as another process would.
func again(t testing.TB, db *gorm.DB) *gorm.DB {
	t.Helper()
	if db.Name() == "postgres" {
		return testdb.OpenPostgresAgain(t, dsn(t, db))
	}
	return testdb.Open(t, dialector(db.Name(), dsn(t, db)))
}

// recorder makes the recorder of an application over a database.
func recorder(t testing.TB, db *gorm.DB, application string, options ...gormstore.Option) persistence.ProcessRecorder {
	t.Helper()
	r, err := gormstore.New(db, options...).ProcessRecorder(application)
	if err != nil {
		t.Fatalf("ProcessRecorder(%q): %v", application, err)
	}
	return r
}

// snapshots makes the recorder of an application's snapshots.
func snapshots(t testing.TB, db *gorm.DB, application string) persistence.AggregateRecorder {
	t.Helper()
	r, err := gormstore.New(db).SnapshotRecorder(application)
	if err != nil {
		t.Fatalf("SnapshotRecorder(%q): %v", application, err)
	}
	return r
}

// history makes n stored events of an originator, from a version on, each with
// another state.
func history(id uuid.UUID, from int64, n int) []persistence.StoredEvent {
	events := make([]persistence.StoredEvent, n)
	for i := range events {
		version := from + int64(i)
		events[i] = persistence.StoredEvent{OriginatorID: id, OriginatorVersion: version, Topic: "Dog.TrickAdded",
			State: fmt.Appendf(nil, `{"dog":%q,"version":%d,"nonce":%q}`, id, version, uuid.New())}
	}
	return events
}

// insert stores events that must be stored.
func insert(t testing.TB, r persistence.AggregateRecorder, events ...persistence.StoredEvent) []int64 {
	t.Helper()
	ids, err := r.InsertEvents(t.Context(), events)
	if err != nil {
		t.Fatalf("InsertEvents: %v", err)
	}
	return ids
}

// wholeLog reads the whole log of an application.
func wholeLog(t testing.TB, r persistence.ApplicationRecorder) []persistence.Notification {
	t.Helper()
	var all []persistence.Notification
	for after := int64(0); ; after = all[len(all)-1].ID {
		page, err := r.SelectNotifications(t.Context(), persistence.NotificationRange{After: after, Limit: persistence.MaxPage})
		if err != nil {
			t.Fatalf("SelectNotifications: %v", err)
		}
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
	}
}

// versions reads the versions of an originator.
func versions(t testing.TB, r persistence.AggregateRecorder, id uuid.UUID) []int64 {
	t.Helper()
	var found []int64
	for event, err := range r.SelectEvents(t.Context(), id, persistence.EventRange{}) {
		if err != nil {
			t.Fatalf("SelectEvents: %v", err)
		}
		found = append(found, event.OriginatorVersion)
	}
	return found
}

// wantVersions fails the test unless an originator has these versions.
func wantVersions(t testing.TB, r persistence.AggregateRecorder, id uuid.UUID, want ...int64) {
	t.Helper()
	if got := versions(t, r, id); !slices.Equal(got, want) {
		t.Errorf("versions of %s are %v, want %v", id, got, want)
	}
}

// wantIdle fails the test unless all connections of a database are back in the
// pool. What database/sql does in the background when a context ends is given a
// moment.
func wantIdle(t testing.TB, db *gorm.DB) {
	t.Helper()
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	if !expect.Eventually(func() bool { return pool.Stats().InUse == 0 }) {
		t.Errorf("%d connections are still in use", pool.Stats().InUse)
	}
}

// count counts the rows of a table.
func count(t testing.TB, db *gorm.DB, table string) int64 {
	t.Helper()
	var n int64
	if err := db.Table(table).Count(&n).Error; err != nil {
		t.Fatalf("count %s: %v", table, err)
	}
	return n
}

// newDog makes a dog with n tricks, whose n+1 events are pending.
func newDog(name string, tricks ...string) *school.Dog {
	dog := school.Dogs.Create(uuid.New(), school.Registered{Name: name})
	for _, trick := range tricks {
		domain.Trigger(dog, school.TrickAdded{Trick: trick})
	}
	return dog
}

// eventStore makes an event store over a recorder, as an application does.
func eventStore(t testing.TB, r persistence.ProcessRecorder) *mapper.EventStore {
	t.Helper()
	return mapper.NewEventStore(newMapper(t), r)
}

func newMapper(t testing.TB) *mapper.Mapper {
	t.Helper()
	mapper := mapper.New(mapper.Config{Application: schoolName, Transcoder: jsontranscoder.New(python.Transcodings()...)})
	if err := mapper.Add(school.Dogs); err != nil {
		t.Fatal(err)
	}
	return mapper
}

// transaction runs fn in a transaction that must do what fn wants.
func transaction(t testing.TB, db *gorm.DB, fn func(ctx context.Context, tx *gorm.DB) error) {
	t.Helper()
	if err := gormstore.Transaction(t.Context(), db, fn); err != nil {
		t.Fatalf("Transaction: %v", err)
	}
}

// wantWorking fails the test unless a database can do all that a store does.
func wantWorking(t *testing.T, db *gorm.DB) {
	t.Helper()
	r, dog := recorder(t, db, schoolName), uuid.New()
	insert(t, r, history(dog, 1, 1)...)
	insert(t, r, history(dog, 2, 3)...)
	insert(t, snapshots(t, db, schoolName), history(dog, 4, 1)...)
	transaction(t, db, func(ctx context.Context, tx *gorm.DB) error {
		if _, err := r.InsertEvents(ctx, history(dog, 4, 1)); !persistence.IsConflict(err) {
			t.Errorf("InsertEvents of a stored version: %v, want a conflict", err)
		}
		_, err := r.InsertProcessed(ctx, history(dog, 5, 2), persistence.Tracking{ApplicationName: kennels, NotificationID: 9})
		return err
	})
	wantVersions(t, r, dog, 1, 2, 3, 4, 5, 6)
	page, err := r.SelectNotifications(t.Context(), persistence.NotificationRange{Limit: 3, Topics: []string{"Dog.TrickAdded", "Dog.Registered"}})
	if err != nil || len(page) != 3 {
		t.Errorf("SelectNotifications: %d, %v, want 3", len(page), err)
	}
	if position, err := r.MaxTrackingID(t.Context(), kennels); err != nil || position != 9 {
		t.Errorf("MaxTrackingID: %d, %v, want 9", position, err)
	}
	wantIdle(t, db)
}
