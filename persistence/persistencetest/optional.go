package persistencetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// keepingRows are about capability.SnapshotRecorder. A recorder of snapshots
// that is none has nothing to show in them.
var keepingRows = []row{{
	name: "only the newest snapshots are kept",
	says: "Storing a snapshot with keep n leaves the newest n of its originator up to its version, and none of another originator or application is touched.",
	run: keeping(func(t testing.TB, s *store, r capability.SnapshotRecorder) {
		s.snapshots.insert(t, at(dog("Rex"), 1), at(dog("Daisy"), 1))
		s.snapshots.insert(t, at(dog("Rex"), 3))
		for _, version := range []int64{2, 4, 6, 9} {
			s.snapshots.keep(t, r, at(dog("Fido"), version), 2)
		}
		s.snapshots.wantVersions(t, dog("Fido"), persistence.EventRange{}, 6, 9)
		s.snapshots.keep(t, r, at(dog("Fido"), 12), 1)
		s.snapshots.wantVersions(t, dog("Fido"), persistence.EventRange{}, 12)
		s.snapshots.wantVersions(t, dog("Rex"), persistence.EventRange{}, 1, 3)
	}),
}, {
	name: "keep 0 keeps all snapshots",
	says: "Storing a snapshot with keep 0 deletes none.",
	run: keeping(func(t testing.TB, s *store, r capability.SnapshotRecorder) {
		for _, version := range []int64{1, 2, 3, 4} {
			s.snapshots.keep(t, r, at(dog("Fido"), version), 0)
		}
		s.snapshots.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 2, 3, 4)
	}),
}, {
	name: "newer snapshots are not deleted",
	says: "Storing a snapshot of an older version deletes neither it nor newer ones, whatever keep is.",
	run: keeping(func(t testing.TB, s *store, r capability.SnapshotRecorder) {
		s.snapshots.insert(t, at(dog("Fido"), 10))
		s.snapshots.insert(t, at(dog("Fido"), 15))
		s.snapshots.keep(t, r, at(dog("Fido"), 5), 1)
		s.snapshots.wantVersions(t, dog("Fido"), persistence.EventRange{}, 5, 10, 15)
	}),
}, {
	name: "a snapshot that conflicts deletes nothing",
	says: "Storing a snapshot of a version that has one is a ConflictError with the stored one, and deletes no older one.",
	run: keeping(func(t testing.TB, s *store, r capability.SnapshotRecorder) {
		for _, version := range []int64{1, 2, 3} {
			s.snapshots.insert(t, at(dog("Fido"), version))
		}
		conflict := wantConflict(t, r.InsertSnapshot(s.ctx, topical(renamed, dog("Fido"), 3), 1))
		if len(conflict.Stored) != 1 || string(conflict.Stored[0].State) != string(at(dog("Fido"), 3).State) {
			t.Errorf("the conflict has the stored snapshots %v, want the one of version 3", conflict.Stored)
		}
		s.snapshots.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 2, 3)
	}),
}, {
	name: "a snapshot is replaced if it is as given",
	says: "Replacing a snapshot whose topic and state are those given stores the new one in its place, and otherwise reports false and changes nothing.",
	run: keeping(func(t testing.TB, s *store, r capability.SnapshotRecorder) {
		first, second, third := at(dog("Fido"), 2), topical(renamed, dog("Fido"), 2), at(dog("Fido"), 2)
		third.State = []byte{}
		s.snapshots.insert(t, first, at(dog("Fido"), 3))
		otherTopic := first
		otherTopic.Topic = renamed
		otherPlace := at(dog("Rex"), 2)
		for _, old := range []persistence.StoredEvent{second, third, otherTopic} {
			wantReplaced(t, s, r, old, second, false)
		}
		wantReplaced(t, s, r, otherPlace, topical(renamed, dog("Rex"), 2), false)
		wantReplaced(t, s, r, first, second, true)
		wantReplaced(t, s, r, first, second, false)
		wantReplaced(t, s, r, second, third, true)
		wantReplaced(t, s, r, third, second, true)
	}),
}, {
	name: "a snapshot is replaced only in its own place",
	says: "Replacing a snapshot with one of another originator or version is an ErrData.",
	run: keeping(func(t testing.TB, s *store, r capability.SnapshotRecorder) {
		s.snapshots.insert(t, at(dog("Fido"), 2))
		for _, with := range []persistence.StoredEvent{at(dog("Fido"), 3), at(dog("Rex"), 2)} {
			replaced, err := r.ReplaceSnapshot(s.ctx, at(dog("Fido"), 2), with)
			if !errors.Is(err, persistence.ErrData) || replaced {
				t.Errorf("got %v and the error %v, want an ErrData", replaced, err)
			}
		}
	}),
}}

func keeping(run func(t testing.TB, s *store, r capability.SnapshotRecorder)) func(testing.TB, *store) {
	return func(t testing.TB, s *store) {
		if r, ok := s.snapshots.recorder.(capability.SnapshotRecorder); ok {
			run(t, s, r)
		}
	}
}

func wantReplaced(t testing.TB, s *store, r capability.SnapshotRecorder, old, with persistence.StoredEvent, want bool) {
	t.Helper()
	got, err := r.ReplaceSnapshot(s.ctx, old, with)
	if err != nil || got != want {
		t.Errorf("ReplaceSnapshot: got %v and the error %v, want %v", got, err, want)
	}
	if want {
		s.snapshots.model.delete(func(n persistence.Notification) bool {
			return n.OriginatorID == old.OriginatorID && n.OriginatorVersion == old.OriginatorVersion
		})
		s.snapshots.model.add([]int64{0}, []persistence.StoredEvent{with})
	}
	s.snapshots.want(t, old.OriginatorID, persistence.EventRange{})
}

// keep stores a snapshot of which only the newest are kept.
func (b *book) keep(t testing.TB, r capability.SnapshotRecorder, snapshot persistence.StoredEvent, keep int) {
	t.Helper()
	must(t, r.InsertSnapshot(b.ctx, snapshot, keep))
	must(t, b.acknowledge(nil, []persistence.StoredEvent{snapshot}))
	if keep > 0 {
		up := b.model.selected(snapshot.OriginatorID, persistence.EventRange{Before: snapshot.OriginatorVersion + 1, Descending: true})
		kept := versions(up[:min(keep, len(up))])
		b.model.delete(func(n persistence.Notification) bool {
			return n.OriginatorID == snapshot.OriginatorID && n.OriginatorVersion <= snapshot.OriginatorVersion &&
				!slices.Contains(kept, n.OriginatorVersion)
		})
	}
}

// delete deletes rows.
func (m *model) delete(is func(persistence.Notification) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows = slices.DeleteFunc(m.rows, is)
}

// deletingRows are about capability.OriginatorDeleter. A recorder that is none
// has nothing to show in them.
var deletingRows = []row{{
	name: "an originator is deleted with its snapshots",
	says: "Deleting an originator deletes its events and snapshots in one application and counts them, and no others.",
	run: deleting(func(t testing.TB, s *store, r capability.OriginatorDeleter) {
		s.events.insert(t, history(dog("Fido"), 1, 3)...)
		s.events.insert(t, history(dog("Rex"), 1, 2)...)
		s.snapshots.insert(t, at(dog("Fido"), 2), at(dog("Fido"), 3))
		s.snapshots.insert(t, at(dog("Rex"), 2))
		s.delete(t, s.ctx, r, dog("Fido"), persistence.DeletedOriginator{Events: 3, Snapshots: 2})
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{})
		s.snapshots.wantVersions(t, dog("Fido"), persistence.EventRange{})
		s.delete(t, s.ctx, r, dog("Fido"), persistence.DeletedOriginator{})
	}),
}, {
	name: "ids of a deleted originator are not used again",
	says: "An originator can be saved again from its first version on, and gets ids above all that there were.",
	run: deleting(func(t testing.TB, s *store, r capability.OriginatorDeleter) {
		before := s.events.insert(t, history(dog("Fido"), 1, 3)...)
		s.delete(t, s.ctx, r, dog("Fido"), persistence.DeletedOriginator{Events: 3})
		after := s.events.insert(t, history(dog("Fido"), 1, 2)...)
		if after[0] <= before[2] {
			t.Errorf("got the ids %v after %v, want more than %v", after, before, before[2])
		}
	}),
}, {
	name: "positions at a deleted end of the log move back to the new one",
	says: "After the last events of a log were deleted no position is ahead of it, and positions before its end stay.",
	run: deleting(func(t testing.TB, s *store, r capability.OriginatorDeleter) {
		rex := s.events.insert(t, history(dog("Rex"), 1, 2)...)
		fido := s.events.insert(t, history(dog("Fido"), 1, 2)...)
		s.insertTracking(t, s.name, rex[0])
		s.neighbour.insertTracking(t, s.name, fido[1])
		s.neighbour.positions.back(s.name, rex[1])
		s.delete(t, s.ctx, r, dog("Fido"), persistence.DeletedOriginator{Events: 2})
		s.neighbour.wantPosition(t, s.name, rex[1])
		s.wantPosition(t, s.name, rex[0])
		s.neighbour.positions.back(s.name, 0)
		s.positions.back(s.name, 0)
		s.delete(t, s.ctx, r, dog("Rex"), persistence.DeletedOriginator{Events: 2})
		s.neighbour.wantPosition(t, s.name, 0)
		s.wantPosition(t, s.name, 0)
		s.neighbour.insertTracking(t, s.name, s.events.insert(t, at(dog("Rex"), 1))[0])
	}),
}, {
	name: "a deletion changes the revision of settings",
	says: "After a deletion the settings of every follower of the log have another revision, whether it has a position or not.",
	run: deleting(func(t testing.TB, s *store, r capability.OriginatorDeleter) {
		neighbour, ok := s.neighbour.process.(capability.RevisionRecorder)
		if !ok {
			return
		}
		revision := func() int64 {
			_, settings, revision, err := neighbour.SettingsRevision(s.ctx, s.name)
			must(t, err)
			if settings == nil {
				t.Fatal("SettingsRevision: got no settings")
			}
			return revision
		}
		must(t, neighbour.WriteSettings(s.ctx, s.name, someSettings()))
		for _, name := range []string{"Fido", "Rex"} {
			s.events.insert(t, history(dog(name), 1, 3)...)
			before := revision()
			s.delete(t, s.ctx, r, dog(name), persistence.DeletedOriginator{Events: 3})
			if revision() == before {
				t.Errorf("the deletion of %s leaves the revision as it was", name)
			}
			s.neighbour.insertTracking(t, s.name, s.events.insert(t, at(dog("Friend of "+name), 1))[0])
		}
	}),
}, {
	name:  "a deletion is part of a transaction",
	says:  "Deleting an originator in a transaction that is rolled back deletes nothing, and in one that commits it is done with the rest.",
	needs: []Feature{Transaction},
	run: deleting(func(t testing.TB, s *store, r capability.OriginatorDeleter) {
		s.events.insert(t, history(dog("Fido"), 1, 3)...)
		s.snapshots.insert(t, at(dog("Fido"), 2))
		undone := errors.New("undone")
		err := s.transaction(s.ctx, func(ctx context.Context) error {
			_, err := r.DeleteOriginator(ctx, dog("Fido"))
			return errors.Join(err, undone)
		})
		wantIs(t, "Transaction", err, undone)
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 2, 3)
		s.snapshots.wantVersions(t, dog("Fido"), persistence.EventRange{}, 2)
		must(t, s.transaction(s.ctx, func(ctx context.Context) error {
			s.delete(t, ctx, r, dog("Fido"), persistence.DeletedOriginator{Events: 3, Snapshots: 1})
			return nil
		}))
	}),
}}

func deleting(run func(t testing.TB, s *store, r capability.OriginatorDeleter)) func(testing.TB, *store) {
	return func(t testing.TB, s *store) {
		if r, ok := s.process.(capability.OriginatorDeleter); ok {
			run(t, s, r)
		}
	}
}

// delete deletes an originator and compares what was counted.
func (s *store) delete(
	t testing.TB, ctx context.Context, r capability.OriginatorDeleter, id uuid.UUID, want persistence.DeletedOriginator,
) {
	t.Helper()
	got, err := r.DeleteOriginator(ctx, id)
	if err != nil || got != want {
		t.Errorf("DeleteOriginator: got %+v and the error %v, want %+v", got, err, want)
	}
	is := func(n persistence.Notification) bool { return n.OriginatorID == id }
	s.events.model.delete(is)
	s.snapshots.model.delete(is)
}

// back makes a position the one that is wanted, although it is lower.
func (p *positions) back(upstream string, id int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.highest[upstream] = id
}
