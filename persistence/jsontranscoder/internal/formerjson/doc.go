// Package formerjson is the JSON of the first cut, for tests that compare it
// with today's. It goes before the first release.
package formerjson

import "github.com/eventsourcing-go/eventsourcing/persistence"

var (
	errData         = persistence.ErrData
	errNewerProgram = persistence.ErrNewerProgram
)

func both(class, cause error) []error {
	if cause == nil {
		return []error{class}
	}
	return []error{class, cause}
}
