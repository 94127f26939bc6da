package persistencetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// errRollback is what a row returns from a transaction that is not to be
// committed.
var errRollback = errors.New("roll back, please")

// transactionRows are about recorders that take part in the caller's
// transaction.
var transactionRows = []row{{
	name: "what was committed is stored",
	says: "Events, positions and snapshots that were stored in a transaction are there after its commit.",
	run: func(t testing.TB, s *store) {
		commit(t, s, func(ctx context.Context, w *written) error {
			return errors.Join(
				w.insert(ctx, s.events, history(dog("Fido"), 1, 2)...),
				w.insert(ctx, s.snapshots, at(dog("Fido"), 2)),
				w.process(ctx, s.party, tracking(kennels, 4), at(dog("Rex"), 1)),
				w.track(ctx, s.party, tracking(shelters, 5)),
			)
		})
		s.wantPosition(t, kennels, 4)
		s.wantPosition(t, shelters, 5)
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 2)
	},
}, {
	name: "what was rolled back is not stored",
	says: "Nothing that was stored in a transaction is there after its rollback.",
	run: func(t testing.TB, s *store) {
		s.insertTracking(t, shelters, 2)
		rollBack(t, s, func(ctx context.Context, w *written) error {
			return errors.Join(
				w.insert(ctx, s.events, history(dog("Fido"), 1, 2)...),
				w.insert(ctx, s.snapshots, at(dog("Fido"), 2)),
				w.process(ctx, s.party, tracking(kennels, 4), at(dog("Rex"), 1)),
				w.track(ctx, s.party, tracking(shelters, 5)),
			)
		})
		s.wantPosition(t, kennels, 0)
		s.wantPosition(t, shelters, 2)
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{})
		s.events.wantVersions(t, dog("Rex"), persistence.EventRange{})
		s.snapshots.wantVersions(t, dog("Fido"), persistence.EventRange{})
	},
}, {
	name: "after a rollback everything can be stored again",
	says: "Events, positions and snapshots that were rolled back can be stored, and ids still ascend.",
	run: func(t testing.TB, s *store) {
		for range 3 {
			rollBack(t, s, func(ctx context.Context, w *written) error {
				return errors.Join(w.process(ctx, s.party, tracking(kennels, 1), at(dog("Fido"), 1)),
					w.insert(ctx, s.snapshots, at(dog("Fido"), 1)))
			})
		}
		s.insertProcessed(t, tracking(kennels, 1), at(dog("Fido"), 1))
		s.snapshots.insert(t, at(dog("Fido"), 1))
		s.events.insert(t, at(dog("Fido"), 2))
	},
}, {
	name: "a transaction sees its own writes",
	says: "Reads with the transaction's context see what the transaction has stored: events, log, highest id, positions and snapshots.",
	run: func(t testing.TB, s *store) {
		s.events.insert(t, at(dog("Fido"), 1))
		commit(t, s, func(ctx context.Context, w *written) error {
			err := errors.Join(
				w.process(ctx, s.party, tracking(kennels, 4), history(dog("Fido"), 2, 2)...),
				w.insert(ctx, s.snapshots, at(dog("Fido"), 2)),
			)
			events, err1 := collect(s.events.recorder.SelectEvents(ctx, dog("Fido"), persistence.EventRange{}))
			snapshots, err2 := collect(s.snapshots.recorder.SelectEvents(ctx, dog("Fido"), persistence.EventRange{}))
			page, err3 := s.process.SelectNotifications(ctx, persistence.NotificationRange{Limit: 10})
			head, err4 := s.process.MaxNotificationID(ctx)
			position, err5 := s.process.MaxTrackingID(ctx, kennels)
			if len(events) != 3 || len(snapshots) != 1 || len(page) != 3 || head != w.lastID || position != 4 {
				t.Errorf("inside: %d events, %d snapshots, %d notifications, highest id %d, position %d; want 3, 1, 3, %d, 4",
					len(events), len(snapshots), len(page), head, position, w.lastID)
			}
			return errors.Join(err, err1, err2, err3, err4, err5)
		})
	},
}, {
	name: "others do not see what is not committed",
	says: "A reader outside a transaction sees nothing of it before its commit; whether it waits is the store's choice.",
	run: func(t testing.TB, s *store) {
		first := s.events.insert(t, at(dog("Fido"), 1))
		outside := make(chan error, 1)
		rollBack(t, s, func(ctx context.Context, w *written) error {
			err := w.process(ctx, s.party, tracking(kennels, 4), at(dog("Fido"), 2))
			go func() {
				head, err1 := s.process.MaxNotificationID(s.ctx)
				position, err2 := s.process.MaxTrackingID(s.ctx, kennels)
				events, err3 := collect(s.events.recorder.SelectEvents(s.ctx, dog("Fido"), persistence.EventRange{}))
				if head != first[0] || position != 0 || len(events) != 1 {
					err1 = errors.Join(err1, fmt.Errorf("outside: highest id %d, position %d, %d events; want %d, 0, 1",
						head, position, len(events), first[0]))
				}
				outside <- errors.Join(err1, err2, err3)
			}()
			chance(outside)
			return err
		})
		must(t, <-outside)
	},
}, {
	name: "a conflict does not spoil the transaction",
	says: "After a ConflictError the transaction goes on: what it has stored before stays, the failed insert has left nothing, and more can be stored.",
	run: func(t testing.TB, s *store) {
		s.events.insert(t, at(dog("Rex"), 1))
		commit(t, s, func(ctx context.Context, w *written) error {
			err := w.insert(ctx, s.events, at(dog("Fido"), 1))
			_, conflict := s.events.recorder.InsertEvents(ctx, []persistence.StoredEvent{at(dog("Daisy"), 1), at(dog("Rex"), 1)})
			wantConflict(t, conflict)
			_, conflict = s.events.recorder.InsertEvents(ctx, []persistence.StoredEvent{at(dog("Fido"), 1)})
			wantConflict(t, conflict)
			return errors.Join(err, w.insert(ctx, s.events, at(dog("Fido"), 2)))
		})
		s.events.wantVersions(t, dog("Daisy"), persistence.EventRange{})
	},
}, {
	name: "a refused position does not spoil the transaction",
	says: "After ErrPositionMoved the transaction goes on, and the position is where it was.",
	run: func(t testing.TB, s *store) {
		s.insertTracking(t, kennels, 5)
		commit(t, s, func(ctx context.Context, w *written) error {
			err := w.insert(ctx, s.events, at(dog("Fido"), 1))
			wantBehind(t, s.process.InsertTracking(ctx, tracking(kennels, 5)), s.party, tracking(kennels, 5), 5)
			_, behind := s.process.InsertProcessed(ctx, history(dog("Fido"), 2, 1), tracking(kennels, 4))
			wantBehind(t, behind, s.party, tracking(kennels, 4), 5)
			return errors.Join(err, w.process(ctx, s.party, tracking(kennels, 6), at(dog("Fido"), 2)))
		})
		s.wantPosition(t, kennels, 6)
	},
}, {
	name: "a transaction spans applications",
	says: "What several applications store in one transaction is committed together, or not at all.",
	run: func(t testing.TB, s *store) {
		both := func(ctx context.Context, w *written) error {
			return errors.Join(
				w.insert(ctx, s.events, at(dog("Fido"), 1)),
				w.process(ctx, s.neighbour, tracking(kennels, 40), at(dog("Daisy"), 1)),
			)
		}
		rollBack(t, s, both)
		s.neighbour.wantPosition(t, kennels, 21)
		commit(t, s, both)
		s.neighbour.wantPosition(t, kennels, 40)
	},
}, {
	name: "inserts are the same inside a transaction",
	says: "Inside a transaction, too, ids ascend in the order of the inserts and of their events, and invalid events are refused.",
	run: func(t testing.TB, s *store) {
		commit(t, s, func(ctx context.Context, w *written) error {
			bad := at(dog("Fido"), 1)
			bad.State = nil
			_, err := s.events.recorder.InsertEvents(ctx, []persistence.StoredEvent{bad})
			wantInvalid(t, "InsertEvents in a transaction", err, persistence.ErrData)
			for version := int64(1); version < 20; version += 3 {
				last := w.lastID
				events := interleave(history(dog("Fido"), version, 3), history(dog("Rex"), version, 3))
				if err := w.insert(ctx, s.events, events...); err != nil {
					return err
				}
				if w.lastID <= last {
					t.Errorf("got the id %d after %d", w.lastID, last)
				}
			}
			return nil
		})
	},
}, {
	name: "events can be inserted inside a loop in a transaction",
	says: "A stream that reads in a transaction does not hinder the transaction's inserts.",
	run: func(t testing.TB, s *store) {
		s.events.insert(t, history(dog("Fido"), 1, 3)...)
		finishes(t, "inserting inside the loop in a transaction", func() error {
			w := &written{}
			err := s.transaction(s.ctx, func(ctx context.Context) error {
				for e, err := range s.events.recorder.SelectEvents(ctx, dog("Fido"), persistence.EventRange{Before: 4}) {
					if err != nil {
						return err
					}
					if err := w.insert(ctx, s.events, at(dog("Fido"), e.OriginatorVersion+3)); err != nil {
						return err
					}
				}
				return nil
			})
			return errors.Join(err, w.acknowledge(err))
		})
	},
}, {
	name: "ids are visible in order although a transaction is open",
	says: "While a transaction that has drawn ids is open, a reader who follows the log sees no higher id, so that it misses nothing when the transaction commits.",
	run: func(t testing.TB, s *store) {
		drawn, signal := context.WithCancel(s.ctx)
		overtaken := make(chan error, 1)
		followWhile(t, s, 2, nil, func(i int) error {
			if i == 1 {
				<-drawn.Done()
				_, err := s.events.try(s.ctx, at(dog("Rex"), 1))
				overtaken <- err
				return err
			}
			w := &written{}
			err := s.transaction(s.ctx, func(ctx context.Context) error {
				defer signal()
				err := w.insert(ctx, s.events, at(dog("Fido"), 1))
				signal()
				chance(overtaken)
				return err
			})
			return errors.Join(err, w.acknowledge(err))
		})
	},
}, {
	name: "a cancelled transaction stores nothing",
	says: "Where the context of a transaction ends before its commit, nothing of it is stored.",
	run: func(t testing.TB, s *store) {
		ctx, cancel := context.WithCancel(s.ctx)
		err := s.transaction(ctx, func(ctx context.Context) error {
			if _, err := s.process.InsertEvents(ctx, history(dog("Fido"), 1, 2)); err != nil {
				return err
			}
			cancel()
			return ctx.Err()
		})
		wantIs(t, "the transaction", err, context.Canceled)
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{})
	},
}, {
	name: "a transaction returns the error of its function",
	says: "The error of the function comes out of the transaction, so that errors.Is finds it.",
	run: func(t testing.TB, s *store) {
		err := s.transaction(s.ctx, func(context.Context) error { return errRollback })
		wantIs(t, "the transaction", err, errRollback)
	},
}}

// written is what was stored in a transaction, and is acknowledged by its
// commit.
type written struct {
	done   []func() error
	lastID int64
}

func (w *written) insert(ctx context.Context, b *book, events ...persistence.StoredEvent) error {
	ids, err := b.recorder.InsertEvents(ctx, events)
	if err == nil {
		w.keep(b, ids, events)
	}
	return err
}

func (w *written) process(
	ctx context.Context, p *party, to persistence.Tracking, events ...persistence.StoredEvent,
) error {
	ids, err := p.process.InsertProcessed(ctx, events, to)
	if err == nil {
		w.keep(p.events, ids, events)
		w.done = append(w.done, func() error { p.positions.moved(to); return nil })
	}
	return err
}

func (w *written) track(ctx context.Context, p *party, to persistence.Tracking) error {
	err := p.process.InsertTracking(ctx, to)
	if err == nil {
		w.done = append(w.done, func() error { p.positions.moved(to); return nil })
	}
	return err
}

func (w *written) keep(b *book, ids []int64, events []persistence.StoredEvent) {
	w.done = append(w.done, func() error { return b.acknowledge(ids, events) })
	if len(ids) > 0 {
		w.lastID = ids[len(ids)-1]
	}
}

// acknowledge adds what was written to the model, if the transaction had no
// error.
func (w *written) acknowledge(transaction error) error {
	if transaction != nil {
		return nil
	}
	var errs []error
	for _, f := range w.done {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// commit runs f in a transaction, which must be committed.
func commit(t testing.TB, s *store, f func(ctx context.Context, w *written) error) {
	t.Helper()
	w := &written{}
	err := s.transaction(s.ctx, func(ctx context.Context) error { return f(ctx, w) })
	must(t, err, w.acknowledge(err))
}

// rollBack runs f, which must succeed, in a transaction that is rolled back.
func rollBack(t testing.TB, s *store, f func(ctx context.Context, w *written) error) {
	t.Helper()
	var inner error
	err := s.transaction(s.ctx, func(ctx context.Context) error {
		inner = f(ctx, &written{})
		return errRollback
	})
	must(t, inner)
	wantIs(t, "the transaction", err, errRollback)
}

// chance gives a goroutine that may have to wait for the caller a moment to get
// ahead of it, and puts back what came.
func chance(done chan error) {
	select {
	case err := <-done:
		done <- err
	case <-time.After(50 * time.Millisecond):
	}
}
