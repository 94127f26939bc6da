package persistence

import (
	"context"

	"github.com/google/uuid"
)

// DeletedOriginator counts what was deleted of an originator.
type DeletedOriginator struct {
	Events, Snapshots int64
	// Parked counts the events of the originator that followers in the same
	// database had parked.
	Parked int64
}

// OriginatorDeleter is a ProcessRecorder that can delete one originator, such
// as for a person who has the right to be forgotten. Nothing else deletes
// events.
type OriginatorDeleter interface {
	// DeleteOriginator deletes the events and snapshots of an originator of the
	// recorder's application, and what followers have parked of its events. It
	// does all of that or nothing, and takes part in the transaction that ctx
	// carries. Deleting an unknown originator is a success that counts nothing.
	//
	// Notification ids are not used again, so the log has gaps. A follower in
	// the same store whose position would be ahead of the log afterwards gets
	// the log's end as its position. The originator may be saved again,
	// beginning with its first version.
	DeleteOriginator(ctx context.Context, originatorID uuid.UUID) (DeletedOriginator, error)
}
