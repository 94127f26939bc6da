// Package logcopy gives package copylog what a store on NATS does not show to
// its users.
package logcopy

import (
	"context"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Copy copies the log of an application to a *natsstore.Store. Package natsstore
// sets it when it is initialised.
//
// Events keep their notification ids, so that positions of followers stay right;
// ids that the other log does not have are filled with messages that are no
// events. Snapshots and positions are not copied.
//
// Nothing may write to either log meanwhile. If the copy is interrupted, call
// Copy again: it goes on after the last event that was copied. It makes the
// stream if the stream does not exist. If the stream is not the beginning of the
// other log, the error is an ErrIntegrity. progress, which may be nil, is called
// with the id up to which the log was copied.
var Copy func(
	ctx context.Context, to persistence.Factory, from persistence.ApplicationRecorder, application string, progress func(id int64),
) error
