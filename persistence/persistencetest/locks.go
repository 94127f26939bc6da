package persistencetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// lockRows are about LogLocker and RevisionRecorder. A recorder that is
// neither has nothing to show in them.
var lockRows = []row{{
	name: "a locked log keeps other writers out",
	says: "While a transaction has locked a log, no other writer stores events in it, and each goes on when the transaction has ended.",
	run: eachLogLocker(func(t testing.TB, s *store, r capability.LogLocker) {
		for i, result := range []error{nil, errRollback} {
			outside := make(chan error, 1)
			w := &written{}
			err := s.transaction(s.ctx, func(ctx context.Context) error {
				if err := r.LockLog(ctx); err != nil {
					return err
				}
				go func() {
					_, err := s.events.try(s.ctx, at(dog("Rex"), int64(i)))
					outside <- err
				}()
				chance(outside)
				if len(outside) > 0 {
					t.Errorf("a writer has stored events in a locked log: got %v, want 0 of them", len(outside))
				}
				return errors.Join(w.insert(ctx, s.events, at(dog("Fido"), int64(i))), result)
			})
			if !errors.Is(err, result) {
				t.Fatalf("the transaction: %v, want an error that is %v", err, result)
			}
			must(t, w.acknowledge(result), <-outside)
		}
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{}, 0)
		s.events.wantVersions(t, dog("Rex"), persistence.EventRange{}, 0, 1)
	}),
}, {
	name: "a log is locked once or several times",
	says: "A transaction that has locked a log can lock it again, before and after it has stored events.",
	run: eachLogLocker(func(t testing.TB, s *store, r capability.LogLocker) {
		commit(t, s, func(ctx context.Context, w *written) error {
			return errors.Join(r.LockLog(ctx), r.LockLog(ctx), w.insert(ctx, s.events, at(dog("Fido"), 1)), r.LockLog(ctx),
				w.insert(ctx, s.events, at(dog("Fido"), 2)))
		})
	}),
}, {
	name: "a log is locked in a transaction only",
	says: "LockLog without a transaction of the store is an ErrNoTransaction.",
	run: eachLogLocker(func(t testing.TB, s *store, r capability.LogLocker) {
		wantIs(t, "LockLog", r.LockLog(s.ctx), persistence.ErrNoTransaction)
	}),
}, {
	name:  "a position that another transaction holds is not waited for",
	says:  "LockSettingsRevision returns ErrPositionLocked while another transaction has locked the position, and locks it afterwards.",
	needs: []Feature{Concurrent},
	run: eachRevisionRecorder(func(t testing.TB, s *store, r capability.RevisionRecorder) {
		factory := s.reopened(t)
		other := s.through(t, factory).process.(capability.RevisionRecorder)
		try := func() (position int64, err error) {
			err = s.harness.Transaction(s.ctx, factory, func(ctx context.Context) error {
				position, _, _, err = other.LockSettingsRevision(ctx, kennels, time.Millisecond)
				return err
			})
			return position, err
		}
		s.insertTracking(t, kennels, 5)
		must(t, s.transaction(s.ctx, func(ctx context.Context) error {
			_, _, err := r.LockSettings(ctx, kennels)
			if err == nil && !hasOneWriter(s.factory) {
				_, locked := try()
				wantIs(t, "LockSettingsRevision", locked, persistence.ErrPositionLocked)
			}
			return err
		}))
		if position, err := try(); err != nil || position != 5 {
			t.Errorf("LockSettingsRevision = %d, %v after the other transaction has ended, want 5", position, err)
		}
	}),
}}

func eachLogLocker(run func(t testing.TB, s *store, r capability.LogLocker)) func(testing.TB, *store) {
	return func(t testing.TB, s *store) {
		if r, ok := s.process.(capability.LogLocker); ok {
			run(t, s, r)
		}
	}
}

func eachRevisionRecorder(run func(t testing.TB, s *store, r capability.RevisionRecorder)) func(testing.TB, *store) {
	return func(t testing.TB, s *store) {
		if r, ok := s.process.(capability.RevisionRecorder); ok {
			run(t, s, r)
		}
	}
}

// hasOneWriter reports whether only one transaction of a store can be open, so
// that another one waits before it can try to lock anything.
func hasOneWriter(f persistence.Factory) bool {
	single := capability.Of(f).Yielder
	return single != nil && single.YieldTime() > 0
}
