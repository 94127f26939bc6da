package application_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/compressor"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/environment"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/limits"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

const (
	testKey  = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	otherKey = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
)

// Two stores by name: one cannot be opened, the other one can be seen after it
// was.
var (
	errBroken = errors.New("cannot be opened")
	keptStore atomic.Value // a persistence.Factory
)

func init() {
	environment.Register("broken-module", func(*environment.Environment) (persistence.Factory, error) { return nil, errBroken })
	environment.Register("kept-module", func(*environment.Environment) (persistence.Factory, error) {
		store := memory.New()
		keptStore.Store(store)
		return store, nil
	})
}

func TestApplicationName(t *testing.T) {
	for _, name := range []string{"TrainingSchool", "x", "with space", "Schülerschule", strings.Repeat("ü", 32)} {
		if got := newApplication(t, name).Name(); got != name {
			t.Errorf("got %q, want %q", got, name)
		}
	}
	for _, name := range []string{"", " x", "x ", "a\x00b", "\xff", strings.Repeat("x", 33)} {
		app, err := application.New(name, application.WithLookup(nothing))
		if app != nil {
			t.Errorf("%q: got the application %v, want none", name, app)
		}
		expect.ErrorAs[*invalid.Error](t, err)
	}
}

func TestPrefix(t *testing.T) {
	for name, want := range map[string]string{
		"TrainingSchool": "TRAININGSCHOOL_",
		"dog-school 2.0": "DOG_SCHOOL_2_0_",
		"Schülerschule":  "SCHÜLERSCHULE_",
		"a=b":            "A_B_",
	} {
		app := newApplication(t, name)
		if got := bridge.Of(app).Environment().Prefix(); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
		if got := bridge.Of(app).Environment().Name(); got != name {
			t.Errorf("got %q, want %q", got, name)
		}
	}
	t.Run("sanitised prefix is looked up", func(t *testing.T) {
		app := newApplication(t, "dog-school", env("DOG_SCHOOL_IS_SNAPSHOTTING_ENABLED", "y"))
		if bridge.Of(app).Snapshots() == nil {
			t.Error("got no snapshots")
		}
	})
}

// Six levels: code, given with and without the name, process with and without
// the name, default. Each level must win over all below it. The intervals make
// a difference that can be seen from outside.
func TestPrecedence(t *testing.T) {
	const mine, plain = "TRAININGSCHOOL_SNAPSHOTTING_INTERVALS", "SNAPSHOTTING_INTERVALS"
	interval := func(n int) string { return fmt.Sprint("Dog=", n) }
	for level := 1; level <= 6; level++ {
		t.Run(fmt.Sprint("level ", level), func(t *testing.T) {
			given, process := map[string]string{}, map[string]string{}
			for i, place := range []struct {
				settings map[string]string
				key      string
			}{{nil, ""}, {given, mine}, {given, plain}, {process, mine}, {process, plain}} {
				if i+1 >= level && place.settings != nil {
					place.settings[place.key] = interval(i + 1)
				}
			}
			store := memory.New()
			options := []application.Option{
				application.WithStore(store),
				application.WithSnapshotsKept(0),
				application.WithEnv(given),
				application.WithLookup(func(key string) (string, bool) { value, ok := process[key]; return value, ok }),
			}
			if level == 1 {
				options = append(options, application.WithSnapshotting(map[string]int{"Dog": 1}))
			}
			s := newSchool(t, options...)
			s.save(t, dogWith("Fido", 4))
			want := []int64{1, 2, 3, 4, 5}
			if level == 6 {
				want = nil
			}
			want = slices.DeleteFunc(want, func(version int64) bool { return version%int64(level) != 0 })
			wantSnapshots(t, store, "Fido", want...)
		})
	}
	t.Run("an empty value is none", func(t *testing.T) {
		app := newApplication(t, "TrainingSchool", env(mine, "", plain, "3"))
		if got, want := bridge.Of(app).Environment().String("", "SNAPSHOTTING_INTERVALS"), "3"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("given later replaces", func(t *testing.T) {
		app := newApplication(t, "TrainingSchool", env(plain, "2"), env(plain, "3"))
		if got, want := bridge.Of(app).Environment().String("", "SNAPSHOTTING_INTERVALS"), "3"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("the process by default", func(t *testing.T) {
		t.Setenv(mine, "4")
		app, err := application.New("TrainingSchool")
		if err != nil {
			t.Fatal(err)
		}
		defer app.Close()
		if got, want := bridge.Of(app).Environment().String("", "SNAPSHOTTING_INTERVALS"), "4"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestTruthValues(t *testing.T) {
	for want, words := range map[bool]string{true: "y yes t true on 1 Y YES True ON", false: "n no f false off 0 N NO False OFF"} {
		for word := range strings.FieldsSeq(words) {
			app := newApplication(t, "TrainingSchool", env("IS_SNAPSHOTTING_ENABLED", word))
			if got := bridge.Of(app).Snapshots() != nil; got != want {
				t.Errorf("%q: got %v, want %v", word, got, want)
			}
		}
	}
}

func TestSnapshottingSettings(t *testing.T) {
	for _, test := range []struct {
		name    string
		options []application.Option
		want    bool
	}{
		{"nothing", nil, false},
		{"switch", []application.Option{env("IS_SNAPSHOTTING_ENABLED", "y")}, true},
		{"intervals alone", []application.Option{env("SNAPSHOTTING_INTERVALS", "5")}, true},
		{"intervals and no switch", []application.Option{env("SNAPSHOTTING_INTERVALS", "5", "IS_SNAPSHOTTING_ENABLED", "n")}, false},
		{"code", []application.Option{application.WithSnapshotting(nil)}, true},
		{"code before switch", []application.Option{application.WithSnapshotting(nil), env("IS_SNAPSHOTTING_ENABLED", "n")}, true},
	} {
		if got := bridge.Of(newApplication(t, "TrainingSchool", test.options...)).Snapshots() != nil; got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
	t.Run("code without intervals means on demand only", func(t *testing.T) {
		store := memory.New()
		s := newSchool(t, application.WithStore(store), application.WithSnapshotting(nil), env("SNAPSHOTTING_INTERVALS", "1"))
		s.save(t, school.RegisterDog("Fido"))
		wantSnapshots(t, store, "Fido")
	})
}

// storedState saves a dog, and returns the state of its event as it was stored.
func storedState(t *testing.T, options ...application.Option) []byte {
	t.Helper()
	s := newSchool(t, options...)
	dog := school.RegisterDog(strings.Repeat("Fido", 50))
	var state []byte
	bridge.Of(s).OnRecorded(func(_ context.Context, r []mapper.Recording) { state = r[0].Notification.State })
	s.save(t, dog)
	if got := s.get(t, dog.Name); got.Name != dog.Name {
		t.Errorf("got %+v, want Name %v", got, dog.Name)
	}
	return state
}

func TestCipherSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(testKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	otherFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(otherFile, []byte(otherKey), 0o600); err != nil {
		t.Fatal(err)
	}
	aes := []byte("\x93ESC")
	id := func(key string) string {
		keys, err := cipher.ParseKeys(key)
		if err != nil {
			t.Fatal(err)
		}
		return keys[0].ID()
	}
	for _, test := range []struct {
		name     string
		settings []string
		keyID    string // "" if the state is not in our envelope
	}{
		{"nothing", nil, ""},
		{"key alone means aes", []string{"CIPHER_KEY", testKey}, id(testKey)},
		{"topic and key", []string{"CIPHER_TOPIC", "aes", "CIPHER_KEY", testKey}, id(testKey)},
		{"key file alone", []string{"CIPHER_KEY_FILE", file}, id(testKey)},
		{"key before key file", []string{"CIPHER_KEY", otherKey, "CIPHER_KEY_FILE", file}, id(otherKey)},
		{"own key file before common key", []string{"CIPHER_KEY", testKey, "TRAININGSCHOOL_CIPHER_KEY_FILE", otherFile}, id(otherKey)},
		{"own key before common key file", []string{"TRAININGSCHOOL_CIPHER_KEY", otherKey, "CIPHER_KEY_FILE", file}, id(otherKey)},
		{"several keys", []string{"CIPHER_KEY", "new:" + otherKey + ",old:" + testKey}, "new"},
		{"the original's topic", []string{"CIPHER_TOPIC", "eventsourcing.cipher:AESCipher", "CIPHER_KEY", testKey}, ""},
	} {
		state := storedState(t, env(test.settings...))
		ours := strings.HasPrefix(string(state), string(aes))
		if ours != (test.keyID != "") || ours && !strings.Contains(string(state[:40]), test.keyID) {
			t.Errorf("%s: got state %q, want key %q", test.name, state[:40], test.keyID)
		}
		if plain := strings.Contains(string(state), "FidoFido"); plain != (test.settings == nil) {
			t.Errorf("%s: plain text to be seen: %v, want %v", test.name, plain, (test.settings == nil))
		}
	}
	t.Run("nil in code means none", func(t *testing.T) {
		if state := storedState(t, env("CIPHER_KEY", testKey), application.WithCipher(nil)); !strings.Contains(string(state), "FidoFido") {
			t.Errorf("got %q, want it to contain %q", state, "FidoFido")
		}
	})
	t.Run("code before settings", func(t *testing.T) {
		keys, err := cipher.ParseKeys("mine:" + otherKey)
		if err != nil {
			t.Fatal(err)
		}
		made, err := cipher.NewAES(keys...)
		if err != nil {
			t.Fatal(err)
		}
		if state := storedState(t, env("CIPHER_KEY", testKey), application.WithCipher(made)); !strings.Contains(string(state), "mine") {
			t.Errorf("got %q, want it to contain %q", state, "mine")
		}
	})
	t.Run("another key cannot read", func(t *testing.T) {
		store := memory.New()
		s := newSchool(t, application.WithStore(store), env("TRAININGSCHOOL_CIPHER_KEY", testKey))
		s.save(t, school.RegisterDog("Fido"))
		for _, settings := range []application.Option{env("CIPHER_KEY", otherKey), nil} {
			other := newSchool(t, application.WithStore(store), settings)
			_, err := other.dogs.Get(t.Context(), school.DogID("Fido"))
			if got := expect.ErrorAs[*persistence.MappingError](t, err); got.OriginatorVersion != 1 || strings.Contains(err.Error(), "Fido") {
				t.Errorf("got %v, want OriginatorVersion 1", err)
			}
		}
	})
}

func TestCompressorSettings(t *testing.T) {
	long := len(storedState(t))
	for _, topic := range []string{"zlib", "zstd", "eventsourcing.compressor:ZlibCompressor"} {
		if got := len(storedState(t, env("COMPRESSOR_TOPIC", topic))); got >= long {
			t.Errorf("%s: got %d bytes, want fewer than %d", topic, got, long)
		}
	}
	if got := len(storedState(t, env("COMPRESSOR_TOPIC", "zlib"), application.WithCompressor(nil))); got != long {
		t.Errorf("got %d bytes, want %d: nil in code means none", got, long)
	}
	zstd, err := compressor.NewZstd()
	if err != nil {
		t.Fatal(err)
	}
	if got := len(storedState(t, application.WithCompressor(zstd))); got >= long {
		t.Errorf("got %d bytes, want fewer than %d", got, long)
	}
	if state := storedState(t, env("COMPRESSOR_TOPIC", "zlib", "CIPHER_KEY", testKey)); len(state) >= long || strings.Contains(string(state), "Fido") {
		t.Errorf("got %d bytes, want fewer than %d, and none to be read", len(state), long)
	}
}

func TestPythonLayout(t *testing.T) {
	state := storedState(t, application.WithPythonLayout())
	var got map[string]any
	if err := json.Unmarshal(state, &got); err != nil {
		t.Fatal(err)
	}
	if got["name"] != strings.Repeat("Fido", 50) || got["originator_topic"] != "training_school.domain:Dog" || got["timestamp"] == nil {
		t.Errorf("got %v, want the long name, the topic of Python and a timestamp", got)
	}
}

type money struct{ cents int64 }

func TestTranscodings(t *testing.T) {
	transcoding := jsontranscoder.NewTranscoding("money", func(m money) (int64, error) { return m.cents, nil },
		func(cents int64) (money, error) { return money{cents}, nil })
	wallets := domain.Define("Wallet", domain.Evolve("Paid", func(m money, by money) money { return money{m.cents + by.cents} }))
	app := newApplication(t, "Wallets", application.WithTranscodings(transcoding), application.WithSnapshotting(nil), cached("1"))
	repository := expect.Must(application.NewRepository(app, wallets))
	wallet := domain.StartFold(wallets, school.DogID("Fido"), money{5})
	wallet.Trigger(money{7})
	if err := repository.Save(t.Context(), wallet); err != nil {
		t.Fatal(err)
	}
	if err := repository.TakeSnapshot(t.Context(), wallet.ID()); err != nil {
		t.Fatal(err)
	}
	if got, err := repository.Get(t.Context(), wallet.ID()); err != nil || got.State() != (money{12}) {
		t.Errorf("got %+v, %v, want no error and State %v", got, err, (money{12}))
	}
	t.Run("of another transcoder", func(t *testing.T) {
		want := jsontranscoder.New(transcoding)
		app := newApplication(t, "Wallets", application.WithTranscoder(want))
		if got := bridge.Of(app).Mapper().Transcoder(); got != want {
			t.Errorf("got %v, want that of the option, %v", got, want)
		}
		expect.Must(application.NewRepository(app, wallets))
	})
}

func TestPersistenceModule(t *testing.T) {
	app := newApplication(t, "TrainingSchool", env("PERSISTENCE_MODULE", "memory"))
	if got := bridge.Of(app).Factory(); !capability.Of(got).Volatile {
		t.Errorf("got %T, want the memory store", got)
	}
	if got := bridge.Of(newApplication(t, "TrainingSchool")).Factory(); !capability.Of(got).Volatile {
		t.Errorf("got %T, want the memory store by default", got)
	}
	t.Run("is not looked at where a store is given", func(t *testing.T) {
		newApplication(t, "TrainingSchool", application.WithStore(memory.New()), env("PERSISTENCE_MODULE", "nonsense"))
	})
	t.Run("that is no factory", func(t *testing.T) {
		_, err := application.New("TrainingSchool", application.WithLookup(nothing), env("PERSISTENCE_MODULE", "broken-module"))
		if !errors.Is(err, errBroken) {
			t.Errorf("got %v, want %v", err, errBroken)
		}
		t.Run("is not opened where another setting is wrong", func(t *testing.T) {
			_, err := application.New("TrainingSchool", application.WithLookup(nothing), env("PERSISTENCE_MODULE", "broken-module", "CIPHER_KEY", "x"))
			if err == nil || errors.Is(err, errBroken) {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("is closed again where the application cannot be made", func(t *testing.T) {
		_, err := application.New("TrainingSchool", application.WithLookup(nothing), env("PERSISTENCE_MODULE", "kept-module"),
			application.WithDefinitions(school.Dogs, domain.Define("Dog", domain.Entry("Registered", ""))))
		expect.ErrorAs[*invalid.Error](t, err)
		if _, err := keptStore.Load().(persistence.Factory).ProcessRecorder("TrainingSchool"); !errors.Is(err, persistence.ErrClosed) {
			t.Errorf("got %v, want %v", err, persistence.ErrClosed)
		}
	})
}

func TestDefinitions(t *testing.T) {
	store := memory.New()
	newSchool(t, application.WithStore(store)).save(t, school.RegisterDog("Fido"))
	for name, test := range map[string]struct {
		option application.Option
		known  bool
	}{"unknown": {nil, false}, "known": {application.WithDefinitions(school.Dogs), true}} {
		app := newApplication(t, "TrainingSchool", application.WithStore(store), test.option)
		page, err := bridge.Of(app).Recorder().SelectNotifications(t.Context(), persistence.NotificationRange{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		event, err := bridge.Of(app).Mapper().NotificationToDomain(page[0])
		if test.known {
			if err != nil || event.Data != any(school.Registered{Name: "Fido"}) || event.NotificationID != 1 {
				t.Errorf("%s: got %+v, %v, want notification 1 with Fido", name, event, err)
			}
			continue
		}
		if got := expect.ErrorAs[*mapper.UnknownTopicError](t, err); got.Topic != "Dog.Registered" {
			t.Errorf("%s: got %+v, want Topic %q", name, got, "Dog.Registered")
		}
	}
	t.Run("unknown when saving", func(t *testing.T) {
		app := newApplication(t, "TrainingSchool")
		dog := school.RegisterDog("Fido")
		_, err := app.Save(t.Context(), dog)
		expect.ErrorAs[*mapper.UnknownTopicError](t, err)
		if n := len(dog.PendingEvents()); n != 1 {
			t.Errorf("got %d pending events, want 1", n)
		}
	})
}

func TestOnlyWhatCanBeStored(t *testing.T) {
	s := newSchool(t)
	for name, dog := range map[string]*school.Dog{
		"zero id":   school.Dogs.Create(uuid.Nil, school.Registered{}),
		"too large": school.Dogs.Create(school.DogID("Fido"), school.Registered{Name: strings.Repeat("x", limits.State+1)}),
	} {
		_, err := s.Save(t.Context(), dog)
		expect.ErrorAs[*invalid.Error](t, err)
		if !errors.Is(err, persistence.ErrData) {
			t.Errorf("%s: %v is no ErrData", name, err)
		}
	}
}
