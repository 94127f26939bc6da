package application_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/checker"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// Whatever is switched on, the same history makes the same dogs.
var variants = map[string][]application.Option{
	"plain":               nil,
	"snapshots":           {application.WithSnapshotting(map[string]int{"": 2})},
	"snapshots at once":   {application.WithSnapshotting(map[string]int{"": 3})},
	"cache":               {cached("2")},
	"small cache":         {cached("1")},
	"staying cache":       {staying("2")},
	"skipping cache":      {cached("2", "AGGREGATE_CACHE_FASTFORWARD_SKIPPING", "y")},
	"cipher":              {env("CIPHER_KEY", testKey)},
	"compressor":          {env("COMPRESSOR_TOPIC", "zlib")},
	"everything":          {env("CIPHER_KEY", testKey, "COMPRESSOR_TOPIC", "zlib", "SNAPSHOTTING_INTERVALS", "3"), cached("2")},
	"original's layout":   {application.WithPythonLayout()},
	"original's and more": {application.WithPythonLayout(), env("COMPRESSOR_TOPIC", "zlib", "SNAPSHOTTING_INTERVALS", "1"), cached("1")},
}

// world is one variant: its store, and the process that uses it.
type world struct {
	name    string
	store   persistence.Factory
	options []application.Option
	app     *application.Application
	dogs    *application.Repository[school.Dog]
}

// restart begins a new process with empty caches.
func (w *world) restart(t *rapid.T) {
	w.close(t)
	app, err := application.New("TrainingSchool", append([]application.Option{application.WithLookup(nothing), application.WithStore(w.store)}, w.options...)...)
	if err != nil {
		t.Fatal(err)
	}
	w.app, w.dogs = app, expect.Must(application.NewRepository(app, school.Dogs))
}

func (w *world) close(t *rapid.T) {
	if w.app != nil {
		if err := w.app.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVariantsAreEqual(t *testing.T) {
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		var worlds []*world
		for name, options := range variants {
			w := &world{name: name, store: memory.New(), options: options}
			if strings.HasSuffix(name, "at once") {
				w.store = &doctored.HistoryStore{Store: memory.New()}
			}
			w.restart(t)
			defer w.close(t)
			worlds = append(worlds, w)
		}
		model := map[string][]string{} // the tricks of each dog
		name := rapid.SampledFrom([]string{"Fido", "Rex", "Bella"})
		each := func(f func(w *world) error) {
			for _, w := range worlds {
				if err := f(w); err != nil {
					t.Fatalf("%s: %v", w.name, err)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"register": func(t *rapid.T) {
				name := name.Draw(t, "name")
				_, known := model[name]
				each(func(w *world) error {
					if err := w.dogs.Save(ctx, school.RegisterDog(name)); persistence.IsConflict(err) != known || err != nil && !known &&
						!persistence.IsConflict(err) {
						return fmt.Errorf("registering gave %w, known %v", err, known)
					}
					return nil
				})
				if !known {
					model[name] = []string{}
				}
			},
			"add tricks": func(t *rapid.T) {
				name, tricks := name.Draw(t, "name"), rapid.SliceOfN(rapid.String(), 0, 4).Draw(t, "tricks")
				if _, known := model[name]; !known {
					t.Skip()
				}
				each(func(w *world) error {
					return w.dogs.Update(ctx, school.DogID(name), func(d *school.Dog) error {
						for _, trick := range tricks {
							d.AddTrick(trick)
						}
						return nil
					})
				})
				model[name] = append(model[name], tricks...)
			},
			"snapshot": func(t *rapid.T) {
				name := name.Draw(t, "name")
				if _, known := model[name]; !known {
					t.Skip()
				}
				version := rapid.Int64Range(1, int64(len(model[name]))+1).Draw(t, "version")
				each(func(w *world) error {
					if bridge.Of(w.app).Snapshots() == nil {
						return nil
					}
					return w.dogs.TakeSnapshotAt(ctx, school.DogID(name), version)
				})
			},
			"restart": func(t *rapid.T) {
				each(func(w *world) error { w.restart(t); return nil })
			},
			"": func(t *rapid.T) {
				for name, tricks := range model {
					version := rapid.Int64Range(1, int64(len(tricks))+1).Draw(t, "version")
					each(func(w *world) error {
						now, err := w.dogs.Get(ctx, school.DogID(name))
						if err != nil {
							return err
						}
						then, err := w.dogs.GetAt(ctx, school.DogID(name), version)
						if err != nil {
							return err
						}
						return errorOr(wrongDog(now, name, tricks), wrongDog(then, name, tricks[:version-1]))
					})
				}
			},
		})
		each(func(w *world) error {
			problems, err := checker.Check(ctx, checker.Target{Application: w.app.Name(), Recorder: bridge.Of(w.app).Recorder(), Mapper: bridge.Of(w.app).Mapper()})
			if len(problems) > 0 {
				return fmt.Errorf("check found %v", problems)
			}
			return err
		})
	})
}

func wrongDog(dog *school.Dog, name string, tricks []string) error {
	if dog.ID() != school.DogID(name) || dog.Name != name || dog.Version() != int64(len(tricks))+1 || len(dog.PendingEvents()) != 0 ||
		len(dog.Tricks) != len(tricks) || len(tricks) > 0 && !reflect.DeepEqual(dog.Tricks, tricks) {
		return fmt.Errorf("got %q with %q at version %d, want %q with %q", dog.Name, dog.Tricks, dog.Version(), name, tricks)
	}
	return nil
}

func errorOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
