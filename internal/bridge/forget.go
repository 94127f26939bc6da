package bridge

import (
	"context"
	"errors"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// LockToForget waits for the lock of a position that is to be deleted. ctx must
// carry a transaction of the store. Upstreams that one transaction locks are
// sorted, which is the order everywhere.
func LockToForget(ctx context.Context, recorder persistence.ProcessRecorder, upstream string) error {
	_, err := recorder.LockPosition(ctx, upstream)
	if errors.Is(err, capability.ErrPartitionsDamaged) { // which a reset mends
		return nil
	}
	return err
}

// ForgetUpstream has a follower, whose recorder is given, forget what it has
// processed of an upstream application, after LockToForget and in the same
// transaction: it deletes the position with the status, and forgets what is
// parked if parks is set, which would keep later events of its originators
// parked.
func ForgetUpstream(
	ctx context.Context, store capability.PositionDeleter, recorder persistence.ProcessRecorder, follower, upstream string, parks bool,
) (rows int64, err error) {
	rows, err = store.DeleteTracking(ctx, follower, upstream)
	parking := capability.OfRecorder(recorder).Parking
	if err != nil || parking == nil || !parks {
		return rows, err
	}
	parked, err := parking.ParkedEvents(ctx, upstream)
	if errors.Is(err, persistence.ErrNotMigrated) {
		return rows, nil // without the table nothing is parked
	}
	if err != nil {
		return rows, err
	}
	for _, event := range parked {
		if err := parking.UnparkEvent(ctx, upstream, event.NotificationID); err != nil {
			return rows, err
		}
	}
	return rows, nil
}
