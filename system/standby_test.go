package system_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// A process that waits for another one, which works on a slow event, has not
// failed: it stands by, and goes on when it can.
func TestStandBy(t *testing.T) {
	t.Parallel()
	for name, dsn := range map[string]func(testing.TB) string{"sqlite": func(t testing.TB) string {
		return strings.Replace(testdb.SQLiteFileDSN(t), "_busy_timeout=10000", "_busy_timeout=100", 1)
	}, "postgres": testdb.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := dsn(t)
			open := func(lockTimeout time.Duration) *gormstore.Store {
				db, err := openChild(name, address)
				expect.NoError(t, err)
				closePool(t, db)
				expect.NoError(t, gormstore.AutoMigrate(db))
				return gormstore.New(db, gormstore.WithLockTimeout(lockTimeout))
			}
			started, release := make(chan struct{}), make(chan struct{})
			slow := func(ctx context.Context, _ domain.Event, _ *collector) error {
				close(started)
				select {
				case <-release:
				case <-ctx.Done():
				}
				return ctx.Err()
			}
			const short = 200 * time.Millisecond
			long := time.Hour // which a runner does not wait for a position
			if name == "sqlite" {
				long = short // it does for SQLite's one lock, which any writer may have
			}
			first, second := open(short), open(long)
			worker := newRunner(t, first, pipe(app(schoolName, school.New), followerLoop("F", slow)))
			register(t, get[*school.TrainingSchool](t, worker, schoolName), 0, "Fido")
			expect.NoError(t, worker.Start(t.Context()))
			<-started
			before, err := capability.Of(second).Statuses.FollowerStatuses(t.Context())
			expect.NoError(t, err)

			standBy := newRunner(t, second, pipe(app(schoolName, school.New), followerLoop("F", ignore)))
			expect.NoError(t, standBy.Start(t.Context()))
			status := waitForState(t, standBy, system.StandingBy)
			if status.Err != nil || standBy.Err() != nil {
				t.Errorf("got %+v", status)
			}
			command := newRunner(t, open(short), pipe(app(schoolName, school.New), followerLoop("F", ignore)))
			if _, err := command.CatchUp(t.Context(), called("F"), nil); !errors.Is(err, persistence.ErrPositionLocked) {
				t.Errorf("CatchUp: %v, want ErrPositionLocked", err)
			}
			if after, err := capability.Of(second).Statuses.FollowerStatuses(t.Context()); err != nil || after[0].Error != "" || after[0].State != "running" || len(before) != 1 {
				t.Errorf("got %+v, %v; before %+v, want no error, State %q and 1 of them", after, err, before, "running")
			}
			waiting := make(chan error, 1)
			go func() { waiting <- get[*follower](t, standBy, "F").WaitForPosition(t.Context(), called(schoolName), 1) }()
			close(release)
			expect.NoError(t, <-waiting)
			waitForState(t, standBy, system.Running)
		})
	}
}

func closePool(t *testing.T, db *gorm.DB) {
	t.Helper()
	pool, err := db.DB()
	expect.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
}

// stale is a store whose logs seem to be empty for some looks.
type stale struct {
	*memory.Store
	looks atomic.Int64
}

func (s *stale) ProcessRecorder(name string) (persistence.ProcessRecorder, error) {
	r, err := s.Store.ProcessRecorder(name)
	return &staleRecorder{r.(memoryRecorder), s}, err
}

type staleRecorder struct {
	memoryRecorder
	store *stale
}

func (r *staleRecorder) MaxNotificationID(ctx context.Context) (int64, error) {
	if r.store.looks.Add(-1) >= 0 {
		return 0, nil
	}
	return r.memoryRecorder.MaxNotificationID(ctx)
}

func (r *staleRecorder) NewestNotificationID(ctx context.Context) (int64, error) {
	return r.MaxNotificationID(ctx)
}

// A head that was read from a server which lags does not stop a follower. A log
// that keeps lagging does.
func TestStaleHead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &stale{Store: memory.New()}
		var seen journal
		r := newRunner(t, store, pipe(app(schoolName, school.New), followerLoop("F", seen.policy)))
		start(t, r)
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		register(t, dogs, 0, "Fido")
		time.Sleep(time.Second)
		for looks := range int64(6) {
			store.looks.Store(looks)
			time.Sleep(10 * time.Second)
			if err := r.Err(); err != nil {
				t.Fatalf("after %d stale looks: %v", looks, err)
			}
		}
		register(t, dogs, 0, "Rex")
		time.Sleep(time.Second)
		if got := len(seen.events(t)); got != 2 {
			t.Errorf("processed %d events, want 2", got)
		}
		store.looks.Store(1000)
		time.Sleep(20 * time.Second)
		expect.ErrorIs(t, r.Err(), system.ErrAhead)
	})
}
