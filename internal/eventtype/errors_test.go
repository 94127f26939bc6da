package eventtype_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
)

type transacted struct{}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{&eventtype.VersionError{Topic: "Dog.Registered", Stored: 3, Oldest: 1, Known: 2},
			"Dog.Registered was stored in schema version 3, newer than version 2 that this program knows; deploy the newer program"},
		{&eventtype.VersionError{Topic: "Dog.Registered", Stored: 1, Oldest: 2, Known: 3},
			"Dog.Registered was stored in schema version 1, and the oldest that can be read is 2; add a domain.Upcast"},
		{&eventtype.PayloadError{Definition: "Dog", Topic: "Cat.Born", Payload: reflect.TypeFor[transacted]()},
			`definition "Dog" has no payload of type eventtype_test.transacted (topic "Cat.Born")`},
		{&eventtype.PayloadError{Definition: "Dog", Topic: "Dog.Barked", Payload: reflect.TypeFor[domain.RetiredEvent](), IsRetired: true},
			`definition "Dog" has no payload for the retired event "Dog.Barked"`},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("%T: got %q, want %q", test.err, got, test.want)
		}
		if !errors.Is(fmt.Errorf("wrapped: %w", test.err), domain.ErrEventSourcing) {
			t.Errorf("%T is no ErrEventSourcing", test.err)
		}
	}
}
