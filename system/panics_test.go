package system_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// breaking is a logger, of GORM and for slog, that breaks off while it is told
// to.
type breaking struct {
	logger.Interface
	slog.Handler
	leave func()
	armed atomic.Bool
	left  atomic.Int64 // how often it has broken off
}

func newBreaking(leave func()) *breaking {
	return &breaking{Interface: logger.Discard, Handler: slog.DiscardHandler, leave: leave}
}

func (b *breaking) breakOff() {
	if b.armed.Load() {
		b.left.Add(1)
		b.leave()
	}
}

// Trace implements logger.Interface.
func (b *breaking) Trace(context.Context, time.Time, func() (string, int64), error) { b.breakOff() }

// Enabled implements slog.Handler.
func (*breaking) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (b *breaking) Handle(context.Context, slog.Record) error {
	b.breakOff()
	return nil
}

// A logger that panics, or ends its goroutine, ends neither the process nor the
// runner: followers go on, and the runner can be stopped.
func TestLoggersThatBreakOff(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(){"panic": func() { panic("on purpose") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			eachDatabase(t, func(t *testing.T, db *gorm.DB) {
				b := newBreaking(leave)
				fails := func(context.Context, domain.Event, *collector) error { return errors.New("no stamps") }
				s, err := newSystem(t, pipe(app(schoolName, school.New), followerLoop("F", fails,
					application.WithLogger(slog.New(b)),
					application.WithStore(gormstore.New(db.Session(&gorm.Session{Logger: b})))))).system(
					application.WithStore(gormstore.New(db)))
				expect.NoError(t, err)
				r, err := system.NewRunner(s, system.Config{PollInterval: 10 * time.Millisecond, LongestRetry: 10 * time.Millisecond,
					ShortestRetry: time.Millisecond})
				closing(t, r, err)
				dogs := get[*school.TrainingSchool](t, r, schoolName)
				register(t, dogs, 0, "Fido")
				start(t, r)
				b.armed.Store(true)
				expect.Until(t, "the loggers have broken off", func() bool { return b.left.Load() > 20 })
				get[*follower](t, r, "F").become(ignore)
				b.armed.Store(false)
				reached(t, get[*follower](t, r, "F").Application, head(t, dogs.Application))
				waitForState(t, r, system.Running)
				b.armed.Store(true)
				expect.NoError(t, r.Close())
				b.armed.Store(false)
			})
		})
	}
}

// A panic while statuses are read is that of the caller who asks for them.
func TestStatusesPanic(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		b := newBreaking(func() { panic("on purpose") })
		r := newRunner(t, gormstore.New(db.Session(&gorm.Session{Logger: b})), pipe(app(schoolName, school.New), followerLoop("F", ignore)))
		_ = statuses(t, r)
		b.armed.Store(true)
		panicked := func() (value any) {
			defer func() { value = recover() }()
			_, _ = r.Statuses(t.Context())
			return nil
		}()
		b.armed.Store(false)
		if panicked != "on purpose" {
			t.Errorf("the caller panics with %v, want the panic of the logger", panicked)
		}
		_ = statuses(t, r)
	})
}

// A CatchUp that does not return gives its partitions up.
func TestCatchUpWhoseReportPanics(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		command := newDivided(t, gormstore.New(db), writeEffect("command"), system.Partitions(8))
		command.save(t, 10, 1)
		func() {
			defer func() { _ = recover() }()
			_, _ = command.runner.CatchUp(t.Context(), command.follower, func(system.Processed) { panic("on purpose") })
			t.Error("CatchUp did not panic")
		}()
		if owners := command.owners(t); len(owners) > 0 {
			t.Errorf("after CatchUp there are leases: %v, want 0 owners", owners)
		}
	})
}
