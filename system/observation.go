package system

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// observation is a batch that is reported to the observer.
type observation struct {
	ctx   context.Context // that of BatchStart
	start time.Time       // zero if batches are not reported
}

// batchStart reports that a batch begins.
func (f *followerLoop) batchStart(ctx context.Context, b batch) observation {
	o := f.app.Observer()
	if o.BatchStart == nil && o.BatchDone == nil {
		return observation{ctx: ctx}
	}
	observed := observation{ctx, time.Now()}
	if o.BatchStart != nil {
		observed.ctx = o.BatchStart(ctx, f.observedBatch(b, observed))
	}
	return observed
}

// batchDone reports a batch that has ended.
func (f *followerLoop) batchDone(observed observation, b batch, processed int, err error) {
	if observed.start.IsZero() {
		return
	}
	made := f.observedBatch(b, observed)
	made.Duration, made.Err = time.Since(observed.start), failureOf(err)
	made.Processed, made.Position = processed, b.position(processed)
	if err == nil {
		made.Parked = f.parkedInBatch
	} else {
		made.Position = b.from
	}
	if f.partitions != nil {
		made.Position = f.partitions.lowestAfter(b, made.Position)
	}
	f.lagIsReported = made.Lag() > 0
	if o := f.app.Observer(); o.BatchDone != nil {
		o.BatchDone(observed.ctx, made)
	}
}

// failureOf returns nil if an error says only that another process is at work,
// or that the follower is paused.
func failureOf(err error) error {
	if isPaused(err) || isLocked(err) || errors.Is(err, errOvertaken) || errors.Is(err, errOutOfDate) || errors.Is(err, errNotCalled) {
		return nil
	}
	return err
}

// caughtUp reports an empty batch at the end of the log if the last one that
// was reported has left a lag: another process has processed the rest, or it
// has no events for this follower. Without it observers would keep the lag.
func (f *followerLoop) caughtUp(ctx context.Context, head int64) {
	if f.lagIsReported {
		f.parkedInBatch = 0
		b := batch{from: head, to: head, head: head}
		f.batchDone(f.batchStart(ctx, b), b, 0, nil)
	}
}

func (f *followerLoop) observedBatch(b batch, observed observation) telemetry.Batch {
	return telemetry.Batch{Follower: f.app.Name(), Leader: f.leader.Name(), Read: len(b.events), Position: b.from,
		Head: b.head, Start: observed.start}
}

// errNotReturned is what is reported of a handler or a call that has panicked
// or ended its goroutine. The status of the follower says which.
var errNotReturned = errors.New("it did not return")

// observedHandling has the handlers handle an event, and reports that.
func (f *followerLoop) observedHandling(ctx context.Context, n persistence.Notification, event domain.Event) error {
	o := f.app.Observer()
	if o.HandleStart == nil && o.HandleDone == nil {
		return f.dispatch(ctx, n, event)
	}
	return f.observed(ctx, event, o.HandleStart, o.HandleDone, func(ctx context.Context) error { return f.dispatch(ctx, n, event) })
}

// observedCall makes the call of an effect, and reports that.
func (f *followerLoop) observedCall(ctx context.Context, h *handler, event domain.Event) (result any, err error) {
	o := f.app.Observer()
	if o.CallStart == nil && o.CallDone == nil {
		return h.call(ctx, event)
	}
	err = f.observed(ctx, event, o.CallStart, o.CallDone, func(ctx context.Context) (err error) {
		result, err = h.call(ctx, event)
		return err
	})
	return result, err
}

// observed calls do between two functions of an observer, of which one may be
// nil.
func (f *followerLoop) observed(
	ctx context.Context, event domain.Event, start func(context.Context, telemetry.Handle) context.Context,
	done func(context.Context, telemetry.Handle), do func(context.Context) error,
) error {
	made := telemetry.Handle{Follower: f.app.Name(), Leader: f.leader.Name(), Event: event, Start: time.Now()}
	made.Event.Data = nil
	if start != nil {
		ctx = start(ctx, made)
	}
	if done != nil {
		made.Err = errNotReturned
		defer func() {
			made.Duration = time.Since(made.Start)
			done(ctx, made)
		}()
	}
	err := do(ctx)
	made.Err = err
	return err
}

// eventParked reports an event that has failed and was parked.
func (f *followerLoop) eventParked(ctx context.Context, n persistence.Notification, cause error) {
	about := []any{"follower", f.app.Name(), "leader", f.leader.Name(),
		"notification", n.ID, "topic", n.Topic, "originator", n.OriginatorID, "error", cause}
	f.app.Logger().WarnContext(ctx, "event was parked", withStack(about, cause)...)
	if o := f.app.Observer(); o.EventParked != nil {
		o.EventParked(ctx, telemetry.Parked{Follower: f.app.Name(), Leader: f.leader.Name(), NotificationID: n.ID,
			OriginatorID: n.OriginatorID, OriginatorVersion: n.OriginatorVersion, Topic: n.Topic, Err: cause})
	}
}

// withStack adds the stack of a panic to what a log entry is about.
func withStack(about []any, err error) []any {
	if failed, ok := errors.AsType[*ProcessingError](err); ok && failed.Stack != nil {
		return append(about, "stack", string(failed.Stack))
	}
	return about
}

// announce logs and reports the state of a follower if it has changed, or if
// the follower has failed again.
func (a *retryState) announce(ctx context.Context) {
	status := a.currentStatus()
	from := a.announced
	if status.State == from && status.Err == nil {
		return
	}
	a.announced = status.State
	a.logChange(ctx, from, status)
	if o := a.app.Observer(); o.FollowerChanged != nil {
		o.FollowerChanged(ctx, telemetry.Change{Follower: status.Follower, Leader: status.Leader, From: string(from),
			To: string(status.State), Failures: a.failures, NextRetry: status.NextRetry, Err: status.Err})
	}
}

// logChange logs a state at the level that it deserves.
func (a *retryState) logChange(ctx context.Context, from State, status Status) {
	about := []any{"follower", status.Follower, "leader", status.Leader}
	level, message := slog.LevelInfo, "follower is "+string(status.State)
	switch {
	case errors.Is(status.Err, ErrAhead): // which trying again does not help
		level, message = slog.LevelError, "follower is stopped until its position is another one"
		about = append(about, "error", status.Err)
	case status.Err != nil && status.State != Stopped:
		level, message = slog.LevelWarn, "follower failed and will try again"
		about = withStack(append(about, "failures", a.failures, "next", status.NextRetry, "error", status.Err), status.Err)
	default:
		about = append(about, "before", string(from))
	}
	a.app.Logger().Log(ctx, level, message, about...)
}
