package system_test

import (
	"context"
	"testing"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// paging is a store that calls a function after each read of a page or of a
// head of a log.
type paging struct {
	*gormstore.Store
	onPage, onHead func()
}

func (s *paging) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	recorder, err := s.Store.ProcessRecorder(application)
	return pagingRecorder{recorder, s}, err
}

type pagingRecorder struct {
	persistence.ProcessRecorder
	store *paging
}

func (r pagingRecorder) SelectNotifications(
	ctx context.Context, wanted persistence.NotificationRange,
) ([]persistence.Notification, error) {
	page, err := r.ProcessRecorder.SelectNotifications(ctx, wanted)
	r.store.onPage()
	return page, err
}

func (r pagingRecorder) MaxNotificationID(ctx context.Context) (int64, error) {
	head, err := r.ProcessRecorder.MaxNotificationID(ctx)
	r.store.onHead()
	return head, err
}

// once returns a function that calls do the first time.
func once(do func()) func() {
	return func() {
		if f := do; f != nil {
			do = nil
			f()
		}
	}
}

func deleteDog(t testing.TB, db *gorm.DB, name string) {
	t.Helper()
	recorder, err := gormstore.New(db).ProcessRecorder(schoolName)
	expect.NoError(t, err)
	_, err = recorder.(capability.OriginatorDeleter).DeleteOriginator(t.Context(), school.DogID(name))
	expect.NoError(t, err)
}

// A follower that has read a page of the log before events in it were deleted
// processes none of them, and its position does not pass the end of the log.
func TestDeletionAfterAPageWasRead(t *testing.T) {
	t.Parallel()
	const rex, fido = "Rex", "Fido"
	type scenario struct {
		processed bool     // the follower has a position before
		recorded  []string // dogs, in this order; Fido is deleted
		untrained bool     // the dogs know no tricks
		topics    []string
		afterHead bool // deleted after the head was read, and not after the page

	}
	scenarios := map[string]scenario{
		"the newest events":            {processed: true, recorded: []string{rex, fido}},
		"events that others follow":    {processed: true, recorded: []string{fido, rex}},
		"the first batch":              {recorded: []string{rex, fido}},
		"all events of the page":       {processed: true, recorded: []string{fido}},
		"after the head was read":      {processed: true, recorded: []string{fido}, afterHead: true},
		"events that are passed over":  {processed: true, recorded: []string{rex, fido}, topics: []string{"Dog.Registered"}},
		"only events passed over":      {processed: true, recorded: []string{fido}, topics: []string{"Dog.TrickAdded"}, untrained: true},
		"a log that is then empty":     {recorded: []string{fido}},
		"an empty log, after the head": {recorded: []string{fido}, afterHead: true},
	}
	for name, s := range scenarios {
		for kept, table := range map[string]bool{"": true, " without settings": false} {
			t.Run(name+kept, func(t *testing.T) {
				t.Parallel()
				eachDatabase(t, func(t *testing.T, db *gorm.DB) {
					if !table {
						expect.NoError(t, db.Migrator().DropTable("follower_settings"))
					}
					store := &paging{Store: gormstore.New(db), onPage: func() {}, onHead: func() {}}
					leader := app(schoolName, school.New, application.WithStore(store))
					node := followerLoop("F", count)
					if len(s.topics) > 0 {
						node = filtering("F", count, s.topics...)
					}
					r, err := newSingle(newSystem(t, pipe(leader, node)), application.WithStore(gormstore.New(db)))
					closing(t, r, err)
					dogs := get[*school.TrainingSchool](t, r, schoolName)
					catchUp := func() {
						t.Helper()
						_, err := r.CatchUp(t.Context(), called("F"), nil)
						expect.NoError(t, err)
					}
					if s.processed {
						register(t, dogs, 0, "Bello")
						catchUp()
					}
					each, tricks := 2, 0
					if s.untrained {
						each = 0
					}
					for _, dog := range s.recorded {
						register(t, dogs, each, dog)
						if dog == rex && len(s.topics) == 0 {
							tricks += each
						}
					}
					hook := &store.onPage
					if s.afterHead {
						hook = &store.onHead
						// CatchUp reads it first.
						*hook = func() { *hook = once(func() { deleteDog(t, db, fido) }) }
					} else {
						*hook = once(func() { deleteDog(t, db, fido) })
					}
					catchUp()
					*hook = func() {}
					check := func() {
						t.Helper()
						f := get[*follower](t, r, "F").Application
						if got, want := position(t, f, schoolName), head(t, dogs.Application); got != want {
							t.Errorf("the position is %d, want the end of the log, %d", got, want)
						}
						if got := tricksCounted(t, db, "sit"); got != tricks {
							t.Errorf("%d tricks were counted, want %d", got, tricks)
						}
					}
					check()
					register(t, dogs, 1, "Wuffi")
					if len(s.topics) == 0 || s.untrained {
						tricks++
					}
					catchUp()
					check()
				})
			})
		}
	}
}

// An event that fails is not parked if it was deleted meanwhile.
func TestDeletionBeforeParking(t *testing.T) {
	t.Parallel()
	for kept, table := range map[string]bool{"with settings": true, "without settings": false} {
		t.Run(kept, func(t *testing.T) {
			t.Parallel()
			eachDatabase(t, func(t *testing.T, db *gorm.DB) {
				if !table {
					expect.NoError(t, db.Migrator().DropTable("follower_settings"))
				}
				deletion := once(func() { deleteDog(t, db, "Fido") })
				node := followingWith("F", countOrFail, []system.FollowerOption{
					system.Park(func(persistence.Notification, error, int) bool { deletion(); return true })})
				r, err := newSingle(newSystem(t, pipe(app(schoolName, school.New), node)),
					application.WithStore(gormstore.New(db)))
				closing(t, r, err)
				dog := school.RegisterDog("Fido")
				dog.AddTrick("bite")
				save(t, get[*school.TrainingSchool](t, r, schoolName).Application, dog)
				_, err = r.CatchUp(t.Context(), called("F"), nil)
				expect.NoError(t, err)
				parkerFixture{SingleThreadedRunner: r}.wantParked(t, 0)
				if got := position(t, get[*follower](t, r, "F").Application, schoolName); got != 0 {
					t.Errorf("the position is %d, want 0: the log is empty", got)
				}
			})
		})
	}
}
