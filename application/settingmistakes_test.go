package application_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

func TestBadSettings(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ key, value, want string }{
		{"PERSISTENCE_MODULE", "memmory", "is not a registered module (forgotten import?); registered are broken-module, eventsourcing_django, kept-module, memory"},
		{"IS_SNAPSHOTTING_ENABLED", "maybe", "is not a truth value; use y or n"},
		{"SNAPSHOTTING_INTERVALS", "0", "must be a whole number from 1"},
		{"SNAPSHOTTING_INTERVALS", "-1", "must be a whole number from 1"},
		{"SNAPSHOTTING_INTERVALS", "abc", "must be a whole number from 1"},
		{"SNAPSHOTTING_INTERVALS", "Dog=", "must be a whole number from 1"},
		{"SNAPSHOTTING_INTERVALS", "=5", "must be a whole number from 1"},
		{"SNAPSHOTTING_INTERVALS", "Dog=5,Dog=6", "for each aggregate once"},
		{"SNAPSHOTTING_INTERVALS", "Dog=5,", "must be a whole number from 1"},
		{"COMPRESSOR_TOPIC", "gzip", "zlib"},
		{"COMPRESSOR_TOPIC", "lzma", "for states of Python's module lzma, implement persistence.Compressor"},
		{"TRANSCODER_TOPIC", "zoo.transcoders:Msgpack", "the only topic is eventsourcing.persistence:JSONTranscoder"},
		{"TRANSCODER_TOPIC", "", "is set but empty"},
		{"CIPHER_TOPIC", "rot13", "needs a key"},
		{"CIPHER_KEY", "not base64!", "want standard base64"},
		{"CIPHER_KEY", "AAECAwQ=", "want 16, 24 or 32 bytes after base64, got 5"},
		{"CIPHER_KEY", "AAAAAAAAAAAAAAAAAAAAAA==", "weak key"},
		{"CIPHER_KEY", testKey + "," + testKey, "same as key 1"},
		{"CIPHER_KEY_FILE", missing, "no such file or directory: of its path only " + filepath.Dir(missing) + " exists"},
		{"CIPHER_KEY_FILE", empty, "want at least one"},
		{"CIPHER_KEY_FILE", testKey, "it is a key and not the name of a file; set CIPHER_KEY"},
		{"AGGREGATE_CACHE_MAXSIZE", "0", "is not a whole number from 1 to 10000000"},
		{"AGGREGATE_CACHE_MAXSIZE", "-1", "is not a whole number from 1 to 10000000"},
		{"AGGREGATE_CACHE_MAXSIZE", "1e3", "is not a whole number from 1 to 10000000"},
		{"AGGREGATE_CACHE_MAXSIZE", "99999999999", "is not a whole number from 1 to 10000000"},
		{"AGGREGATE_CACHE_FASTFORWARD", "2", "is not a truth value"},
		{"AGGREGATE_CACHE_FASTFORWARD_SKIPPING", "ja", "is not a truth value"},
		{"DEEPCOPY_FROM_AGGREGATE_CACHE", " y", "is not a truth value"},
	} {
		for _, prefix := range []string{"", "TRAININGSCHOOL_"} {
			t.Run(prefix+test.key+"="+test.value, func(t *testing.T) {
				app, err := application.New("TrainingSchool", application.WithLookup(nothing), env(prefix+test.key, test.value))
				if app != nil || err == nil {
					t.Fatalf("got %v and error %v, want an error alone", app, err)
				}
				for _, want := range []string{`application "TrainingSchool"`, prefix + test.key, test.want} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("got %q, want it to contain %q", err, want)
					}
				}
				secret := strings.HasPrefix(test.key, "CIPHER")
				if secret && strings.Contains(err.Error(), test.value) {
					t.Errorf("got %q, which shows a secret", err)
				}
				if !secret && !strings.Contains(err.Error(), test.value) {
					t.Errorf("got %q, want it to show %q", err, test.value)
				}
			})
		}
	}
}

// A key in the wrong place is not shown either.
func TestSecretsAreNotShown(t *testing.T) {
	// secret has the form of a key, but nothing is encrypted with it.
	const secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTI="
	for _, settings := range [][]string{
		{"CIPHER_KEY", secret + "x"},
		{"CIPHER_KEY", secret[:20]},
		{"CIPHER_KEY", "id:" + secret + ",id:" + testKey},
		{"CIPHER_KEY_FILE", secret},
		{"CIPHER_KEY_FILE", secret[:20]},
		{"CIPHER_TOPIC", secret},
		{"CIPHER_TOPIC", secret, "CIPHER_KEY", testKey},
	} {
		logs := &logs{}
		_, err := application.New("TrainingSchool", application.WithLookup(nothing), env(settings...), application.WithLogger(logs.logger()))
		if err == nil {
			t.Errorf("%s: want an error", settings[0])
			continue
		}
		for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err), logs.String()} {
			if strings.Contains(text, secret[:20]) || strings.Contains(text, testKey[:20]) {
				t.Errorf("%s: %q shows a secret", settings[0], text)
			}
		}
	}
	t.Run("in warnings", func(t *testing.T) {
		s := newSchool(t, env("TRAININGSCHOOL_CIPHR_KEY", secret))
		s.save(t, dogWith("Fido", 1))
		s.logs.want(t, "TRAININGSCHOOL_CIPHR_KEY")
		if strings.Contains(s.logs.String(), secret[:20]) {
			t.Errorf("got log %q, which shows a secret", s.logs)
		}
	})
}

func TestAllMistakesTogether(t *testing.T) {
	bad := []string{
		"PERSISTENCE_MODULE", "x", "IS_SNAPSHOTTING_ENABLED", "x", "SNAPSHOTTING_INTERVALS", "x", "COMPRESSOR_TOPIC", "x",
		"CIPHER_KEY", "x", "AGGREGATE_CACHE_MAXSIZE", "x", "AGGREGATE_CACHE_FASTFORWARD", "x",
		"AGGREGATE_CACHE_FASTFORWARD_SKIPPING", "x", "DEEPCOPY_FROM_AGGREGATE_CACHE", "x",
	}
	_, err := application.New(strings.Repeat("n", 33), application.WithLookup(nothing), env(bad...),
		application.WithTranscoder(jsontranscoder.New()), application.WithTranscodings(python.Transcodings()...))
	if err == nil {
		t.Fatal("got no error, want one")
	}
	for i := 0; i < len(bad); i += 2 {
		if !strings.Contains(err.Error(), bad[i]+":") && !strings.Contains(err.Error(), bad[i]+" ") {
			t.Errorf("got %q, want it to name %s", err, bad[i])
		}
	}
	for _, want := range []string{"at most 32 can be stored", "WithTranscodings cannot be used together with WithTranscoder"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want it to contain %q", err, want)
		}
	}
	expect.ErrorAs[*invalid.Error](t, err)
	if !errors.Is(err, persistence.ErrProgramming) {
		t.Errorf("%v is no ErrProgramming", err)
	}
}

func TestBadOptions(t *testing.T) {
	for name, test := range map[string]struct {
		option application.Option
		want   string
	}{
		"no store":            {application.WithStore(nil), "WithStore needs a store"},
		"a store that is nil": {application.WithStore((*memory.Store)(nil)), "WithStore needs a store"},
		"an interval of 0":    {application.WithSnapshotting(map[string]int{"Dog": 0}), `interval 0 of "Dog" must be at least 1`},
		"clashing schemas": {application.WithDefinitions(school.Dogs, domain.Define("Dog", domain.Entry("Registered", ""))),
			`topic "Dog.Registered" is defined for both`},
	} {
		app, err := application.New("TrainingSchool", application.WithLookup(nothing), test.option)
		if app != nil || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	t.Run("nil options are left out", func(t *testing.T) {
		newApplication(t, "TrainingSchool", nil, application.WithLogger(nil), application.WithEnv(nil))
	})
	t.Run("a closed store", func(t *testing.T) {
		store := memory.New()
		store.Close()
		_, err := application.New("TrainingSchool", application.WithLookup(nothing), application.WithStore(store))
		if !errors.Is(err, persistence.ErrClosed) {
			t.Errorf("got %v, want %v", err, persistence.ErrClosed)
		}
	})
}

func TestUnknownSettings(t *testing.T) {
	s := newSchool(t, env("TRAININGSCHOOL_IS_SNAPSHOTING_ENABLED", "y", "TRAININGSCHOOL_CIPHER_KEY", testKey,
		"COUNTERS_NONSENSE", "y", "GREETING", "hello", "GORM_DB_ALIAS", "default"))
	s.save(t, dogWith("Fido", 1))
	s.save(t, dogWith("Rex", 1))
	s.logs.want(t, "level=WARN", "setting is not known and has no effect", "TRAININGSCHOOL_IS_SNAPSHOTING_ENABLED", "IS_SNAPSHOTTING_ENABLED")
	if got := strings.Count(s.logs.String(), "level=WARN"); got != 1 {
		t.Errorf("got %d warnings, want 1:\n%s", got, s.logs)
	}
	if got := bridge.Of(s).Environment().String("", "GREETING"); got != "hello" {
		t.Errorf("got %q, want the user's own setting", got)
	}
}

// A setting that must not be empty is refused if it is there and empty,
// whatever other places have. Nothing is stored in clear or in memory by
// mistake.
func TestEmptySettingThatMustNotBe(t *testing.T) {
	process := func(key string) application.Option {
		return application.WithLookup(func(k string) (string, bool) { return "", k == key })
	}
	for _, key := range []string{"CIPHER_TOPIC", "CIPHER_KEY", "CIPHER_KEY_FILE", "COMPRESSOR_TOPIC", "PERSISTENCE_MODULE"} {
		for _, prefix := range []string{"", "SCHOOL_"} {
			for place, option := range map[string]application.Option{
				"given": env(prefix+key, ""), "process": process(prefix + key),
			} {
				t.Run(place+" "+prefix+key, func(t *testing.T) {
					_, err := application.New("School", application.WithLookup(nothing), option)
					if got := expect.ErrorAs[*invalid.Error](t, err).What; got != prefix+key {
						t.Errorf("got key %q, want %q", got, prefix+key)
					}
				})
			}
		}
	}
	t.Run("a general key does not take its place", func(t *testing.T) {
		_, err := application.New("School", application.WithLookup(nothing), env("SCHOOL_CIPHER_KEY", "", "CIPHER_KEY", testKey))
		expect.ErrorAs[*invalid.Error](t, err)
	})
	t.Run("a key does not take the place of the topic", func(t *testing.T) {
		_, err := application.New("School", application.WithLookup(nothing), env("CIPHER_TOPIC", "", "CIPHER_KEY", testKey))
		expect.ErrorAs[*invalid.Error](t, err)
	})
	t.Run("options win", func(t *testing.T) {
		newApplication(t, "School", application.WithStore(memory.New()), application.WithCipher(nil), application.WithCompressor(nil),
			env("CIPHER_TOPIC", "", "CIPHER_KEY", "", "COMPRESSOR_TOPIC", "", "PERSISTENCE_MODULE", ""))
	})
}

// A key that the program gives and that is a setting's but for its spelling is
// refused: without effect it would leave events in clear or in memory.
func TestSpellingOfGivenSettings(t *testing.T) {
	for _, key := range []string{"cipher_key", "Cipher_Key", " CIPHER_KEY", "CIPHER_KEY\t", "CIPHER-KEY", "cipher.key",
		"trainingschool_cipher_key", "TrainingSchool_CIPHER_KEY", "persistence_module"} {
		_, err := application.New("TrainingSchool", application.WithLookup(nothing), env(key, testKey))
		setting := expect.ErrorAs[*invalid.Error](t, err)
		if setting != nil && !strings.Contains(setting.Problem, "is not the name of a setting; write ") {
			t.Errorf("%q: got %v, want a setting of that name or a suggestion", key, err)
		}
		if err != nil && strings.Contains(err.Error(), testKey[:20]) {
			t.Errorf("%q: %v shows a secret", key, err)
		}
	}
	newApplication(t, "TrainingSchool", env("greeting", "hello", "cipher", "x"))
}

// Settings in the environment of the process that are nearly one of ours are
// reported, and other programs' settings are not.
func TestMisspeltSettingsOfTheProcess(t *testing.T) {
	for key, want := range map[string]string{
		"PERSISTENCE_MODUL":       "PERSISTENCE_MODULE",
		"IS_SNAPSHOTING_ENABLED":  "IS_SNAPSHOTTING_ENABLED",
		"CIPHERKEY":               "CIPHER_KEY",
		"CIPHR_KEY":               "CIPHER_KEY",
		"cipher_key":              "CIPHER_KEY",
		"CIPHER_KEYFILES":         "CIPHER_KEY_FILE",
		"SNAPSHOT_INTERVAL":       "SNAPSHOTTING_INTERVALS",
		"SCHOOL_CIPHER_KEY":       "TRAININGSCHOOL_CIPHER_KEY",
		"TRAININGSCOOL_CIPHERKEY": "",
		"OTHERPROGRAM_CIPHER_KEY": "",
		"API_KEY":                 "",
		"PERSISTENCE_MODULE":      "",
	} {
		t.Run(key, func(t *testing.T) {
			t.Setenv(key, "memory")
			logs := &logs{}
			app, err := application.New("TrainingSchool", application.WithLogger(logs.logger()), application.WithFormerNames("School"))
			if err != nil {
				t.Fatal(err)
			}
			defer app.Close()
			if _, err := app.Log().Head(t.Context()); err != nil { // which is the first use
				t.Fatal(err)
			}
			if want == "" {
				if strings.Contains(logs.String(), key) {
					t.Errorf("got a warning:\n%s", logs)
				}
				return
			}
			logs.want(t, "key="+key+" ", `"did you mean"=`+want+"\n")
		})
	}
}

// A misspelt setting may be why an application cannot be made, which is then
// warned of at once.
func TestMisspeltSettingBesideAnError(t *testing.T) {
	t.Setenv("CIPHR_KEY", testKey)
	logs := &logs{}
	_, err := application.New("TrainingSchool", application.WithLogger(logs.logger()), env("CIPHER_TOPIC", "aes"))
	expect.ErrorAs[*invalid.Error](t, err)
	logs.want(t, "key=CIPHR_KEY ", `"did you mean"=CIPHER_KEY`)
}
