package capability_test

import (
	"errors"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
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
