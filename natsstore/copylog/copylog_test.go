package copylog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/natsstore"
	"github.com/eventsourcing-go/eventsourcing/natsstore/copylog"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }

const schoolName = "TrainingSchool"

func ExampleNewCommand() {
	command := copylog.NewCommand(func(context.Context) (*gormstore.Store, *natsstore.Store, error) {
		return nil, nil, errors.New("open the service's database, and connect to NATS")
	})
	fmt.Println(command.Name(), command.Commands()[0].Use)
	// Output: copy_log compare application...
}

// TestThereAndBack copies a log whose ids have gaps to NATS and back to another
// database. All three have the same ids and events, and take the next event
// after them.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		t.Parallel()
		from, back, nats := migrated(t, open(t)), migrated(t, open(t)), openNATS(t)
		fill(t, from, 700)
		var progress []int64
		if err := copylog.ToNATS(t.Context(), from, nats, schoolName, func(id int64) { progress = append(progress, id) }); err != nil {
			t.Fatal(err)
		}
		if err := copylog.ToGORM(t.Context(), nats, back, schoolName, nil); err != nil {
			t.Fatal(err)
		}
		if err := copylog.Compare(t.Context(), from, back, schoolName); err != nil {
			t.Error(err)
		}
		head := headOf(t, from)
		if len(progress) < 2 || progress[len(progress)-1] != head {
			t.Errorf("got the progress %v, want it to end with %d", progress, head)
		}
		for _, store := range []persistence.Factory{nats, back} {
			ids, err := recorderOf(t, store).InsertEvents(t.Context(), []persistence.StoredEvent{
				event("Fido", 701), {OriginatorID: school.DogID("New"), OriginatorVersion: 1, Topic: "Dog.Registered", State: []byte{}}})
			if err != nil || ids[0] <= head {
				t.Errorf("%T: got the ids %v and the error %v after %d", store, ids, err, head)
			}
			if _, err := recorderOf(t, store).InsertEvents(t.Context(), []persistence.StoredEvent{event("Late", 400)}); !persistence.IsConflict(err) {
				t.Errorf("%T: a version that was copied was stored again; error %v", store, err)
			}
			if _, err := recorderOf(t, store).InsertEvents(t.Context(), []persistence.StoredEvent{event("Late", 403)}); err != nil {
				t.Errorf("%T: %v", store, err)
			}
		}
	})
}

// TestInterruptedCopy ends a copy in the middle, twice, and goes on.
func TestInterruptedCopy(t *testing.T) {
	t.Parallel()
	from, back, nats := migrated(t, testdb.SQLiteFile(t)), migrated(t, testdb.SQLiteFile(t)), openNATS(t)
	fill(t, from, 1_500)
	var furthest int64
	interrupted := func(copy func(ctx context.Context, progress func(int64)) error) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		steps := 0
		return copy(ctx, func(id int64) {
			if id <= furthest {
				t.Errorf("copied up to id %d again, after %d", id, furthest)
			}
			furthest = id
			if steps++; steps == 1 {
				cancel()
			}
		})
	}
	toNATS := func(ctx context.Context, progress func(int64)) error {
		return copylog.ToNATS(ctx, from, nats, schoolName, progress)
	}
	toGORM := func(ctx context.Context, progress func(int64)) error {
		return copylog.ToGORM(ctx, nats, back, schoolName, progress)
	}
	for _, copy := range []func(context.Context, func(int64)) error{toNATS, toGORM} {
		furthest = 0
		for range 2 {
			if err := interrupted(copy); !errors.Is(err, context.Canceled) {
				t.Fatalf("got the error %v, want that the copy was interrupted", err)
			}
		}
		if err := copy(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := copylog.Compare(t.Context(), from, back, schoolName); err != nil {
		t.Error(err)
	}
}

// TestCopyRefuses copies to a stream with other events.
func TestCopyRefuses(t *testing.T) {
	t.Parallel()
	from, nats := migrated(t, testdb.SQLiteFile(t)), openNATS(t)
	fill(t, from, 10)
	if _, err := recorderOf(t, nats).InsertEvents(t.Context(), []persistence.StoredEvent{event("Rex", 1)}); err != nil {
		t.Fatal(err)
	}
	if err := copylog.ToNATS(t.Context(), from, nats, schoolName, nil); !errors.Is(err, persistence.ErrIntegrity) {
		t.Errorf("to NATS: got the error %v, want an ErrIntegrity", err)
	}
	if err := copylog.Compare(t.Context(), from, nats, schoolName); !errors.As(err, new(*copylog.Difference)) {
		t.Errorf("Compare: got the error %v, want a *Difference", err)
	}
	other := migrated(t, testdb.SQLiteFile(t))
	fill(t, other, 5)
	if err := copylog.ToGORM(t.Context(), nats, other, schoolName, nil); err == nil {
		t.Error("to GORM: there was no error although the database has other events")
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	db := testdb.SQLiteFile(t)
	fill(t, migrated(t, db), 10)
	s := startServer(t)
	for _, test := range []struct{ command, want string }{
		{"to-nats", "TrainingSchool: copied up to id 36\nTrainingSchool: the logs are the same\n"},
		{"compare", "TrainingSchool: the logs are the same\n"},
		{"to-gorm", "TrainingSchool: the logs are the same\n"},
	} {
		command := copylog.NewCommand(func(ctx context.Context) (*gormstore.Store, *natsstore.Store, error) {
			nats, err := natsstore.Open(ctx, s.ClientURL(), config)
			return gormstore.New(db), nats, err
		})
		var out bytes.Buffer
		command.SetOut(&out)
		command.SetArgs([]string{test.command, schoolName})
		if err := command.ExecuteContext(t.Context()); err != nil || out.String() != test.want {
			t.Errorf("%s: got %q and the error %v, want %q", test.command, out.String(), err, test.want)
		}
	}
}

// fill stores events whose ids have gaps: another application stores some in
// between. One originator begins late.
func fill(t *testing.T, store *gormstore.Store, n int) {
	t.Helper()
	r := recorderOf(t, store)
	other, err := store.ProcessRecorder("Other")
	if err != nil {
		t.Fatal(err)
	}
	must := func(_ []int64, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(other.InsertEvents(t.Context(), history("Theirs", 1, 20)))
	late := history("Late", 400, 3)
	late[0].Begins = true
	must(r.InsertEvents(t.Context(), late))
	must(r.InsertEvents(t.Context(), history("Fido", 1, n/2)))
	must(other.InsertEvents(t.Context(), history("Theirs", 21, 3)))
	must(r.InsertEvents(t.Context(), history("Fido", int64(n/2+1), n-n/2)))
}

func history(name string, first int64, n int) []persistence.StoredEvent {
	events := make([]persistence.StoredEvent, n)
	for i := range events {
		events[i] = event(name, first+int64(i))
	}
	return events
}

func event(name string, version int64) persistence.StoredEvent {
	return persistence.StoredEvent{OriginatorID: school.DogID(name), OriginatorVersion: version, Topic: "Dog.TrickAdded",
		State: fmt.Appendf(nil, "%s %d", name, version)}
}

func recorderOf(t *testing.T, store persistence.Factory) persistence.ProcessRecorder {
	t.Helper()
	r, err := store.ProcessRecorder(schoolName)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func headOf(t *testing.T, store persistence.Factory) int64 {
	t.Helper()
	head, err := recorderOf(t, store).MaxNotificationID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func migrated(t *testing.T, db *gorm.DB) *gormstore.Store {
	t.Helper()
	if err := gormstore.AutoMigrate(db); err != nil {
		t.Fatal(err)
	}
	return gormstore.New(db)
}

var config = natsstore.Config{Replicas: 1, CreateStreams: true,
	Waive: []natsstore.Waiver{natsstore.SingleReplica, natsstore.PeriodicSync, natsstore.SmallPayload}}

func openNATS(t *testing.T) *natsstore.Store {
	t.Helper()
	store, err := natsstore.Open(t.Context(), startServer(t).ClientURL(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func startServer(t *testing.T) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	return s
}
