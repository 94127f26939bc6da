package application_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/polling"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

func TestWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		if err := polling.WaitFor(t.Context(), bridge.Of(s).Recorder(), "Upstream", 0); err != nil {
			t.Errorf("waiting for nothing: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := polling.WaitFor(ctx, bridge.Of(s).Recorder(), "Upstream", 1)
		expect.ErrorIs(t, err, context.DeadlineExceeded, persistence.ErrOperational)
		if got := time.Since(start); got != time.Second {
			t.Errorf("waited %v, want 1s", got)
		}

		done := make(chan error)
		go func() { done <- polling.WaitFor(t.Context(), bridge.Of(s).Recorder(), "Upstream", 2) }()
		synctest.Wait()
		for _, id := range []int64{1, 3} {
			tracking := persistence.Tracking{ApplicationName: "Upstream", NotificationID: id}
			if err := bridge.Of(s).Recorder().InsertTracking(t.Context(), tracking); err != nil {
				t.Fatal(err)
			}
			if id == 1 {
				synctest.Wait()
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
