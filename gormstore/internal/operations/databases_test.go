package operations_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The error of a database that is not migrated says what is missing, whatever
// else has failed, and nothing twice.
func TestMigrationErrorText(t *testing.T) {
	t.Parallel()
	missing := &persistence.Error{Class: persistence.ErrNotMigrated, Op: "read", Hint: "the table dogs is missing; create it"}
	other := &persistence.Error{Class: persistence.ErrUnavailable, Op: "read", Hint: "start the database; try again"}
	for _, test := range []struct {
		err  error
		want string
	}{
		{missing, "the database is not migrated: the table dogs is missing"},
		{errors.Join(other, missing), "the database is not migrated: the table dogs is missing"},
		{&persistence.Error{Class: persistence.ErrLockTimeout, Op: "read", Err: fmt.Errorf("x: %w", missing)},
			"the database is not migrated: the table dogs is missing"},
		{persistence.ErrNotMigrated, "the database is not migrated"},
		{errors.Join(other, persistence.ErrNotMigrated), "the database is not migrated"},
		{&persistence.Error{Class: persistence.ErrNotMigrated, Op: "read"}, "the database is not migrated"},
	} {
		expect.ErrorText(t, &operations.MigrationError{Err: test.err}, test.want)
	}
}

// A panic that no handler is to blame for is not said to be one of a handler.
func TestPanicErrorText(t *testing.T) {
	t.Parallel()
	expect.ErrorText(t, &operations.PanicError{Value: "no log"}, "panicked: no log")
}
