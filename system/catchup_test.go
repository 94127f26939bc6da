package system_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/system"
)

func TestCatchUp(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		ctx, store := t.Context(), gormstore.New(db)
		poisoned := true
		policy := func(ctx context.Context, event domain.Event, p *application.ProcessingEvent) error {
			if poisoned {
				return countOrFail(ctx, event, p)
			}
			return count(ctx, event, p)
		}
		sys := newSystem(t, system.Pipe(system.App(schoolName, school.New), following("F", policy)))
		r, err := system.NewSingleThreadedRunner(sys, application.WithStore(store))
		closing(t, r, err)
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		dog := school.RegisterDog("Fido")
		for _, trick := range []string{"sit", "bite", "sit"} {
			dog.AddTrick(trick)
		}
		events := save(t, dogs.Application, dog)
		at := func(i int) int64 { return events[i].Notification.ID }
		check := func(got []system.Processed, events int, position int64) {
			t.Helper()
			if want := []system.Processed{{Leader: schoolName, Events: events, Position: position, Head: at(3)}}; !slices.Equal(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}

		got, err := r.CatchUp(ctx, "F", nil)
		if !errors.Is(err, errPoison) {
			t.Errorf("got %v, want the poison", err)
		}
		check(got, 2, at(1))

		poisoned = false
		undo := errors.New("dry run")
		err = store.Transaction(ctx, func(ctx context.Context) error {
			got, err := r.CatchUp(ctx, "F", nil)
			do(t, err)
			check(got, 2, at(3))
			return undo
		})
		if n := tricksCounted(t, db, "sit"); !errors.Is(err, undo) || n != 1 {
			t.Errorf("%v; counted %d tricks after a dry run, want 1", err, n)
		}

		var reports []system.Processed
		got, err = r.CatchUp(ctx, "F", func(p system.Processed) { reports = append(reports, p) })
		do(t, err)
		check(got, 2, at(3))
		check(reports[len(reports)-1:], 2, at(3))
		got, err = r.CatchUp(ctx, "F", nil)
		do(t, err)
		check(got, 0, at(3))

		_, err = r.CatchUp(ctx, "Nobody", nil)
		wantError[*system.Error](t, err)
		r.Stop()
		if _, err := r.CatchUp(ctx, "F", nil); !errors.Is(err, system.ErrStopped) {
			t.Errorf("got %v, want ErrStopped", err)
		}
	})
}
