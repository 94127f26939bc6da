package gormstore

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAlarms(t *testing.T) {
	t.Run("an alarm rings when it is due, and only then", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var a deadlines
			begin := time.Now()
			rung := make(chan time.Duration, 3)
			ring := func() { rung <- time.Since(begin) }
			defer a.after(3*time.Second, ring).stop()
			// This one is due before the one that the timer was set to.
			defer a.after(time.Second, ring).stop()
			a.after(2*time.Second, ring).stop()
			late := a.after(time.Second, ring)
			late.extend(5 * time.Second)
			defer late.stop()
			for _, want := range []time.Duration{time.Second, 3 * time.Second, 5 * time.Second} {
				if got := <-rung; got != want {
					t.Errorf("an alarm rang after %v, want %v", got, want)
				}
			}
		})
	})
	t.Run("a bounded context ends when its time is over", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var a deadlines
			ctx, alarm := a.withTimeout(context.Background(), time.Second)
			defer alarm.stop()
			<-ctx.Done()
			if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
				t.Errorf("the cause is %v, want an error that is %v", cause, context.DeadlineExceeded)
			}
		})
	})
	t.Run("a stopped one ends at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var a deadlines
			ctx, alarm := a.withTimeout(context.Background(), time.Hour)
			alarm.stop()
			if ctx.Err() == nil {
				t.Error("the context is still alive")
			}
		})
	})
}
