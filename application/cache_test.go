package application_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// staying are the settings of a cache that nothing brings up to date but saves.
func staying(size string) application.Option {
	return cached(size, "AGGREGATE_CACHE_FASTFORWARD", "n")
}

func TestCacheWithFastForward(t *testing.T) {
	for _, size := range []string{"1", "2", "10"} {
		store := newFaulty()
		s := newSchool(t, application.WithStore(store), cached(size))
		s.save(t, school.RegisterDog("Fido"), school.RegisterDog("Rex"), school.RegisterDog("Bella"))
		for range 2 {
			for _, name := range []string{"Fido", "Rex", "Bella", "Fido"} {
				before := s.get(t, name).Version()
				addTricks(t, store, name, "by another process")
				if got := s.get(t, name).Version(); got != before+1 {
					t.Errorf("size %s: got version %d of %s, want %d", size, got, name, before+1)
				}
				if err := s.dogs.Update(t.Context(), school.DogID(name), func(d *school.Dog) error { d.AddTrick("by us"); return nil }); err != nil {
					t.Fatal(err)
				}
				dog := s.get(t, name)
				if got := dog.Version(); got != before+2 || len(dog.Tricks) != int(got)-1 || dog.Name != name {
					t.Errorf("size %s: got %+v, want version %d", size, dog, before+2)
				}
			}
		}
	}
}

func TestCacheIsFilledByGet(t *testing.T) {
	store := &counting{faulty: newFaulty()}
	s := newSchool(t, application.WithStore(store), cached("10"))
	s.save(t, dogWith("Fido", 9))
	for i, want := range []int{10, 1, 1} {
		store.read = 0
		s.get(t, "Fido")
		if store.read != want {
			t.Errorf("get %d: read %d events, want %d", i, store.read, want)
		}
	}
	dog := s.get(t, "Fido")
	dog.AddTrick("one more")
	s.save(t, dog)
	for i, want := range []int{2, 1} {
		store.read = 0
		if got := s.get(t, "Fido").Version(); got != 11 || store.read != want {
			t.Errorf("get %d after a save: got version %d by %d events, want 11 by %d", i, got, store.read, want)
		}
	}
}

// counting counts the events that are read.
type counting struct {
	*faulty
	read int
}

func (s *counting) ProcessRecorder(name string) (persistence.ProcessRecorder, error) {
	r, err := s.faulty.ProcessRecorder(name)
	return &countingRecorder{r, s}, err
}

func TestCacheWithoutFastForward(t *testing.T) {
	t.Run("is filled by save", func(t *testing.T) {
		store := &counting{faulty: newFaulty()}
		s := newSchool(t, application.WithStore(store), staying("10"))
		dog := dogWith("Fido", 2)
		s.save(t, dog)
		if got := s.get(t, "Fido"); got.Version() != 3 || got.Name != "Fido" || got.CreatedOn() != dog.CreatedOn() || got == dog {
			t.Errorf("got %+v, want a copy of what was saved", got)
		}
		dog.AddTrick("one more")
		s.save(t, dog)
		if got := s.get(t, "Fido").Version(); got != 4 {
			t.Errorf("got version %d, want 4", got)
		}
		if store.read != 0 {
			t.Errorf("read %d events, want none", store.read)
		}
	})
	t.Run("stays stale after another process's save, until a conflict", func(t *testing.T) {
		store := memory.New()
		s := newSchool(t, application.WithStore(store), staying("10"))
		s.save(t, school.RegisterDog("Fido"))
		addTricks(t, store, "Fido", "by another process")
		dog := s.get(t, "Fido")
		if dog.Version() != 1 {
			t.Fatalf("got version %d, want 1", dog.Version())
		}
		dog.AddTrick("by us")
		if _, err := s.Save(t.Context(), dog); !persistence.IsConflict(err) {
			t.Fatalf("got %v, want a conflict", err)
		}
		if got := s.get(t, "Fido").Version(); got != 2 {
			t.Errorf("got version %d after the conflict, want 2", got)
		}
	})
	t.Run("is not filled with pending events", func(t *testing.T) {
		s := newSchool(t, staying("10"))
		dog := school.RegisterDog("Fido")
		ctx, tx := txscope.New(t.Context())
		if _, err := s.Save(ctx, dog); err != nil {
			t.Fatal(err)
		}
		dog.AddTrick("not saved")
		tx.Committed(t.Context())
		if got := s.get(t, "Fido"); got.Version() != 1 || len(got.Tricks) != 0 {
			t.Errorf("got %+v, want version 1", got)
		}
	})
	t.Run("a slow get does not put an old aggregate over a saved one", func(t *testing.T) {
		store := newFaulty()
		other := newSchool(t, application.WithStore(store))
		other.save(t, school.RegisterDog("Fido"))
		late := &afterRead{faulty: store}
		slow := newSchool(t, application.WithStore(late), staying("10"))
		late.do = func() {
			late.do = nil
			dog := other.get(t, "Fido")
			dog.AddTrick("meanwhile")
			slow.save(t, dog)
		}
		if got := slow.get(t, "Fido").Version(); got != 1 {
			t.Errorf("got version %d from the slow get, want 1", got)
		}
		if got := slow.get(t, "Fido").Version(); got != 2 {
			t.Errorf("got version %d from the cache, want 2", got)
		}
	})
}

// park has a free-form state, which is only copied by encoding it.
type park struct {
	domain.Aggregate
	Rules []any
}

type parkOpened struct{ Rules []any }

func (e parkOpened) Apply(p *park) { p.Rules = e.Rules }

var parks = domain.Define("Park", domain.On("Opened", parkOpened{}))

func TestCacheCopies(t *testing.T) {
	for name, settings := range map[string]application.Option{"fast-forward": cached("10"), "staying": staying("10")} {
		t.Run("are independent, "+name, func(t *testing.T) {
			s := newSchool(t, settings)
			saved := dogWith("Fido", 1)
			s.save(t, saved)
			a, b := s.get(t, "Fido"), s.get(t, "Fido")
			if a == b || a == saved {
				t.Fatalf("got the same aggregate twice: got %v and %v, want other than %v and other than %v", a, a, b, saved)
			}
			saved.Tricks[0], a.Tricks[0], a.Name = "changed", "changed", "changed"
			a.AddTrick("not saved")
			for _, dog := range []*school.Dog{b, s.get(t, "Fido")} {
				if dog.Name != "Fido" || !slices.Equal(dog.Tricks, []string{"trick 1"}) || dog.Version() != 2 || len(dog.PendingEvents()) != 0 {
					t.Errorf("got %+v, want it to share nothing", dog)
				}
			}
		})
	}
	t.Run("are independent if the state has to be encoded", func(t *testing.T) {
		repository := expect.Must(application.NewRepository(newApplication(t, "Parks", cached("10")), parks))
		id := uuid.New()
		saved := parks.Create(id, parkOpened{Rules: []any{"no dogs"}})
		if err := repository.Save(t.Context(), saved); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			got, err := repository.Get(t.Context(), id)
			if err != nil || !slices.Equal(got.Rules, []any{"no dogs"}) {
				t.Fatalf("got %+v, %v; want it to share nothing", got, err)
			}
			got.Rules[0], saved.Rules[0] = "changed", "changed"
		}
	})
	t.Run("keep times and go on", func(t *testing.T) {
		s := newSchool(t, cached("10"))
		saved := dogWith("Fido", 1)
		s.save(t, saved)
		s.get(t, "Fido")
		dog := s.get(t, "Fido")
		if dog.CreatedOn() != saved.CreatedOn() || dog.ModifiedOn() != saved.ModifiedOn() || dog.ID() != saved.ID() {
			t.Errorf("got %+v, want %+v", dog, saved)
		}
		dog.AddTrick("one more")
		s.save(t, dog)
	})
	t.Run("cannot be switched off", func(t *testing.T) {
		for _, fastForward := range []string{"y", "n"} {
			s := newSchool(t, cached("10", "DEEPCOPY_FROM_AGGREGATE_CACHE", "n", "AGGREGATE_CACHE_FASTFORWARD", fastForward))
			s.logs.want(t, "level=WARN", "DEEPCOPY_FROM_AGGREGATE_CACHE=n has no effect")
			s.save(t, school.RegisterDog("Fido"))
			a, b := s.get(t, "Fido"), s.get(t, "Fido")
			a.AddTrick("not saved")
			if a == b || len(s.get(t, "Fido").Tricks) != 0 {
				t.Errorf("fast-forward %s: two callers share one aggregate, want one each", fastForward)
			}
		}
	})
	t.Run("use State functions", func(t *testing.T) {
		taken := 0
		dogs := domain.Define("Dog", domain.On("Registered", school.Registered{}),
			domain.State(func(d *school.Dog) string { taken++; return d.Name }, func(name string) *school.Dog { return &school.Dog{Name: name} }))
		repository := expect.Must(application.NewRepository(newApplication(t, "TrainingSchool", cached("10")), dogs))
		if err := repository.Save(t.Context(), dogs.Create(school.DogID("Fido"), school.Registered{Name: "Fido"})); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if dog, err := repository.Get(t.Context(), school.DogID("Fido")); err != nil || dog.Name != "Fido" {
				t.Errorf("got %+v, %v, want no error and Name %q", dog, err, "Fido")
			}
		}
		if taken != 1 {
			t.Errorf("state was taken %d times, want once", taken)
		}
	})
}

func TestCacheDropsAfterFailedSave(t *testing.T) {
	store := newFaulty()
	s := newSchool(t, application.WithStore(store), cached("10"))
	s.save(t, school.RegisterDog("Fido"))
	dog := s.get(t, "Fido")
	dog.AddTrick("never saved")
	store.failNext(errors.New("down"))
	if _, err := s.Save(t.Context(), dog); err == nil {
		t.Fatal("got no error, want one")
	}
	if got := s.get(t, "Fido"); got == dog || got.Version() != 1 {
		t.Errorf("got version %d, want the dog as it is stored", got.Version())
	}
}

func TestCacheDropsAfterFailedFastForward(t *testing.T) {
	store := newFaulty()
	s := newSchool(t, application.WithStore(store), cached("10"))
	s.save(t, school.RegisterDog("Fido"))
	s.get(t, "Fido")
	down := errors.New("down")
	store.beforeRead(func() error { return down })
	if _, err := s.dogs.Get(t.Context(), school.DogID("Fido")); !errors.Is(err, down) {
		t.Errorf("got %v, want %v", err, down)
	}
	store.beforeRead(nil)
	s.get(t, "Fido")
}

func TestCacheInTransaction(t *testing.T) {
	for name, settings := range map[string]application.Option{"fast-forward": cached("10"), "staying": staying("10")} {
		for _, commit := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", commit ", commit), func(t *testing.T) {
				// The memory store has no transactions; what is saved is there
				// at once, so only the cache is looked at.
				s := newSchool(t, settings)
				s.save(t, school.RegisterDog("Fido"))
				s.get(t, "Fido")
				ctx, tx := txscope.New(t.Context())
				err := s.dogs.Update(ctx, school.DogID("Fido"), func(d *school.Dog) error { d.AddTrick("sit"); return nil })
				if err != nil {
					t.Fatal(err)
				}
				if dog, err := s.dogs.Get(ctx, school.DogID("Fido")); err != nil || dog.Version() != 2 {
					t.Errorf("got %+v, %v; want a transaction to see what it saved", dog, err)
				}
				if name == "staying" {
					if got := s.get(t, "Fido").Version(); got != 1 {
						t.Errorf("got version %d from the cache before the end of the transaction, want 1", got)
					}
				}
				if commit {
					tx.Committed(t.Context())
				} else {
					tx.RolledBack(t.Context())
				}
				if got := s.get(t, "Fido").Version(); got != 2 {
					t.Errorf("got version %d, want 2", got)
				}
			})
		}
	}
}

func TestCacheWithManyGoroutines(t *testing.T) {
	const goroutines, rounds = 100, 20
	for _, skipping := range []string{"n", "y"} {
		t.Run("skipping "+skipping, func(t *testing.T) {
			store := memory.New()
			s := newSchool(t, application.WithStore(store), cached("10", "AGGREGATE_CACHE_FASTFORWARD_SKIPPING", skipping))
			writer := newSchool(t, application.WithStore(store))
			dog := school.RegisterDog("Fido")
			writer.save(t, dog)
			s.get(t, "Fido")
			for round := range rounds {
				dog.AddTrick(fmt.Sprint(round))
				writer.save(t, dog)
				saved := dog.Version()
				var wait sync.WaitGroup
				for range goroutines {
					wait.Go(func() {
						got := s.get(t, "Fido")
						if old := got.Version() < saved; got.Version() > saved || old && skipping == "n" {
							t.Errorf("got version %d, want %d", got.Version(), saved)
						}
						if len(got.Tricks) != int(got.Version())-1 {
							t.Errorf("got %d tricks at version %d, want %v", len(got.Tricks), got.Version(), int(got.Version())-1)
						}
						// If copies are not independent, the race detector reports it.
						got.Tricks = append(got.Tricks, "mine")
					})
				}
				wait.Wait()
			}
			if got := s.get(t, "Fido").Version(); got != dog.Version() {
				t.Errorf("got version %d in the end, want %d", got, dog.Version())
			}
		})
	}
}

// Skipping takes what is cached while another caller is reading what is new.
func TestCacheSkipping(t *testing.T) {
	store := newFaulty()
	s := newSchool(t, application.WithStore(store), cached("10", "AGGREGATE_CACHE_FASTFORWARD_SKIPPING", "y"))
	s.save(t, school.RegisterDog("Fido"))
	s.get(t, "Fido")
	addTricks(t, store, "Fido", "sit")
	reading, done := make(chan struct{}), make(chan struct{})
	store.beforeRead(func() error { close(reading); <-done; return nil })
	var wait sync.WaitGroup
	wait.Go(func() {
		if got := s.get(t, "Fido").Version(); got != 2 {
			t.Errorf("got version %d from the reader, want 2", got)
		}
	})
	<-reading
	if got := s.get(t, "Fido").Version(); got != 1 {
		t.Errorf("got version %d while another one reads, want 1", got)
	}
	store.beforeRead(nil)
	close(done)
	wait.Wait()
	if got := s.get(t, "Fido").Version(); got != 2 {
		t.Errorf("got version %d afterwards, want 2", got)
	}
}
