// Package doctored has a recorder for tests of which some methods are replaced,
// to play the store that fails, or that changes at an inconvenient moment.
package doctored

import (
	"context"
	"errors"
	"iter"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// ErrBroken is the error of a recorder that does not work.
var ErrBroken = errors.New("recorder is broken")

// Recorder calls the functions that are set in place of its methods.
type Recorder struct {
	persistence.ProcessRecorder
	Insert   func(context.Context, []persistence.StoredEvent) ([]int64, error)
	Stream   func(uuid.UUID, persistence.EventRange) iter.Seq2[persistence.StoredEvent, error]
	Page     func(context.Context, persistence.NotificationRange) ([]persistence.Notification, error)
	Head     func(context.Context) (int64, error)
	Position func(context.Context, string) (int64, error)
}

// InsertEvents calls Insert.
func (r *Recorder) InsertEvents(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
	if r.Insert != nil {
		return r.Insert(ctx, events)
	}
	return r.ProcessRecorder.InsertEvents(ctx, events)
}

// SelectEvents calls Stream.
func (r *Recorder) SelectEvents(
	ctx context.Context, id uuid.UUID, of persistence.EventRange,
) iter.Seq2[persistence.StoredEvent, error] {
	if r.Stream != nil {
		return r.Stream(id, of)
	}
	return r.ProcessRecorder.SelectEvents(ctx, id, of)
}

// SelectNotifications calls Page.
func (r *Recorder) SelectNotifications(
	ctx context.Context, of persistence.NotificationRange,
) ([]persistence.Notification, error) {
	if r.Page != nil {
		return r.Page(ctx, of)
	}
	return r.ProcessRecorder.SelectNotifications(ctx, of)
}

// MaxNotificationID calls Head.
func (r *Recorder) MaxNotificationID(ctx context.Context) (int64, error) {
	if r.Head != nil {
		return r.Head(ctx)
	}
	return r.ProcessRecorder.MaxNotificationID(ctx)
}

// NewestNotificationID calls Head.
func (r *Recorder) NewestNotificationID(ctx context.Context) (int64, error) {
	if r.Head != nil {
		return r.Head(ctx)
	}
	return r.ProcessRecorder.NewestNotificationID(ctx)
}

// MaxTrackingID calls Position.
func (r *Recorder) MaxTrackingID(ctx context.Context, upstream string) (int64, error) {
	if r.Position != nil {
		return r.Position(ctx, upstream)
	}
	return r.ProcessRecorder.MaxTrackingID(ctx, upstream)
}

// Broken is a stream of some events that ends with an error.
func Broken(err error, events ...persistence.StoredEvent) iter.Seq2[persistence.StoredEvent, error] {
	return func(yield func(persistence.StoredEvent, error) bool) {
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
		yield(persistence.StoredEvent{}, err)
	}
}
