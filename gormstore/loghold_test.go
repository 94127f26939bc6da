package gormstore_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// holdOf asks whose transaction keeps readers from the newest events.
func holdOf(t *testing.T, r persistence.ProcessRecorder, recent time.Duration) *persistence.LogHold {
	t.Helper()
	hold, err := r.(capability.LogHoldReader).LogHold(t.Context(), recent)
	if err != nil {
		t.Fatal(err)
	}
	return hold
}

// add saves so many events of a new originator.
func add(ctx context.Context, t *testing.T, r persistence.ProcessRecorder, n int) {
	t.Helper()
	if _, err := r.InsertEvents(ctx, history(uuid.New(), 1, n)); err != nil {
		t.Fatal(err)
	}
}

// Whose transaction keeps readers from newer events can be seen, with what
// helps to find the program, and nothing of its statements.
func TestLogHold(t *testing.T) {
	t.Parallel()
	address := testdb.Postgres(t)
	db := migrated(t, testdb.Open(t, dialector("postgres", address)))
	r := recorder(t, db, schoolName)
	add(t.Context(), t, r, 2)
	slow := testdb.Open(t, dialector("postgres", address+"&application_name=billing"))
	tx := slow.Begin()
	defer tx.Rollback()
	add(gormstore.WithTx(t.Context(), tx), t, recorder(t, slow, schoolName), 1)
	if hold := holdOf(t, r, 0); hold != nil {
		t.Errorf("nothing newer is stored: got %v, want nil", hold)
	}
	add(t.Context(), t, r, 3)
	var pid int64
	var user string
	if err := tx.Raw("SELECT pg_backend_pid(), current_user").Row().Scan(&pid, &user); err != nil {
		t.Fatal(err)
	}
	hold := holdOf(t, r, 0)
	if hold == nil || hold.PID != pid || hold.Bound != 2 || hold.Newest != 6 || hold.Program != "billing" || hold.User != user ||
		hold.State != "idle in transaction" || hold.Client == "" || time.Since(hold.Since).Abs() > time.Minute {
		t.Fatalf("got %+v, want other than nil, PID %v, Bound 2, Newest 6, Program %q, User %v, State %q and Abs at most %v", hold, pid, "billing", user, "idle in transaction", time.Minute)
	}
	text := hold.String()
	if !strings.Contains(text, `application_name "billing"`) || strings.Contains(text, "SELECT") || !strings.HasPrefix(text, "events from 3 to 6 ") {
		t.Errorf("the text is %q, want it to contain %q and to begin with %q", text, `application_name "billing"`, "events from 3 to 6 ")
	}
	if other := holdOf(t, recorder(t, db, countersName), 0); other != nil {
		t.Errorf("another log is held back: %v", other)
	}
	if err := tx.Rollback().Error; err != nil {
		t.Fatal(err)
	}
	if hold := holdOf(t, r, 0); hold != nil {
		t.Errorf("after its end: got %v, want nil", hold)
	}
}

// A prepared transaction has no process, and is named by its own name.
func TestLogHoldOfPreparedTransaction(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.Open(t, dialector("postgres", testdb.PreparingPostgres(t))))
	r := recorder(t, db, schoolName)
	tx := db.Begin()
	add(gormstore.WithTx(t.Context(), tx), t, r, 1)
	if err := tx.Exec("PREPARE TRANSACTION 'billing 42'").Error; err != nil {
		t.Fatal(err)
	}
	tx.Rollback() // ends nothing, and gives the connection back
	add(t.Context(), t, r, 1)
	hold := holdOf(t, r, 0)
	if hold == nil || hold.PID != 0 || hold.Prepared != "billing 42" || hold.User == "" || hold.Since.IsZero() ||
		!strings.Contains(hold.String(), `prepared as "billing 42"`) {
		t.Errorf("got %+v, want other than nil, PID 0, Prepared %q and it to contain %q", hold, "billing 42", `prepared as "billing 42"`)
	}
	if err := db.Exec("ROLLBACK PREPARED 'billing 42'").Error; err != nil {
		t.Fatal(err)
	}
	if hold := holdOf(t, r, 0); hold != nil {
		t.Errorf("after its end: got %v, want nil", hold)
	}
}

// A process that has just read the whole log asks nothing, and SQLite has
// nothing to ask.
func TestLogHoldCostsNothing(t *testing.T) {
	eachShared(t, func(t *testing.T, db *gorm.DB) {
		seen := &statements{Interface: logger.Discard}
		reader := recorder(t, db.Session(&gorm.Session{Logger: seen}), schoolName)
		add(t.Context(), t, reader, 1)
		if _, err := reader.MaxNotificationID(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := len(seen.all)
		if hold := holdOf(t, reader, time.Hour); hold != nil || len(seen.all) != before {
			t.Errorf("got %v with %d statements, want none", hold, len(seen.all)-before)
		}
	})
}

// In strict order every program sees ascending ids, as always on SQLite.
func TestStrictOrderIsReported(t *testing.T) {
	eachShared(t, func(t *testing.T, db *gorm.DB) {
		reports := func(r persistence.ProcessRecorder) bool { return r.(interface{ StrictOrder() bool }).StrictOrder() }
		if got, want := reports(recorder(t, db, schoolName)), db.Name() == "sqlite"; got != want {
			t.Errorf("by default: %v, want %v", got, want)
		}
		if !reports(recorder(t, db, schoolName, gormstore.WithStrictOrder())) {
			t.Error("WithStrictOrder is not reported")
		}
		strict, err := capability.Of(gormstore.New(db)).Python.PythonProcessRecorder(schoolName)
		if err != nil || !reports(strict) {
			t.Errorf("the original's layout is not reported (%v)", err)
		}
	})
}
