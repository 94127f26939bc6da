package expect_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/expect"
)

// recorder is a test that takes down its failures instead of failing. It ends
// at a fatal one, as a test does.
type recorder struct {
	testing.TB
	helpers  map[string]bool // the functions that are not to be reported
	failures []string
	fatal    bool
}

type ended struct{}

func (r *recorder) Helper() {
	caller, _, _, _ := runtime.Caller(1)
	r.helpers[runtime.FuncForPC(caller).Name()] = true
}

func (r *recorder) Errorf(format string, args ...any) {
	at, _, _, _ := runtime.Caller(1)
	if name := runtime.FuncForPC(at).Name(); !r.helpers[name] {
		r.failures = append(r.failures, name+" reports its own line instead of the caller's")
	}
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	at, _, _, _ := runtime.Caller(1)
	if name := runtime.FuncForPC(at).Name(); !r.helpers[name] {
		r.failures = append(r.failures, name+" reports its own line instead of the caller's")
	}
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
	r.fatal = true
	panic(ended{})
}

func record(check func(t testing.TB)) (r *recorder) {
	r = &recorder{helpers: map[string]bool{}}
	defer func() {
		if p := recover(); p != nil && p != any(ended{}) {
			panic(p)
		}
	}()
	check(r)
	return r
}

var (
	errBroken  = errors.New("it is broken")
	errPath    = &fs.PathError{Op: "open", Path: "dogs", Err: errBroken}
	errWrapped = fmt.Errorf("look: %w", errPath)
)

// after is a condition that comes true some time after begin.
func after(begin time.Time, d time.Duration) func() bool {
	return func() bool { return time.Since(begin) >= d }
}

// TestChecks has each check pass and fail, and wants the value that was found
// and the one that was expected in what it reports.
func TestChecks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		check func(t testing.TB)
		fatal bool
		want  []string
	}{
		"no error":           {check: func(t testing.TB) { expect.NoError(t, nil, nil) }},
		"the second error":   {check: func(t testing.TB) { expect.NoError(t, nil, errBroken, errPath) }, fatal: true, want: []string{"got error it is broken (*errors.errorString), want none"}},
		"the type":           {check: func(t testing.TB) { expect.ErrorAs[*fs.PathError](t, errWrapped) }},
		"another type":       {check: func(t testing.TB) { expect.ErrorAs[*fs.PathError](t, errBroken) }, fatal: true, want: []string{"got error it is broken (*errors.errorString), want a *fs.PathError"}},
		"no error of a type": {check: func(t testing.TB) { expect.ErrorAs[*fs.PathError](t, nil) }, fatal: true, want: []string{"got error <nil> (<nil>), want a *fs.PathError"}},
		"the errors":         {check: func(t testing.TB) { expect.ErrorIs(t, errWrapped, errPath, errBroken) }},
		"another error": {
			check: func(t testing.TB) { expect.ErrorIs(t, errBroken, fs.ErrExist, errBroken, fs.ErrInvalid) },
			want: []string{
				"got error it is broken (*errors.errorString), want one that is file already exists",
				"got error it is broken (*errors.errorString), want one that is invalid argument",
			},
		},
		"no error to be another": {check: func(t testing.TB) { expect.ErrorIs(t, nil, errBroken) }, want: []string{"got error <nil> (<nil>), want one that is it is broken"}},
		"the text":               {check: func(t testing.TB) { expect.ErrorText(t, errBroken, "it is broken") }},
		"a part of the text":     {check: func(t testing.TB) { expect.ErrorText(t, errBroken, "broken") }, want: []string{"got error it is broken\nwant      broken"}},
		"no error with a text":   {check: func(t testing.TB) { expect.ErrorText(t, nil, "") }, want: []string{"got error <nil>\nwant      "}},
		"the parts":              {check: func(t testing.TB) { expect.Contains(t, "roll over", "over", "roll") }},
		"a missing part":         {check: func(t testing.TB) { expect.Contains(t, "roll over", "over", "sit") }, want: []string{`got "roll over", want it to contain "sit"`}},
		"in the end": {check: func(t testing.TB) {
			expect.Until(t, "it has waited", after(time.Now(), 3*time.Minute-25*time.Millisecond))
		}},
		"too late":            {check: func(t testing.TB) { expect.Until(t, "it has waited", after(time.Now(), 3*time.Minute)) }, fatal: true, want: []string{"waited 3m0s in vain until it has waited"}},
		"equal":               {check: func(t testing.TB) { expect.Equal(t, "ids", []int64{1, 2}, []int64{1, 2}) }},
		"nothing":             {check: func(t testing.TB) { expect.Equal(t, "ids", nil, []int64{}) }},
		"no entries":          {check: func(t testing.TB) { expect.Equal(t, "heads", map[string]int{}, nil) }},
		"others":              {check: func(t testing.TB) { expect.Equal(t, "ids", []int64{1}, []int64{1, 2}) }, want: []string{"ids: got [1], want [1 2]"}},
		"something":           {check: func(t testing.TB) { expect.Equal(t, "ids", []int64{0}, nil) }, want: []string{"ids: got [0], want []"}},
		"another string":      {check: func(t testing.TB) { expect.Equal(t, "the name", "Fido ", "Fido") }, want: []string{`the name: got "Fido ", want "Fido"`}},
		"another type inside": {check: func(t testing.TB) { expect.Equal[any](t, "it", int32(1), int64(1)) }, want: []string{"it: got 1 (int32), want 1 (int64)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r *recorder
			synctest.Test(t, func(*testing.T) { r = record(test.check) })
			if strings.Join(r.failures, "|") != strings.Join(test.want, "|") || r.fatal != test.fatal {
				t.Errorf("got the failures %q, fatal %v\nwant %q, fatal %v", r.failures, r.fatal, test.want, test.fatal)
			}
		})
	}
}

// ErrorAs returns the error that it has found.
func TestErrorAsReturnsTheError(t *testing.T) {
	t.Parallel()
	if got := expect.ErrorAs[*fs.PathError](t, errWrapped); got != errPath {
		t.Errorf("got %v, want %v", got, errPath)
	}
}

// Must returns a value, and panics with the error.
func TestMust(t *testing.T) {
	t.Parallel()
	if got := expect.Must(filepath.Rel("/dogs", "/dogs/fido")); got != "fido" {
		t.Errorf("got %q, want %q", got, "fido")
	}
	defer func() {
		const want = "got error it is broken (*errors.errorString), want none"
		if got := recover(); got != want {
			t.Errorf("got the panic %v, want %v", got, want)
		}
	}()
	expect.Must(0, errBroken)
}
