package system_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// parker parks what fails for the second time.
type parker struct{ *follower }

func (parker) Park(_ persistence.Notification, _ error, attempts int) bool { return attempts >= 2 }

func parking(policy policyFunc) *system.Node {
	return system.App("F", func(options ...application.Option) (parker, error) {
		app, err := application.New("F", options...)
		return parker{&follower{Application: app, policy: policy}}, err
	})
}

var errPoison = errors.New("poison")

// countOrFail counts tricks in the table, and fails for one of them.
func countOrFail(ctx context.Context, event domain.Event, p *application.ProcessingEvent) error {
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
	r := p.runner(t, system.Pipe(system.App(schoolName, school.New), parking(countOrFail)))
	dogs, f := get[*school.TrainingSchool](t, r, schoolName), get[parker](t, r, "F")
	fido, rex := school.RegisterDog("Fido"), school.RegisterDog("Rex")
	for _, trick := range []string{"sit", "bite", "sit", "bite", "sit"} {
		fido.AddTrick(trick)
		rex.AddTrick("jump")
	}
	events := save(t, dogs.Application, fido, rex)
	first := events[2].Notification // of Fido's biting
	_ = r.Start(t.Context())        // what fails at first is tried again
	for position(t, f.Application, schoolName) < head(t, dogs.Application) {
		if single, ok := r.(*system.SingleThreadedRunner); ok {
			_ = single.Sync(t.Context())
		}
	}
	fido.AddTrick("sit")
	save(t, dogs.Application, fido) // behind the parked ones
	p.sync(t, r)

	if sit, jump := tricksCounted(t, p.db, "sit"), tricksCounted(t, p.db, "jump"); sit != 1 || jump != 5 {
		t.Errorf("counted %d and %d tricks, want 1 and 5", sit, jump)
	}
	m := r.(interface {
		Parked(context.Context, string) ([]persistence.ParkedEvent, error)
		RetryParked(context.Context, string) (int, error)
	})
	wantParked := func(n int) []persistence.ParkedEvent {
		t.Helper()
		parked, err := m.Parked(t.Context(), "F")
		if err != nil || len(parked) != n || statuses(t, r)[0].Parked != n {
			t.Fatalf("got %+v, %v, and %d in the status; want %d events", parked, err, statuses(t, r)[0].Parked, n)
		}
		return parked
	}
	parked := wantParked(5)
	if parked[0].NotificationID != first.ID || parked[0].OriginatorID != first.OriginatorID || parked[0].Topic != "Dog.TrickAdded" ||
		!slices.IsSortedFunc(parked, func(a, b persistence.ParkedEvent) int { return int(a.NotificationID - b.NotificationID) }) {
		t.Errorf("got %+v", parked)
	}

	if n, err := m.RetryParked(t.Context(), "F"); n != 0 || !errors.Is(err, errPoison) {
		t.Errorf("retried %d, %v; want the poison", n, err)
	}
	wantParked(5)
	f.become(count)
	if n, err := m.RetryParked(t.Context(), "F"); n != 5 || err != nil {
		t.Errorf("retried %d, %v", n, err)
	}
	wantParked(0)
	fido.AddTrick("sit")
	save(t, dogs.Application, fido)
	p.sync(t, r)
	if sit, bite := tricksCounted(t, p.db, "sit"), tricksCounted(t, p.db, "bite"); sit != 5 || bite != 2 {
		t.Errorf("counted %d and %d tricks, want 5 and 2", sit, bite)
	}
	if _, err := m.RetryParked(t.Context(), "Nobody"); err == nil {
		t.Error("retried for an unknown follower")
	}
	if _, err := m.Parked(t.Context(), "Nobody"); err == nil {
		t.Error("listed for an unknown follower")
	}
}

func TestParkingNeedsTransactions(t *testing.T) {
	sys := newSystem(t, system.Pipe(system.App(schoolName, school.New), parking(ignore)))
	_, err := system.NewSingleThreadedRunner(sys, application.WithStore(memory.New()))
	if got := wantError[*system.Error](t, err).Error(); !strings.Contains(got, "such as gormstore; its store is *memory.") {
		t.Errorf("got %s, want the store that is there and one that would do", got)
	}
}
