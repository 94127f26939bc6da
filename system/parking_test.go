package system_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// parking parks what fails for the second time.
func parking(policy policyFunc) *node {
	return followingWith("F", policy, []system.FollowerOption{
		system.Park(func(_ persistence.Notification, _ error, attempts int) bool { return attempts >= 2 })})
}

var errPoison = errors.New("poison")

// countOrFail counts tricks in the table, and fails for one of them.
func countOrFail(ctx context.Context, event domain.Event, p *collector) error {
	if added, ok := event.Data.(school.TrickAdded); ok && added.Trick == "bite" {
		return errPoison
	}
	return count(ctx, event, p)
}

func TestParking(t *testing.T) {
	t.Parallel()
	for name, concurrent := range map[string]bool{"single-threaded": false, "concurrent": true} {
		t.Run(name, func(t *testing.T) {
			eachDatabase(t, func(t *testing.T, db *gorm.DB) {
				testParking(t, place{store: gormstore.New(db), db: db, concurrent: concurrent})
			})
		})
	}
}

func testParking(t *testing.T, p place) {
	r := p.runner(t, pipe(app(schoolName, school.New), parking(countOrFail)))
	dogs, f := get[*school.TrainingSchool](t, r, schoolName), get[*follower](t, r, "F")
	fido, rex := school.RegisterDog("Fido"), school.RegisterDog("Rex")
	for _, trick := range []string{"sit", "bite", "sit", "bite", "sit"} {
		fido.AddTrick(trick)
		rex.AddTrick("jump")
	}
	events := save(t, dogs.Application, fido, rex)
	first := events[2]       // of Fido's biting
	_ = r.Start(t.Context()) // what fails at first is tried again
	for position(t, f.Application, schoolName) < head(t, dogs.Application) {
		if single, ok := r.(*system.SingleThreadedRunner); ok {
			_ = single.Sync(t.Context())
		}
	}
	fido.AddTrick("sit")
	save(t, dogs.Application, fido) // after the parked ones
	p.sync(t, r)

	if sit, jump := tricksCounted(t, p.db, "sit"), tricksCounted(t, p.db, "jump"); sit != 1 || jump != 5 {
		t.Errorf("counted %d and %d tricks, want 1 and 5", sit, jump)
	}
	m := r.(interface {
		Parked(context.Context, system.Member) ([]persistence.ParkedEvent, error)
		RetryParked(context.Context, system.Member) (int, error)
	})
	wantParked := func(n int) []persistence.ParkedEvent {
		t.Helper()
		parked, err := m.Parked(t.Context(), called("F"))
		if err != nil || len(parked) != n || statuses(t, r)[0].Parked != n {
			t.Fatalf("got %+v, %v, and %d in the status; want %d events", parked, err, statuses(t, r)[0].Parked, n)
		}
		return parked
	}
	parked := wantParked(5)
	if parked[0].NotificationID != first.NotificationID || parked[0].OriginatorID != first.OriginatorID || parked[0].Topic != "Dog.TrickAdded" ||
		!slices.IsSortedFunc(parked, func(a, b persistence.ParkedEvent) int { return int(a.NotificationID - b.NotificationID) }) {
		t.Errorf("got %+v, want NotificationID %v, OriginatorID %v and Topic %q", parked, first.NotificationID, first.OriginatorID, "Dog.TrickAdded")
	}

	if n, err := m.RetryParked(t.Context(), called("F")); n != 0 || !errors.Is(err, errPoison) {
		t.Errorf("retried %d, %v; want the poison", n, err)
	}
	wantParked(5)
	f.become(count)
	if n, err := m.RetryParked(t.Context(), called("F")); n != 5 || err != nil {
		t.Errorf("retried %d, %v, want 5 and no error", n, err)
	}
	wantParked(0)
	fido.AddTrick("sit")
	save(t, dogs.Application, fido)
	p.sync(t, r)
	if sit, bite := tricksCounted(t, p.db, "sit"), tricksCounted(t, p.db, "bite"); sit != 5 || bite != 2 {
		t.Errorf("counted %d and %d tricks, want 5 and 2", sit, bite)
	}
	if _, err := m.RetryParked(t.Context(), called("Nobody")); err == nil {
		t.Error("retried for an unknown follower")
	}
	if _, err := m.Parked(t.Context(), called("Nobody")); err == nil {
		t.Error("listed for an unknown follower")
	}
}

func TestParkingNeedsAStoreThatKeepsParkedEvents(t *testing.T) {
	sys := newSystem(t, pipe(app(schoolName, school.New), parking(ignore)))
	_, err := newSingle(sys, application.WithStore(memory.New()))
	if !errors.Is(err, persistence.ErrProgramming) || !strings.Contains(err.Error(), "such as gormstore; its store is the one in memory") {
		t.Errorf("got %v, want the store that is there and one that would do", err)
	}
}

// parkerFixture is a runner with a follower that parks every failure at once,
// and does not process what is bad.
type parkerFixture struct {
	*system.SingleThreadedRunner
	db   *gorm.DB
	dogs *school.TrainingSchool
	f    *follower
}

// eager parks what fails for the first time.
var eager = []system.FollowerOption{system.Park(func(persistence.Notification, error, int) bool { return true })}

func newParker(t *testing.T, db *gorm.DB, policy policyFunc) parkerFixture {
	node := followingWith("F", policy, eager)
	r, err := newSingle(newSystem(t, pipe(app(schoolName, school.New), node)),
		application.WithStore(gormstore.New(db)))
	closing(t, r, err)
	return parkerFixture{r, db, get[*school.TrainingSchool](t, r, schoolName), get[*follower](t, r, "F")}
}

// biting is a dog that bites, which is parked, and then sits.
func (p parkerFixture) biting(t *testing.T) []domain.Event {
	dog := school.RegisterDog("Fido")
	dog.AddTrick("bite")
	dog.AddTrick("sit")
	return save(t, p.dogs.Application, dog)
}

// newBitten has parked the events of a dog that bites, which it could process
// now.
func newBitten(t *testing.T, db *gorm.DB) parkerFixture {
	t.Helper()
	p := newParker(t, db, countOrFail)
	p.biting(t)
	_, err := p.CatchUp(t.Context(), called("F"), nil)
	expect.NoError(t, err)
	p.f.become(count)
	return p
}

func (p parkerFixture) wantParked(t *testing.T, want int) {
	t.Helper()
	if parked, err := p.Parked(t.Context(), called("F")); err != nil || len(parked) != want {
		t.Fatalf("parked %d events, %v; want %d", len(parked), err, want)
	}
}

func TestParkedEventIsGone(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		p := newParker(t, db, countOrFail)
		recordings := p.biting(t)
		_, err := p.CatchUp(t.Context(), called("F"), nil)
		expect.NoError(t, err)
		p.wantParked(t, 2)
		p.f.become(count)
		// A restored log has another event at the place of the first.
		expect.NoError(t, db.Model(&gormstore.StoredEvent{}).Where("id = ?", recordings[1].NotificationID).
			Update("originator_version", 9).Error)
		if n, err := p.RetryParked(t.Context(), called("F")); n != 0 || err == nil || tricksCounted(t, db, "bite") != 0 {
			t.Errorf("retried %d, %v: another event at the same place, want 0 and 0", n, err)
		}
		p.wantParked(t, 2)
	})
}

// A follower that is paused retries nothing.
func TestParkedOfAPausedFollower(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		p := newBitten(t, db)
		recorder := bridge.Of(p.f).Recorder().(capability.SettingsRecorder)
		_, settings, err := recorder.Settings(t.Context(), schoolName)
		expect.NoError(t, err)
		settings.PausedAt = time.Now().UTC()
		expect.NoError(t, recorder.WriteSettings(t.Context(), schoolName, *settings))
		if n, err := p.RetryParked(t.Context(), called("F")); n != 0 || !errors.Is(err, system.ErrPaused) || tricksCounted(t, db, "bite") != 0 {
			t.Errorf("retried %d, %v, want 0, an error that is %v and 0", n, err, system.ErrPaused)
		}
		p.wantParked(t, 2)
	})
}

// A follower without Park that had it still processes nothing before what is
// parked.
func TestParkedByAnEarlierProgram(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		p := newParker(t, db, countOrFail)
		p.biting(t)
		_, err := p.CatchUp(t.Context(), called("F"), nil)
		expect.NoError(t, err)
		expect.NoError(t, p.Close())

		r, err := newSingle(newSystem(t, pipe(app(schoolName, school.New), followerLoop("F", count))),
			application.WithStore(gormstore.New(db)))
		closing(t, r, err)
		expect.NoError(t, get[*school.TrainingSchool](t, r, schoolName).AddTrick(t.Context(), "Fido", "sit"))
		_, err = r.CatchUp(t.Context(), called("F"), nil)
		expect.NoError(t, err)
		if n := tricksCounted(t, db, "sit"); n != 0 || statuses(t, r)[0].Parked != 3 {
			t.Errorf("counted %d tricks in front of the parked one; %d are parked, want 0 and Parked 3", n, statuses(t, r)[0].Parked)
		}
		if n, err := r.RetryParked(t.Context(), called("F")); n != 3 || err != nil || tricksCounted(t, db, "sit") != 2 {
			t.Errorf("retried %d, %v, want 3, no error and 2", n, err)
		}
	})
}

// What is wrong with the database, or with the follower, says nothing about an
// event.
func TestTroubleIsNotParked(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.OpenPostgres(t))
	p := newParker(t, db, count)
	p.biting(t)
	for _, code := range []string{"40P01", "55P03", "53100", "0A000", "26000", "34000", "42P05", "42P18", "57014", "57P01"} {
		p.f.become(raising(code))
		if _, err := p.CatchUp(t.Context(), called("F"), nil); err == nil {
			t.Errorf("%s: no error", code)
		}
		p.wantParked(t, 0)
	}
	p.f.become(func(context.Context, domain.Event, *collector) error {
		return &persistence.Error{Class: persistence.ErrClosed}
	})
	if _, err := p.CatchUp(t.Context(), called("F"), nil); err == nil {
		t.Error("closed: no error")
	}
	p.wantParked(t, 0)
}

// raising sends a statement that fails with a code of PostgreSQL.
func raising(code string) policyFunc {
	return func(ctx context.Context, _ domain.Event, _ *collector) error {
		tx, err := gormstore.Tx(ctx)
		if err != nil {
			return err
		}
		return tx.Exec("DO $$ BEGIN RAISE EXCEPTION 'cached plan must not change result type' USING ERRCODE = '" + code + "'; END $$").Error
	}
}

// An event that a handler's own statement can never take is parked, also if the
// database calls the reason a limit.
func TestLimitsAreParked(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"54000", "22001", "23514"} {
		p := newParker(t, migrated(t, testdb.OpenPostgres(t)), raising(code))
		events := p.biting(t)
		if _, err := p.CatchUp(t.Context(), called("F"), nil); err != nil {
			t.Errorf("%s: %v", code, err)
		}
		p.wantParked(t, len(events))
	}
}

// Every text can be kept, whatever a handler says.
func TestParkedWithOddTexts(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		p := newParker(t, db, func(context.Context, domain.Event, *collector) error {
			return errors.New("bad \xff name\x00" + strings.Repeat("é", 3000))
		})
		p.biting(t)
		_, err := p.CatchUp(t.Context(), called("F"), nil)
		expect.NoError(t, err)
		p.wantParked(t, 3)
	})
}

func TestRetryParkedTwice(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		p := newBitten(t, db)
		var group sync.WaitGroup
		var total atomic.Int64
		for range 3 {
			group.Go(func() {
				n, err := p.RetryParked(t.Context(), called("F"))
				if err != nil {
					t.Error(err)
				}
				total.Add(int64(n))
			})
		}
		group.Wait()
		if total.Load() != 2 || tricksCounted(t, db, "bite") != 1 {
			t.Errorf("retried %d events, and counted %d, want 2 and 1", total.Load(), tricksCounted(t, db, "bite"))
		}
	})
}

// A call of the handler that was canceled or took too long is about the event.
// The end of the follower's own context is not.
func TestContextErrorsOfAPolicy(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		for _, cause := range []error{context.DeadlineExceeded, context.Canceled} {
			p := newParker(t, db, ignore)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p.f.become(func(ctx context.Context, _ domain.Event, _ *collector) error {
				cancel()
				return fmt.Errorf("call the mail service: %w", cause)
			})
			before, err := p.Parked(t.Context(), called("F"))
			expect.NoError(t, err)
			events := save(t, p.dogs.Application, school.RegisterDog(cause.Error()))
			if _, err := p.CatchUp(ctx, called("F"), nil); !errors.Is(err, cause) {
				t.Errorf("got %v, want %v", err, cause)
			}
			p.wantParked(t, len(before))
			if _, err := p.CatchUp(t.Context(), called("F"), nil); err != nil {
				t.Errorf("%v: %v", cause, err)
			}
			p.wantParked(t, len(before)+len(events))
			expect.NoError(t, p.Close())
		}
	})
}

// A trigger that keeps the row of a parked event does not keep RetryParked
// going round.
func TestRetryParkedThatStays(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		p := newBitten(t, db)
		if db.Name() == "postgres" {
			expect.NoError(t, db.Exec(`CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`).Error)
			expect.NoError(t, db.Exec("CREATE TRIGGER keep BEFORE DELETE ON parked_events FOR EACH ROW EXECUTE FUNCTION keep()").Error)
		} else {
			expect.NoError(t, db.Exec("CREATE TRIGGER keep BEFORE DELETE ON parked_events BEGIN SELECT RAISE(IGNORE); END").Error)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		n, err := p.RetryParked(ctx, called("F"))
		if n != 0 || err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "look for a trigger") {
			t.Errorf("retried %d, %v, want 0, no error and an error that contains %q", n, err, "look for a trigger")
		}
	})
}

// A position below zero, which only another program can write, is an error that
// says what to correct.
func TestNegativePosition(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		p := newParker(t, db, count)
		p.biting(t)
		_, err := p.CatchUp(t.Context(), called("F"), nil)
		expect.NoError(t, err)
		expect.NoError(t, db.Exec("UPDATE notification_tracking SET notification_id = -1").Error)
		_, err = p.CatchUp(t.Context(), called("F"), nil)
		if err == nil || !strings.Contains(err.Error(), "its position in notification_tracking is -1") {
			t.Errorf("got %v, want an error that contains %q", err, "its position in notification_tracking is -1")
		}
		expect.NoError(t, db.Exec("DELETE FROM notification_tracking").Error)
		_, err = p.CatchUp(t.Context(), called("F"), nil)
		expect.NoError(t, err)
	})
}

// A handler that ends its goroutine at one event of a batch has failed at that
// event: those before it are stored, and the event is parked.
func TestGoexitIsParked(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		node := followingWith("F", func(ctx context.Context, e domain.Event, p *collector) error {
			if added, ok := e.Data.(school.TrickAdded); ok && added.Trick == "bite" {
				runtime.Goexit()
			}
			return count(ctx, e, p)
		}, eager)
		r := newRunner(t, gormstore.New(db), pipe(app(schoolName, school.New), node))
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		fido, rex := school.RegisterDog("Fido"), school.RegisterDog("Rex")
		fido.AddTrick("sit")
		fido.AddTrick("bite")
		rex.AddTrick("sit")
		events := save(t, dogs.Application, fido, rex)
		start(t, r)
		reached(t, get[*follower](t, r, "F").Application, head(t, dogs.Application))
		parked, err := r.Parked(t.Context(), called("F"))
		if err != nil || len(parked) != 1 || parked[0].NotificationID != events[2].NotificationID ||
			!strings.Contains(parked[0].Error, "Goexit") {
			t.Errorf("parked %+v, %v, want no error, 1 of them, NotificationID %v and Error to contain %q", parked, err, events[2].NotificationID, "Goexit")
		}
		if n := tricksCounted(t, db, "sit"); n != 2 {
			t.Errorf("counted %d tricks, want 2", n)
		}
	})
}
