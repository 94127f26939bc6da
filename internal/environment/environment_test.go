package environment_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/eventsourcing-go/eventsourcing/internal/environment"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

type settings = map[string]string

// newEnvironment makes an environment in which nothing but the given values and
// those of a process are to be found.
func newEnvironment(name string, given, process settings) *environment.Environment {
	return environment.New(name, given, func(key string) (string, bool) {
		value, ok := process[key]
		return value, ok
	})
}

// TestEnvironmentPrecedence takes away one value after the other, the strongest
// first: those that the program gave before those of the process, those for the
// application before those for all, a key before its alias. What the caller
// falls back on is left in the end.
func TestEnvironmentPrecedence(t *testing.T) {
	t.Parallel()
	given := settings{"SCHOOL_KEY": "given for the school", "KEY": "given", "SCHOOL_OLD": "given for the school, old", "OLD": "given, old"}
	process := settings{"SCHOOL_KEY": "for the school", "KEY": "for all", "SCHOOL_OLD": "for the school, old", "OLD": "for all, old"}
	steps := []struct {
		source settings
		key    string
	}{
		{given, "SCHOOL_KEY"}, {given, "SCHOOL_OLD"}, {given, "KEY"}, {given, "OLD"},
		{process, "SCHOOL_KEY"}, {process, "SCHOOL_OLD"}, {process, "KEY"}, {process, "OLD"},
	}
	for i, step := range steps {
		want := environment.Setting{Key: step.key, Value: step.source[step.key]}
		e := newEnvironment("School", given, process)
		if got, ok := e.Find("KEY", "OLD"); got != want || !ok {
			t.Errorf("step %d: got %+v, %v, want %+v", i, got, ok, want)
		}
		if got := e.String("nothing", "KEY", "OLD"); got != want.Value {
			t.Errorf("step %d: got %q, want %q", i, got, want.Value)
		}
		if i%2 == 0 { // empty is as good as not there
			delete(step.source, step.key)
		} else {
			step.source[step.key] = ""
		}
	}
	e := newEnvironment("School", given, process)
	if got, ok := e.Find("KEY", "OLD"); ok || got != (environment.Setting{}) {
		t.Errorf("got %+v, want nothing", got)
	}
	if got := e.String("nothing", "KEY", "OLD"); got != "nothing" {
		t.Errorf("got %q, want %q", got, "nothing")
	}
}

// Settings of other applications and keys that only begin alike are not found.
func TestEnvironmentFindsNothingElse(t *testing.T) {
	t.Parallel()
	e := newEnvironment("School", settings{"OTHER_KEY": "a", "SCHOOLKEY": "b", "key": "c", "School_KEY": "d"}, settings{"KEY2": "e", "SCHOOL__KEY": "f"})
	if got, ok := e.Find("KEY"); ok {
		t.Errorf("got %+v, want no setting", got)
	}
	if got, ok := e.Find(); ok {
		t.Errorf("no key: got %+v, want no setting", got)
	}
}

func TestEnvironmentPrefix(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"TrainingSchool": "TRAININGSCHOOL_", "My App": "MY_APP_", "my-app.v2": "MY_APP_V2_", "a_b": "A_B_", "Ä 1": "Ä_1_",
		"日本": "日本_", "$(rm -rf)": "__RM__RF__", "a=b": "A_B_", "a\x00b": "A_B_", "": "_",
	} {
		e := newEnvironment(name, settings{want + "KEY": "value"}, nil)
		if e.Prefix() != want || e.Name() != name {
			t.Errorf("%q: got prefix %q, name %q, want %q", name, e.Prefix(), e.Name(), want)
		}
		if got, ok := e.Find("KEY"); !ok || got.Key != want+"KEY" {
			t.Errorf("%q: got %+v, want Key %v", name, got, want+"KEY")
		}
	}
}

// The environment is what it was when it was made.
func TestEnvironmentGiven(t *testing.T) {
	t.Parallel()
	given := settings{"B": "1", "A": "2", "EMPTY": ""}
	e := newEnvironment("School", given, nil)
	given["C"], given["A"] = "3", "changed"
	if got := e.Given(); !slices.Equal(got, []string{"A", "B", "EMPTY"}) {
		t.Errorf("got %q, want %q", got, []string{"A", "B", "EMPTY"})
	}
	if got := e.String("", "A"); got != "2" {
		t.Errorf("got %q, want what was given", got)
	}
}

func TestEnvironmentOfTheProcess(t *testing.T) {
	t.Setenv("PERSISTENCE_TEST_SETTING", "yes")
	e := environment.New("School", nil, nil)
	if got, err := e.Bool(false, "PERSISTENCE_TEST_SETTING"); !got || err != nil {
		t.Errorf("got %v, error %v, want true", got, err)
	}
}

func TestEnvironmentBool(t *testing.T) {
	t.Parallel()
	words := map[bool][]string{
		true:  {"y", "Y", "yes", "YES", "Yes", "t", "T", "true", "True", "tRuE", "on", "ON", "1"},
		false: {"n", "N", "no", "No", "f", "F", "false", "FALSE", "off", "Off", "0"},
	}
	for want, spellings := range words {
		for _, word := range spellings {
			if got, err := newEnvironment("School", settings{"KEY": word}, nil).Bool(!want, "KEY"); got != want || err != nil {
				t.Errorf("%q: got %v, error %v, want %v and no error", word, got, err, want)
			}
		}
		if got, err := newEnvironment("School", settings{"KEY": ""}, nil).Bool(want, "KEY"); got != want || err != nil {
			t.Errorf("empty: got %v, error %v, want the default", got, err)
		}
	}
	for _, word := range []string{"maybe", "2", "-1", " y", "y ", "ja", "yess", "nil", "\x00"} {
		_, err := newEnvironment("School", nil, settings{"SCHOOL_KEY": word}).Bool(true, "OTHER", "KEY")
		wantSettingError(t, err, fmt.Sprintf("SCHOOL_KEY: %q is not a truth value; use y or n", word))
	}
}

func TestEnvironmentInt(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]int{"3": 3, "5": 5, "10": 10, "+7": 7, "007": 7, "": 99} {
		if got, err := newEnvironment("School", settings{"KEY": word}, nil).Int(99, 3, 10, "KEY"); got != want || err != nil {
			t.Errorf("%q: got %d, error %v, want %d", word, got, err, want)
		}
	}
	for _, word := range []string{"2", "11", "-5", "0", "abc", "1e3", "5.0", "5 ", "0x5", "1_0", "99999999999999999999", "٣"} {
		got, err := newEnvironment("School", settings{"KEY": word}, nil).Int(99, 3, 10, "KEY")
		wantSettingError(t, err, fmt.Sprintf("KEY: %q is not a whole number from 3 to 10", word))
		if got != 0 {
			t.Errorf("%q: got %d with the error, want 0", word, got)
		}
	}
	if got, err := (environment.Setting{Key: "KEY", Value: "-3"}).Int(-5, -1); got != -3 || err != nil {
		t.Errorf("got %d, error %v, want -3 and no error", got, err)
	}
}

func wantSettingError(t *testing.T, err error, text string) {
	t.Helper()
	expect.ErrorAs[*invalid.Error](t, err)
	expect.ErrorText(t, err, text)
	if !errors.Is(err, persistence.ErrProgramming) {
		t.Errorf("%v is not an ErrProgramming", err)
	}
}

func TestSettingError(t *testing.T) {
	t.Parallel()
	setting := environment.Setting{Key: "CIPHER_KEY", Value: canary}
	wantSettingError(t, setting.Wrong("is not a color"), `CIPHER_KEY: "`+canary+`" is not a color`)
	wantSettingError(t, environment.Setting{Key: "KEY"}.Wrong("is missing"), "KEY is missing")
	long := environment.Setting{Key: "KEY", Value: strings.Repeat("x", 1000) + "\n"}
	wantSettingError(t, long.Wrong("is long"), `KEY: "`+strings.Repeat("x", 80)+`" is long`)
	wantSettingError(t, environment.Setting{Key: "KEY", Value: "a\nb"}.Wrong("has two lines"), `KEY: "a\nb" has two lines`)
}

// A secret comes up neither in the text nor in the fields.
func TestSettingErrorOfSecret(t *testing.T) {
	t.Parallel()
	setting := environment.Setting{Key: "CIPHER_KEY", Value: canary}
	err := setting.WrongSecret(errBroken)
	wantSettingError(t, err, "CIPHER_KEY cannot be used: recorder is broken")
	if !errors.Is(err, errBroken) || strings.Contains(fmt.Sprintf("%+v %#v", err, err), canary) {
		t.Errorf("got %#v, want an error that is %v", err, errBroken)
	}
	wantSettingError(t, setting.WrongSecret(nil), "CIPHER_KEY cannot be used")
}

// FuzzEnvironment reads arbitrary values under an arbitrary name. What is found
// must be what the sources say, in their order, and a value must be accepted as
// what it is or refused with an error that names its key.
func FuzzEnvironment(f *testing.F) {
	f.Add("TrainingSchool", "KEY", "yes", "no", "1", "")
	f.Add("My App", "CACHE_SIZE", "", "", "", "1000")
	f.Add("", "", "-1", "maybe", "99999999999999999999", " ")
	f.Add("日本 $", "_", "\x00", "\xff", "%!s(int=5)", "0x10")
	f.Fuzz(func(t *testing.T, name, key, givenPrefixed, given, processPrefixed, process string) {
		e := newEnvironment(name, nil, nil)
		prefix := e.Prefix()
		if strings.ContainsFunc(prefix, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			t.Errorf("got prefix %q, want letters, digits and _", prefix)
		}
		e = newEnvironment(name, settings{prefix + key: givenPrefixed, key: given}, settings{prefix + key: processPrefixed, key: process})
		want := environment.Setting{}
		for _, setting := range []environment.Setting{
			{Key: prefix + key, Value: givenPrefixed}, {Key: key, Value: given},
			{Key: prefix + key, Value: processPrefixed}, {Key: key, Value: process},
		} {
			if want.Value == "" && setting.Value != "" {
				want = setting
			}
		}
		if got, ok := e.Find(key); got != want || ok != (want.Value != "") {
			t.Fatalf("got %+v, %v, want %+v", got, ok, want)
		}
		if n, err := e.Int(5, 1, 10, key); err != nil {
			wantKey(t, err, want.Key)
		} else if parsed, err := strconv.Atoi(want.Value); want.Value != "" && (err != nil || parsed != n) || n < 1 || n > 10 {
			t.Errorf("%q: got %d, want the number, from 1 to 10", want.Value, n)
		}
		if _, err := e.Bool(true, key); err != nil {
			wantKey(t, err, want.Key)
		}
	})
}

func wantKey(t *testing.T, err error, key string) {
	t.Helper()
	if got := expect.ErrorAs[*invalid.Error](t, err); !strings.HasPrefix(got.What, key) || len(err.Error()) > len(key)+1000 {
		t.Errorf("got %v, want an error about %q", err, key)
	}
}
