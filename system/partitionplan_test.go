package system

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Positions depend on which partition an originator is in, so that must never
// change.
func TestPartitionOfAnOriginatorIsFixed(t *testing.T) {
	for value, want := range map[string][3]int{
		"00000000-0000-0000-0000-000000000000": {0, 12, 220},
		"ffffffff-ffff-ffff-ffff-ffffffffffff": {1, 13, 93},
		"6ba7b810-9dad-11d1-80b4-00c04fd430c8": {0, 10, 26},
		"018f0a3e-7b6c-7def-8123-456789abcdef": {0, 4, 4},
	} {
		id := uuid.MustParse(value)
		got := [3]int{partitionOf(id[:], 2), partitionOf(id[:], 16), partitionOf(id[:], 256)}
		if got != want {
			t.Errorf("%s is in the partitions %v, want %v", value, got, want)
		}
	}
}

// Originators are spread evenly, also if their ids are not random.
func TestPartitionsHaveEquallyManyOriginators(t *testing.T) {
	const ids, count = 16_000, 16
	for name, id := range map[string]func(i int) uuid.UUID{
		"random":     func(int) uuid.UUID { return uuid.New() },
		"ascending":  func(i int) uuid.UUID { return uuid.UUID{14: byte(i >> 8), 15: byte(i)} },
		"multiples":  func(i int) uuid.UUID { return uuid.UUID{13: byte(i >> 12), 14: byte(i >> 4), 15: byte(i << 4)} },
		"at the top": func(i int) uuid.UUID { return uuid.UUID{0: byte(i), 1: byte(i >> 8)} },
	} {
		var has [count]int
		for i := range ids {
			id := id(i)
			has[partitionOf(id[:], count)]++
		}
		for partition, n := range has {
			if n < ids/count*8/10 || n > ids/count*12/10 {
				t.Errorf("%s ids: partition %d has %d of %d, want at least %v and at most %v", name, partition, n, ids, ids/count*8/10, ids/count*12/10)
			}
		}
	}
}

// sharing is the leases of a follower without a store.
type sharing struct {
	set     persistence.PartitionSet
	changes int
}

func newSharing(count int) *sharing {
	s := &sharing{}
	for i := range count {
		s.set.Partitions = append(s.set.Partitions, persistence.Partition{Number: i})
	}
	return s
}

// tick has a process change leases as it plans to.
func (s *sharing) tick(process string) {
	plan := planLeases(s.set, process, false, time.Minute, func(int) bool { return false })
	for _, c := range plan {
		s.changes++
		p := &s.set.Partitions[c.Number]
		switch c.Action {
		case capability.TakeLease:
			p.Owner, p.Leased = process, true
		case capability.RequestLease:
			p.Successor = process
		case capability.HandOverLease:
			p.Owner, p.Successor = p.Successor, ""
		case capability.ReleaseLease:
			p.Owner, p.Leased = "", false
		}
	}
}

// end has the leases of a process end.
func (s *sharing) end(process string) {
	for i := range s.set.Partitions {
		p := &s.set.Partitions[i]
		if p.Owner == process {
			*p = persistence.Partition{Number: p.Number}
		}
		if p.Successor == process {
			p.Successor = ""
		}
	}
}

func (s *sharing) owned() map[string]int {
	owned := map[string]int{}
	for _, p := range s.set.Partitions {
		if p.Leased {
			owned[p.Owner]++
		}
	}
	return owned
}

// Whichever processes come and go, in whatever order they look, all have a fair
// share soon, and then nothing changes any more.
func TestSharesBecomeFair(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		count := 1 + random.IntN(40)
		s := newSharing(count)
		var processes []string
		for step := range 8 {
			if len(processes) > 0 && random.IntN(3) == 0 {
				i := random.IntN(len(processes))
				s.end(processes[i])
				processes = append(processes[:i], processes[i+1:]...)
			} else {
				processes = append(processes, fmt.Sprintf("p%d", step))
			}
			if len(processes) == 0 {
				continue
			}
			before := s.changes
			for range 6 { // ticks of each
				random.Shuffle(len(processes), func(i, j int) { processes[i], processes[j] = processes[j], processes[i] })
				for _, process := range processes {
					s.tick(process)
				}
			}
			least, owned := count/len(processes), s.owned()
			most, total := (count+len(processes)-1)/len(processes), 0
			for _, process := range processes {
				total += owned[process]
				if owned[process] < least || owned[process] > most {
					t.Fatalf("of %d partitions %d processes have %v, want at least %v and at most %v", count, len(processes), owned, least, most)
				}
			}
			if total != count {
				t.Fatalf("%d of %d partitions are leased: %v", total, count, owned)
			}
			if changed := s.changes - before; changed > 3*count {
				t.Errorf("%d changes of %d partitions for one process that came or went, want at most %v", changed, count, 3*count)
			}
			settled := s.changes
			for _, process := range processes {
				s.tick(process)
			}
			if s.changes != settled {
				t.Errorf("%d leases changed although all shares were fair, want 0", s.changes-settled)
			}
		}
	}
}

// A partition that has been free for longer than a lease is taken by a process
// that has its share.
func TestPartitionThatNoOneTakes(t *testing.T) {
	set := persistence.PartitionSet{Partitions: []persistence.Partition{
		{Number: 0, Owner: "a", Leased: true},
		{Number: 1, Owner: "b", Leased: true},
		{Number: 2, Until: time.Now().Add(-time.Second)},
		{Number: 3, Owner: "a", Leased: true},
	}}
	plan := func(avoided int) int {
		return len(planLeases(set, "a", false, time.Minute, func(number int) bool { return number == avoided }))
	}
	if n := plan(-1); n != 0 {
		t.Errorf("a has its share, and changes %d leases, want 0", n)
	}
	set.Partitions[2].Until = time.Now().Add(-2 * time.Minute)
	if n := plan(-1); n != 1 {
		t.Errorf("a changes %d leases, want it to take one", n)
	}
	if n := plan(2); n != 0 {
		t.Errorf("a changes %d leases, and avoids the only one, want 0", n)
	}
}
