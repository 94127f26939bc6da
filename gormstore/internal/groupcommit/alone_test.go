package groupcommit

import (
	"context"
	"errors"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A lone write that can be interrupted is written in the goroutine of its
// caller: to start another one costs more than the queue does.
func TestLoneWriteIsWrittenByItsCaller(t *testing.T) {
	for _, interruptible := range []bool{true, false} {
		q := Queue[*work]{Interruptible: interruptible}
		var stack string
		err := q.Do(t.Context(), saveOf("a"), func(_ context.Context, batch []*work) {
			stack, batch[0].Err = string(debug.Stack()), nil
		})
		if inline := strings.Contains(stack, t.Name()+"("); err != nil || inline != interruptible {
			t.Errorf("interruptible %v: written by its caller: %v, error %v", interruptible, inline, err)
		}
	}
}

// The caller of a lone write does not wait for an answer that does not come,
// and knows that the outcome is open; an answer that comes is the outcome.
func TestLoneWriteEndsAfterItsCaller(t *testing.T) {
	refused := errors.New("refused")
	for name, test := range map[string]struct {
		after time.Duration // the context has ended, the answer comes
		err   error
		want  error
		took  time.Duration
	}{
		"no answer":       {time.Hour, nil, persistence.ErrOutcomeUnknown, answerGrace},
		"success":         {answerGrace / 2, nil, nil, answerGrace / 2},
		"failure":         {answerGrace / 2, refused, refused, answerGrace / 2},
		"a late success":  {answerGrace + time.Millisecond, nil, persistence.ErrOutcomeUnknown, answerGrace},
		"immediate error": {0, refused, refused, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := Queue[*work]{Interruptible: true}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				begin := time.Now()
				err := q.Do(ctx, saveOf("a"), func(writing context.Context, batch []*work) {
					cancel()
					select {
					case <-time.After(test.after):
						batch[0].Err = test.err
					case <-writing.Done():
						if !HasLeft(writing) {
							t.Errorf("the write was interrupted by %v", context.Cause(writing))
						}
						batch[0].Err = writing.Err()
					}
				})
				if !errors.Is(err, test.want) || test.want == persistence.ErrOutcomeUnknown && !errors.Is(err, context.Canceled) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				if took := time.Since(begin); took != test.took {
					t.Errorf("the caller has waited %v, want %v", took, test.took)
				}
				if waiting, led := q.State(); led || waiting > 0 {
					t.Errorf("the queue has a leader: %v, and %d waiting; want neither", led, waiting)
				}
			})
		})
	}
}

// A panic of a lone write is its caller's, and the next write is done.
func TestLoneWritePanics(t *testing.T) {
	q := Queue[*work]{Interruptible: true}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the caller did not panic")
			}
		}()
		_ = q.Do(t.Context(), saveOf("a"), func(context.Context, []*work) { panic("broken") })
	}()
	if err := q.Do(t.Context(), saveOf("b"), func(_ context.Context, batch []*work) { batch[0].Err = nil }); err != nil {
		t.Error(err)
	}
}
