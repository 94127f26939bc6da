package capability_test

import (
	"errors"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// What a program meets is an error that it can name.
func TestErrorsAreOperational(t *testing.T) {
	for _, err := range []error{capability.ErrLeaseLost, capability.ErrPartitionsDamaged} {
		met := &persistence.Error{Class: err, Op: "move partitions"}
		if !errors.Is(met, persistence.ErrOperational) || !errors.Is(met, err) {
			t.Errorf("%v is not an ErrOperational and itself", met)
		}
	}
}

// The text has the follower, the upstream application and both positions.
func TestPositionMoved(t *testing.T) {
	for current, want := range map[int64]string{
		5: "Counters: move the position in School to 7: position was moved: another program has moved it to 5 meanwhile",
		7: "Counters: move the position in School to 7: position was moved: it is at 7 already",
		9: "Counters: move the position in School to 7: position was moved: it is at 9 already",
	} {
		err := capability.PositionMoved("Counters", persistence.Tracking{ApplicationName: "School", NotificationID: 7}, current)
		expect.ErrorText(t, err, want)
		if !errors.Is(err, persistence.ErrPositionMoved) || !errors.Is(err, persistence.ErrIntegrity) {
			t.Errorf("%v is not an ErrPositionMoved and an ErrIntegrity", err)
		}
	}
}
