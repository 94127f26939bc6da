package domaintest_test

import (
	"fmt"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/domain/domaintest"
)

// A test function gets its t from the testing package.
var t = &testing.T{}

func ExampleGiven() {
	domaintest.Given(t, Dogs, Registered{Name: "Fido"}).
		When(func(d *Dog) error { return d.AddTrick("roll over") }).
		Then(TrickAdded{Trick: "roll over"})
	fmt.Println("passed:", !t.Failed())
	// Output: passed: true
}

func ExampleOutcome_ThenError() {
	domaintest.Given(t, Dogs, Registered{Name: "Fido"}, TrickAdded{Trick: "roll over"}).
		When(func(d *Dog) error { return d.AddTrick("roll over") }).
		ThenError(errKnown)
	fmt.Println("passed:", !t.Failed())
	// Output: passed: true
}

func ExampleCreate() {
	domaintest.Create(t, Dogs, func() (*Dog, error) { return RegisterDog("Fido") }).
		Then(Registered{Name: "Fido"})
	fmt.Println("passed:", !t.Failed())
	// Output: passed: true
}
