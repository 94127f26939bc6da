package operations

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// errDryRun rolls the transaction of a dry run back.
var errDryRun = errors.New("dry run")

// DeleteOriginator deletes one originator of an application of the runner, as
// Log.DeleteOriginator does. A dry run counts what would be deleted in
// a transaction that is rolled back. An application that the runner does not
// have is a *RunnerError.
func DeleteOriginator(
	ctx context.Context, runner Runner, application string, id uuid.UUID, dryRun bool,
) (deleted persistence.DeletedOriginator, err error) {
	app, ok := ApplicationOf(runner, application)
	if !ok {
		return deleted, &RunnerError{fmt.Sprintf("there is no application %q in the runner", application)}
	}
	if !dryRun {
		return app.DeleteOriginator(ctx, id)
	}
	transactor, ok := app.Factory().(persistence.Transactor)
	if !ok {
		return deleted, &persistence.Error{Class: persistence.ErrNotSupported, Op: application + ": delete an originator",
			Err: errors.New("a dry run needs a store with transactions")}
	}
	err = transactor.Transaction(ctx, func(ctx context.Context) error {
		if deleted, err = app.DeleteOriginator(ctx, id); err != nil {
			return err
		}
		return errDryRun
	})
	if errors.Is(err, errDryRun) {
		err = nil
	}
	return deleted, err
}
