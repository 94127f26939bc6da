package persistencetest

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

// recording is a testing.TB that remembers failures instead of failing the test
// that it belongs to.
type recording struct {
	testing.TB // for what rows do not use

	ctx      context.Context
	mu       sync.Mutex // protects what follows
	failed   bool
	output   []string
	cleanups []func()
}

// record runs a row's test on a new goroutine, which FailNow can end, and
// returns what became of it.
func record(t testing.TB, f func(t testing.TB)) *recording {
	ctx, cancel := context.WithCancel(context.Background())
	r := &recording{TB: t, ctx: ctx}
	done := make(chan string, 1)
	go func() {
		finished := ""
		defer func() { done <- finished }()
		defer r.cleanUp()
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				finished = fmt.Sprintf("panicked: %v\n%s", p, debug.Stack())
			}
		}()
		f(r)
	}()
	select {
	case problem := <-done:
		if problem != "" {
			// Whatever a store does, it must not end the test binary.
			t.Errorf("the row %s", problem)
		}
	case <-time.After(10 * time.Minute):
		stacks := make([]byte, 1<<20)
		t.Fatalf("the row does not end\n%s", stacks[:runtime.Stack(stacks, true)])
	}
	return r
}

func (r *recording) cleanUp() {
	for {
		r.mu.Lock()
		if len(r.cleanups) == 0 {
			r.mu.Unlock()
			return
		}
		last := len(r.cleanups) - 1
		f := r.cleanups[last]
		r.cleanups = r.cleanups[:last]
		r.mu.Unlock()
		f()
	}
}

func (r *recording) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *recording) log(text string, failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.output = append(r.output, text)
	r.failed = r.failed || failed
}

func (r *recording) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recording) Helper()                  {}
func (r *recording) Context() context.Context { return r.ctx }

func (r *recording) Log(args ...any)                   { r.log(fmt.Sprintln(args...), false) }
func (r *recording) Logf(format string, args ...any)   { r.log(fmt.Sprintf(format, args...), false) }
func (r *recording) Error(args ...any)                 { r.log(fmt.Sprintln(args...), true) }
func (r *recording) Errorf(format string, args ...any) { r.log(fmt.Sprintf(format, args...), true) }
func (r *recording) Fail()                             { r.log("Fail", true) }

func (r *recording) FailNow() {
	r.Fail()
	runtime.Goexit()
}

func (r *recording) Fatal(args ...any) {
	r.Error(args...)
	runtime.Goexit()
}

func (r *recording) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recording) Skip(args ...any) { r.Fatal("a row must not skip itself") }
func (r *recording) SkipNow()         { r.Fatal("a row must not skip itself") }

func (r *recording) Skipf(format string, args ...any) { r.Fatal("a row must not skip itself") }
