package domain_test

import (
	"errors"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
)

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		f    func()
		want string
	}{
		{func() { domain.Trigger(&Dog{}, TrickAdded{}) },
			"domain: an aggregate that was not made by its Definition cannot trigger events; use Definition.Create or a repository"},
		{func() { domain.Define("Dog", domain.FirstVersion[Dog](-1)) }, `domain: definition "Dog": versions cannot be negative`},
	} {
		err := panicOf(test.f)
		expect.ErrorText(t, err, test.want)
		if !errors.Is(err, domain.ErrEventSourcing) {
			t.Errorf("%v is no ErrEventSourcing", err)
		}
	}
}

// panicOf returns the error that f panics with, or nil.
func panicOf(f func()) (err error) {
	defer func() { err, _ = recover().(error) }()
	f()
	return nil
}
