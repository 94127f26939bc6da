package persistencetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// partitionRows are about PartitionRecorder. They do nothing with a recorder
// that is none.
var partitionRows = []row{{
	name: "a follower that is not divided has no partitions",
	says: "The partitions of a follower that was not divided are none, and its position is what it was.",
	run: dividing(func(t testing.TB, s *store, r capability.PartitionRecorder) {
		s.insertTracking(t, kennels, 5)
		wantPositions(t, s, r, 5)
		set, err := r.RenewLeases(s.ctx, kennels, "a", []int{0}, time.Minute)
		if err != nil || len(set.Partitions) > 0 {
			t.Errorf("RenewLeases = %+v, %v, want no error and 0 Partitions", set, err)
		}
	}),
}, {
	name: "partitions begin at the position",
	says: "A follower is divided at its position, for one upstream application; the partitions are numbered from 0 and not leased.",
	run: dividing(func(t testing.TB, s *store, r capability.PartitionRecorder) {
		s.insertTracking(t, kennels, 5)
		s.insertTracking(t, shelters, 6)
		set := s.divide(t, r, "customer", 3)
		if set.Key != "customer" || len(set.Partitions) != 3 {
			t.Fatalf("the partitions are %+v, want Key %q and 3 Partitions", set, "customer")
		}
		for i, p := range set.Partitions {
			if p.Number != i || p.Position != 5 || p.Owner != "" || p.Leased {
				t.Errorf("partition %d is %+v, want Position 5", i, p)
			}
		}
		wantPositions(t, s, r, 5, 5, 5, 5)
		others, err := r.Partitions(s.ctx, shelters)
		if err != nil || len(others.Partitions) > 0 {
			t.Errorf("in another log there are the partitions %+v (%v), want no error and 0 Partitions", others, err)
		}
		if position := s.position(t, shelters); position != 6 {
			t.Errorf("the position in another log is %d, want 6", position)
		}
	}),
}, {
	name: "a divided position is not moved as a whole",
	says: "Moving the position of a follower that is divided is ErrPositionMoved, and changes nothing.",
	run: dividing(func(t testing.TB, s *store, r capability.PartitionRecorder) {
		s.insertTracking(t, kennels, 5)
		s.divide(t, r, "", 2)
		tracking := persistence.Tracking{ApplicationName: kennels, NotificationID: 6}
		failed := []error{s.process.InsertTracking(s.ctx, tracking), s.process.MovePosition(s.ctx, 5, tracking)}
		for _, err := range failed {
			if !errors.Is(err, persistence.ErrPositionMoved) {
				t.Errorf("got the error %v, want ErrPositionMoved", err)
			}
		}
		wantPositions(t, s, r, 5, 5, 5)
	}),
}, {
	name: "the position is the lowest of all partitions",
	says: "Partitions move by themselves, and the position of a follower is that of the last of them.",
	run: dividing(func(t testing.TB, s *store, r capability.PartitionRecorder) {
		set := s.divide(t, r, "", 3)
		set = s.lease(t, r, "a", time.Minute, take(set.Partitions...)...)
		s.movePartitions(t, r, "a", set, 7, nil, 1, 2)
		wantPositions(t, s, r, 0, 0, 7, 7)
		s.movePartitions(t, r, "a", s.partitions(t, r), 4, nil, 0)
		wantPositions(t, s, r, 4, 4, 7, 7)
		s.positions.back(kennels, 4)
	}),
}, {
	name: "partitions are divided anew at one position",
	says: "Partitions are replaced, or made whole, if all have one position, and otherwise that is an ErrProgramming and changes nothing.",
	run: dividing(func(t testing.TB, s *store, r capability.PartitionRecorder) {
		set := s.lease(t, r, "a", time.Minute, take(s.divide(t, r, "", 2).Partitions...)...)
		s.movePartitions(t, r, "a", set, 8, nil, 0)
		for _, count := range []int{0, 3} {
			wantIs(t, "Divide", s.tryDivide(r, "", count), persistence.ErrProgramming)
		}
		wantPositions(t, s, r, 0, 8, 0)
		s.movePartitions(t, r, "a", s.partitions(t, r), 8, nil, 1)
		set = s.divide(t, r, "", 3)
		wantPositions(t, s, r, 8, 8, 8, 8)
		if slices.ContainsFunc(set.Partitions, func(p persistence.Partition) bool { return p.Owner != "" || p.Leased }) {
			t.Errorf("partitions are leased after they were divided anew: %+v", set.Partitions)
		}
		must(t, s.tryDivide(r, "", 0))
		wantPositions(t, s, r, 8)
		s.positions.back(kennels, 8)
		s.insertTracking(t, kennels, 9)
	}),
}, {
	name: "a lease excludes others",
	says: "A lease in force is taken by no other process; one that has ended or was given back is, with a higher fence.",
	run: dividing(func(t testing.TB, s *store, r capability.PartitionRecorder) {
		first := s.lease(t, r, "a", time.Minute, take(s.divide(t, r, "", 1).Partitions...)...).Partitions[0]
		wantLease(t, first, "a", true)
		second := s.lease(t, r, "b", time.Minute, take(first)...).Partitions[0]
		wantLease(t, second, "a", true)
		if second.Fence != first.Fence {
			t.Errorf("the fence has changed although nothing was taken: got %v, want Fence %v", second.Fence, first.Fence)
		}
		free := s.lease(t, r, "a", time.Minute, change(capability.ReleaseLease, first)...).Partitions[0]
		wantLease(t, free, "", false)
		short := s.lease(t, r, "b", -time.Second, take(free)...).Partitions[0]
		wantLease(t, short, "b", false)
		last := s.lease(t, r, "c", time.Minute, take(short)...).Partitions[0]
		wantLease(t, last, "c", true)
		if !(first.Fence < free.Fence && free.Fence < short.Fence && short.Fence < last.Fence) {
			t.Errorf("the fences are %d, %d, %d, %d, want each higher than the one before", first.Fence, free.Fence, short.Fence, last.Fence)
		}
		stale := s.lease(t, r, "d", time.Minute, change(capability.ReleaseLease, short)...).Partitions[0]
		wantLease(t, stale, "c", true)
	}),
}, {
	name: "a lease that ends too late is not in force",
	says: "A lease that ends later than any can was taken before the clock was set back: it is not in force, is asked for by no one, and others take it.",
	run: dividing(func(t testing.TB, s *store, r capability.PartitionRecorder) {
		late := s.lease(t, r, "a", 2*capability.LongestLease, take(s.divide(t, r, "", 1).Partitions...)...).Partitions[0]
		wantLease(t, late, "a", false)
		asked := s.lease(t, r, "b", time.Minute, change(capability.RequestLease, late)...).Partitions[0]
		if asked.Successor != "" {
			t.Errorf("the lease was asked for: %+v, want no successor", asked)
		}
		taken := s.lease(t, r, "b", capability.LongestLease, take(late)...).Partitions[0]
		wantLease(t, taken, "b", true)
		if taken.Fence <= late.Fence {
			t.Errorf("the fence is %d, and was %d, want a higher one", taken.Fence, late.Fence)
		}
	}),
}, {
	name: "leases are renewed by their owner",
	says: "Renewing extends the leases of a process among the given numbers, and no others.",
	run: dividing(func(t testing.TB, s *store, r capability.PartitionRecorder) {
		set := s.divide(t, r, "", 3)
		s.lease(t, r, "a", -time.Second, take(set.Partitions[:2]...)...)
		s.lease(t, r, "b", -time.Second, take(set.Partitions[2])...)
		renewed, err := r.RenewLeases(s.ctx, kennels, "a", []int{1, 2}, time.Minute)
		must(t, err)
		wantLease(t, renewed.Partitions[0], "a", false)
		wantLease(t, renewed.Partitions[1], "a", true)
		wantLease(t, renewed.Partitions[2], "b", false)
		if left := time.Until(renewed.Partitions[1].Until); left < 30*time.Second || left > 90*time.Second {
			t.Errorf("the lease ends in %v, want about a minute", left)
		}
	}),
}, {
	name: "a lease is handed over to who asks for it",
	says: "A process asks for a lease of another, which hands it over with a higher fence; a lease that is not asked for stays.",
	run: dividing(func(t testing.TB, s *store, r capability.PartitionRecorder) {
		first := s.lease(t, r, "a", time.Minute, take(s.divide(t, r, "", 1).Partitions...)...).Partitions[0]
		kept := s.lease(t, r, "a", time.Minute, change(capability.HandOverLease, first)...).Partitions[0]
		wantLease(t, kept, "a", true)
		asked := s.lease(t, r, "b", time.Minute, change(capability.RequestLease, first)...).Partitions[0]
		wantLease(t, asked, "a", true)
		if asked.Successor != "b" || asked.Fence != first.Fence {
			t.Errorf("after it was asked for: %+v, want Successor %q and Fence %v", asked, "b", first.Fence)
		}
		given := s.lease(t, r, "a", time.Minute, change(capability.HandOverLease, asked)...).Partitions[0]
		wantLease(t, given, "b", true)
		if given.Fence <= first.Fence || given.Successor != "" {
			t.Errorf("after it was handed over: %+v, want Fence more than %v", given, first.Fence)
		}
	}),
}, {
	name: "a fence keeps former owners from moving",
	says: "Partitions are moved by the process with the present fence, from their position, all or none; otherwise that is an ErrLeaseLost.",
	run: dividing(func(t testing.TB, s *store, r capability.PartitionRecorder) {
		old := s.lease(t, r, "a", -time.Second, take(s.divide(t, r, "", 2).Partitions...)...)
		// An end of the lease alone does not matter.
		s.movePartitions(t, r, "a", old, 3, nil, 0, 1)
		old = s.partitions(t, r)
		s.lease(t, r, "b", time.Minute, take(old.Partitions[1])...)
		s.movePartitions(t, r, "a", old, 5, capability.ErrLeaseLost, 0, 1)
		s.movePartitions(t, r, "b", old, 5, capability.ErrLeaseLost, 1)
		s.movePartitions(t, r, "b", s.partitions(t, r), 5, capability.ErrLeaseLost, 0)
		wantPositions(t, s, r, 3, 3, 3)
		s.movePartitions(t, r, "a", old, 5, nil, 0)
		// The position of the partition has changed.
		s.movePartitions(t, r, "a", old, 6, capability.ErrLeaseLost, 0)
		wantPositions(t, s, r, 3, 5, 3)
		s.positions.back(kennels, 3)
	}),
}, {
	name: "fences grow when a follower is divided again",
	says: "The fences of partitions that were made whole and divided again are above those before.",
	run: dividing(func(t testing.TB, s *store, r capability.PartitionRecorder) {
		before := s.lease(t, r, "a", time.Minute, take(s.divide(t, r, "", 1).Partitions...)...).Partitions[0]
		must(t, s.tryDivide(r, "", 0))
		after := s.lease(t, r, "a", time.Minute, take(s.divide(t, r, "", 1).Partitions...)...).Partitions[0]
		if after.Fence <= before.Fence {
			t.Errorf("the fence is %d, and was %d, want a higher one", after.Fence, before.Fence)
		}
	}),
}, {
	name: "partitions take part in transactions",
	says: "What was moved in a transaction that is rolled back is not moved.",
	run: dividing(func(t testing.TB, s *store, r capability.PartitionRecorder) {
		set := s.lease(t, r, "a", time.Minute, take(s.divide(t, r, "", 1).Partitions...)...)
		err := s.transaction(s.ctx, func(ctx context.Context) error {
			must(t, r.MovePartitions(ctx, kennels, "a", leases(set, 0), 5))
			return errRollback
		})
		wantIs(t, "Transaction", err, errRollback)
		wantPositions(t, s, r, 0, 0)
		wantIs(t, "MovePartitions", r.MovePartitions(s.ctx, kennels, "a", leases(set, 0), 5), persistence.ErrNoTransaction)
		_, _, err = r.LockPartitions(s.ctx, kennels, 0)
		wantIs(t, "LockPartitions", err, persistence.ErrNoTransaction)
		wantIs(t, "Divide", r.Divide(s.ctx, kennels, "", 2), persistence.ErrNoTransaction)
	}),
}, {
	name: "partitions are locked with the settings",
	says: "LockPartitions returns the settings and their revision, with the number of partitions.",
	run: dividing(func(t testing.TB, s *store, r capability.PartitionRecorder) {
		must(t, r.WriteSettings(s.ctx, kennels, someSettings()))
		s.divide(t, r, "", 4)
		_, _, want, err := r.SettingsRevision(s.ctx, kennels)
		must(t, err)
		must(t, s.transaction(s.ctx, func(ctx context.Context) error {
			settings, revision, err := r.LockPartitions(ctx, kennels, time.Second)
			if err != nil || settings == nil || !settings.Paused() || settings.Partitions != 4 || revision != want {
				t.Errorf("LockPartitions = %+v, %d, %v, want no error, other than nil, Partitions 4 and %v", settings, revision, err, want)
			}
			return nil
		}))
	}),
}, {
	name: "the failure of a partition is kept",
	says: "What a partition has failed with is kept for the owner with the present fence, until it is replaced.",
	run: dividing(func(t testing.TB, s *store, r capability.PartitionRecorder) {
		set := s.lease(t, r, "a", time.Minute, take(s.divide(t, r, "", 2).Partitions...)...)
		failure := persistence.Partition{Number: 1, Fence: set.Partitions[1].Fence, Error: "too bad", NotificationID: 7,
			Since: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)}
		check := func(want persistence.Partition) {
			t.Helper()
			got := s.partitions(t, r).Partitions
			if got[0].Error != "" || got[1].Error != want.Error || got[1].NotificationID != want.NotificationID || !got[1].Since.Equal(want.Since) {
				t.Errorf("the partitions are %+v, want the failure %+v", got, want)
			}
		}
		must(t, r.NotePartition(s.ctx, kennels, "a", failure))
		check(failure)
		must(t, r.NotePartition(s.ctx, kennels, "b", persistence.Partition{Number: 1, Fence: failure.Fence}))
		must(t, r.NotePartition(s.ctx, kennels, "a", persistence.Partition{Number: 1, Fence: failure.Fence - 1}))
		check(failure)
		must(t, r.NotePartition(s.ctx, kennels, "a", persistence.Partition{Number: 1, Fence: failure.Fence}))
		check(persistence.Partition{})
	}),
}, {
	name: "partitions at a deleted end of the log move back to the new one",
	says: "After the last events of a log were deleted no partition is ahead of it, and those before its end stay.",
	run: dividing(func(t testing.TB, s *store, _ capability.PartitionRecorder) {
		deleter, ok := s.process.(capability.OriginatorDeleter)
		if !ok {
			return
		}
		r := s.neighbour.process.(capability.PartitionRecorder)
		rex := s.events.insert(t, history(dog("Rex"), 1, 2)...)
		fido := s.events.insert(t, history(dog("Fido"), 1, 2)...)
		must(t, s.transaction(s.ctx, func(ctx context.Context) error { return r.Divide(ctx, s.name, "", 2) }))
		set, err := r.Partitions(s.ctx, s.name)
		must(t, err)
		set, err = r.ChangeLeases(s.ctx, s.name, "a", take(set.Partitions...), time.Minute)
		must(t, err)
		must(t, s.transaction(s.ctx, func(ctx context.Context) error {
			return errors.Join(r.MovePartitions(ctx, s.name, "a", leases(set, 0), fido[1]), r.MovePartitions(ctx, s.name, "a", leases(set, 1), rex[0]))
		}))
		s.neighbour.positions.back(s.name, rex[0])
		s.delete(t, s.ctx, deleter, dog("Fido"), persistence.DeletedOriginator{Events: 2})
		set, err = r.Partitions(s.ctx, s.name)
		must(t, err)
		if set.Partitions[0].Position != rex[1] || set.Partitions[1].Position != rex[0] {
			t.Errorf("the partitions are %+v, want them at %d and %d", set.Partitions, rex[1], rex[0])
		}
	}),
}}

// dividing is a row for a recorder that keeps partitions.
func dividing(run func(t testing.TB, s *store, r capability.PartitionRecorder)) func(testing.TB, *store) {
	return func(t testing.TB, s *store) {
		t.Helper()
		if r, ok := s.process.(capability.PartitionRecorder); ok {
			run(t, s, r)
		}
	}
}

func (s *store) tryDivide(r capability.PartitionRecorder, key string, count int) error {
	return s.transaction(s.ctx, func(ctx context.Context) error { return r.Divide(ctx, kennels, key, count) })
}

// divide divides the log of the kennels, and returns the partitions.
func (s *store) divide(t testing.TB, r capability.PartitionRecorder, key string, count int) persistence.PartitionSet {
	t.Helper()
	must(t, s.tryDivide(r, key, count))
	return s.partitions(t, r)
}

func (s *store) partitions(t testing.TB, r capability.PartitionRecorder) persistence.PartitionSet {
	t.Helper()
	set, err := r.Partitions(s.ctx, kennels)
	must(t, err)
	return set
}

// lease changes leases, and requires that the set which is returned is the one
// that is stored.
func (s *store) lease(
	t testing.TB, r capability.PartitionRecorder, process string, duration time.Duration, changes ...capability.LeaseChange,
) persistence.PartitionSet {
	t.Helper()
	set, err := r.ChangeLeases(s.ctx, kennels, process, changes, duration)
	must(t, err)
	for i, stored := range s.partitions(t, r).Partitions {
		if got := set.Partitions[i]; got.Fence != stored.Fence || got.Owner != stored.Owner || got.Leased != stored.Leased {
			t.Errorf("partition %d was returned as %+v and is stored as %+v, want the same fence and owner", i, got, stored)
		}
	}
	return set
}

func (s *store) movePartitions(
	t testing.TB, r capability.PartitionRecorder, process string, set persistence.PartitionSet, to int64, want error, numbers ...int,
) {
	t.Helper()
	err := s.transaction(s.ctx, func(ctx context.Context) error {
		return r.MovePartitions(ctx, kennels, process, leases(set, numbers...), to)
	})
	if !errors.Is(err, want) {
		t.Errorf("MovePartitions: got the error %v, want %v", err, want)
	}
}

func leases(set persistence.PartitionSet, numbers ...int) (leases []capability.PartitionLease) {
	for _, number := range numbers {
		p := set.Partitions[number]
		leases = append(leases, capability.PartitionLease{Number: number, Fence: p.Fence, Position: p.Position})
	}
	return leases
}

func take(partitions ...persistence.Partition) []capability.LeaseChange {
	return change(capability.TakeLease, partitions...)
}

func change(action capability.LeaseAction, partitions ...persistence.Partition) (changes []capability.LeaseChange) {
	for _, p := range partitions {
		changes = append(changes, capability.LeaseChange{Number: p.Number, Fence: p.Fence, Action: action})
	}
	return changes
}

func wantLease(t testing.TB, p persistence.Partition, owner string, leased bool) {
	t.Helper()
	if p.Owner != owner || p.Leased != leased {
		t.Errorf("the lease is of %q and in force: %v; want %q, %v", p.Owner, p.Leased, owner, leased)
	}
}

// wantPositions requires the position of a follower, by each method, and those
// of its partitions.
func wantPositions(t testing.TB, s *store, r capability.PartitionRecorder, position int64, of ...int64) {
	t.Helper()
	set := s.partitions(t, r)
	var got []int64
	for _, p := range set.Partitions {
		got = append(got, p.Position)
	}
	at, settings, err := r.Settings(s.ctx, kennels)
	must(t, err)
	if read := s.position(t, kennels); !slices.Equal(got, of) || at != position || read != position || settings.Partitions != len(of) {
		t.Errorf("the positions are %v and the lowest %d (MaxTrackingID), %d (Settings); want %v and %d; the settings have %d partitions",
			got, read, at, of, position, settings.Partitions)
	}
	must(t, s.transaction(s.ctx, func(ctx context.Context) error {
		locked, err := s.process.LockPosition(ctx, kennels)
		if locked != position {
			t.Errorf("LockPosition = %d, want %d", locked, position)
		}
		return err
	}))
}
