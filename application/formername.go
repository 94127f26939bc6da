package application

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// formerNames are what an application was called in the past.
type formerNames struct {
	names []string
	clear atomic.Bool // the store was found to have no events under them
}

// checkFormerNames returns an ErrOperational if the store still has events
// under a former name of the application: they would look deleted, and new
// events of the same aggregates would be in the way when they are renamed.
// Everything that reads or saves events checks it, with one query for each
// former name until it has succeeded once.
func (a *Application) checkFormerNames(ctx context.Context) error {
	if len(a.former.names) == 0 || a.former.clear.Load() {
		return nil
	}
	for _, name := range a.former.names {
		recorder, err := a.factory.ProcessRecorder(name)
		if err != nil {
			return err
		}
		newest, err := recorder.NewestNotificationID(ctx)
		if errors.Is(err, persistence.ErrNotMigrated) {
			return nil // what the caller does next says so
		}
		if err != nil {
			return err
		}
		if newest > 0 && name != a.name {
			return &persistence.Error{Class: persistence.ErrOperational, Op: a.name + ": check former names",
				Err:  fmt.Errorf("the store has events of %s, which is a former name", name),
				Hint: "rename all rows first, with the statements of docs/operations.md, \"Renaming an application\""}
		}
	}
	a.former.clear.Store(true)
	return nil
}
