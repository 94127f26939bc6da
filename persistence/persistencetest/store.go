package persistencetest

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The names that rows use. The neighbour's differs only in case from the
// application's.
const (
	application = "TrainingSchool"
	kennels     = "Kennels"
	shelters    = "Shelters"

	registered = "Dog.Registered"
	trickAdded = "Dog.TrickAdded"
	renamed    = "Dog.Renamed"
)

// patience is how long a row may take before its context ends: far more than it
// needs, so that only a call that waits for ever gets there.
var patience = time.Duration(figure(2, 20)) * time.Minute

// store is what a row works with: an application in a store, and a neighbour
// that it must not touch.
type store struct {
	*party
	// target is the recorder that rows about both kinds use: that of the
	// application's events, or of its snapshots.
	target    *book
	neighbour *party

	harness Harness
	factory persistence.Factory
	ended   bool // the row has closed the store for good
}

func newStore(t testing.TB, h Harness, snapshots bool) *store {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	s := &store{
		harness:   h,
		party:     newParty(ctx, application),
		neighbour: newParty(ctx, strings.ToLower(application)),
	}
	s.target = s.events
	if snapshots {
		s.target = s.snapshots
	}
	s.use(t, h.New(t))
	s.neighbour.settle(t)
	return s
}

// use makes the factory the one whose recorders are used from now on.
func (s *store) use(t testing.TB, f persistence.Factory) {
	t.Helper()
	if f == nil {
		t.Fatal("the harness made no factory")
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	s.factory = f
	s.party.use(t, f)
	s.neighbour.use(t, f)
}

// reopen closes the store and opens it again.
func (s *store) reopen(t testing.TB) {
	t.Helper()
	old := s.factory
	if err := old.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	s.use(t, s.harness.Reopen(t, old))
}

// another returns the application as another process sees it: with other
// recorders over the same store. What it acknowledges counts as what s.party
// acknowledges.
func (s *store) another(t testing.TB) *party {
	t.Helper()
	return s.through(t, s.reopened(t))
}

// reopened returns a second factory over the store.
func (s *store) reopened(t testing.TB) persistence.Factory {
	t.Helper()
	f := s.harness.Reopen(t, s.factory)
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("Close of the second factory: %v", err)
		}
	})
	return f
}

// transaction runs fn in a transaction of the store.
func (s *store) transaction(ctx context.Context, fn func(ctx context.Context) error) error {
	return s.harness.Transaction(ctx, s.factory, fn)
}

// verify compares everything that the store holds with what it has
// acknowledged.
func (s *store) verify(t testing.TB) {
	t.Helper()
	if s.ended {
		return
	}
	s.party.verify(t)
	s.neighbour.verify(t)
}

// figure returns full if FULL is set, and otherwise reduced.
func figure(reduced, full int) int {
	if enabled("FULL") {
		return full
	}
	return reduced
}

// enabled reports whether an environment variable, a switch, is on.
func enabled(name string) bool {
	switch os.Getenv(name) {
	case "", "0", "false":
		return false
	}
	return true
}

// dog is the id of an originator. Ids are the same in every run, so that a
// failure can be repeated.
func dog(name string) uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("/dogs/"+name))
}
