package gormstore_test

import (
	"context"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// traces is a logger of GORM's that keeps statements and errors.
type traces struct {
	logger.Interface
	mu         sync.Mutex // protects what follows
	statements []string
	errors     []string
}

func (l *traces) LogMode(logger.LogLevel) logger.Interface { return l }

func (l *traces) Trace(_ context.Context, _ time.Time, statement func() (string, int64), err error) {
	text, _ := statement()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statements = append(l.statements, text)
	if err != nil {
		l.errors = append(l.errors, text+": "+err.Error())
	}
}

// GORM's logger is not told of statements that only ask what the tables are
// like, nor of errors that callers handle, because the usual one writes to the
// standard output, where commands print their results. It is told of everything
// else.
func TestProbesAreNotLogged(t *testing.T) {
	t.Parallel()
	catalog := regexp.MustCompile(`pg_class|pg_index|pg_attribute|to_regclass|sqlite_master|pragma_`)
	for _, backend := range sharedBackends {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			ctx, seen := t.Context(), &traces{Interface: logger.Discard}
			db := backend.Open(t).Session(&gorm.Session{Logger: seen})
			store := gormstore.New(db)
			r := recorder(t, db, schoolName)
			use := func(want bool) {
				t.Helper()
				missing, err := gormstore.Missing(ctx, db)
				if err != nil || len(missing) == 0 != want {
					t.Errorf("%v is missing, %v", missing, err)
				}
				_, head := r.MaxNotificationID(ctx)
				_, page := r.SelectNotifications(ctx, persistence.NotificationRange{Limit: 1})
				_, position := r.MaxTrackingID(ctx, schoolName)
				_, statuses := capability.Of(store).Statuses.FollowerStatuses(ctx)
				_, parked := r.(capability.ParkingRecorder).CountParked(ctx, schoolName)
				_, _, settings := r.(capability.SettingsRecorder).Settings(ctx, schoolName)
				_, names := inventory.Of(store).ApplicationNames(ctx)
				_, save := r.InsertEvents(ctx, history(uuid.New(), 1, 1))
				for i, err := range []error{head, page, position, statuses, parked, names, save} {
					if (err == nil) != want {
						t.Errorf("%d: %v, want %v", i, err, want)
					}
				}
				if want && settings != nil {
					t.Errorf("got %v, want no settings", settings)
				}
			}
			use(false)
			if err := gormstore.AutoMigrate(db.Session(&gorm.Session{Logger: logger.Discard})); err != nil {
				t.Fatal(err)
			}
			use(true)
			if len(seen.errors) > 0 {
				t.Errorf("errors were logged: %q, want 0 errors", seen.errors)
			}
			asked := 0
			for _, statement := range seen.statements {
				if catalog.MatchString(statement) && !regexp.MustCompile("stored_events.*::regclass").MatchString(statement) {
					asked++
					t.Logf("asked: %s", statement)
				}
			}
			if len(seen.statements) == 0 || asked > 0 {
				t.Errorf("the catalog was asked in %d of %d statements that were logged, want some statements and 0", asked, len(seen.statements))
			}
			// What the user sends is logged, also in the store's transactions.
			_ = gormstore.Transaction(ctx, db, func(_ context.Context, tx *gorm.DB) error {
				return tx.Exec("INSERT INTO nowhere VALUES (1)").Error
			})
			if len(seen.errors) != 1 {
				t.Errorf("logged errors of the user: %q, want 1 errors", seen.errors)
			}
		})
	}
}
