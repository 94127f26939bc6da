package system

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// mostPartitions is how many partitions a follower can have: all of them are
// read and written together.
const mostPartitions = 256

// partitioning says how a follower is to be divided. The zero value is a
// follower that is not.
type partitioning struct {
	count int
	key   string // the name of what events are divided by; "" is the originator
	of    func(domain.Event) string
}

// Partitions lets several processes process the events of one leader at the
// same time. The events are divided into count partitions by their originators:
// those of one originator are all in one partition, and are processed in order,
// each once. The processes that run the follower share the partitions, and
// share them anew when one comes or goes; there should be several times as many
// partitions as processes. The order between different originators is not kept.
//
// Handlers must not depend on that order, and handlers of two processes may run
// at the same time; those of one Runner do not. The store must keep partitions,
// as gormstore and memory do, and count is from 2 to 256. A count of 1 is a
// follower that is not divided, which is the default.
//
// What is divided stays so while a process runs it. To change the count, the
// key, or back to a follower that is not divided, stop all processes and start
// those of the new program: the first of them brings all partitions to the same
// position, and then divides the follower anew. Until then it does not process
// what comes after, and until the last process of the other kind has ended it
// processes nothing, and says so.
func Partitions(count int) FollowerOption {
	return func(f *Follower) error {
		switch {
		case count < 1 || count > mostPartitions:
			return fmt.Errorf("it cannot have %d partitions; give from 1 to %d", count, mostPartitions)
		case f.partitioning.count > 0:
			return fmt.Errorf("system.Partitions is given twice, with %d and %d", f.partitioning.count, count)
		}
		f.partitioning.count = count
		return nil
	}
}

// PartitionBy divides the events by what of returns instead of by their
// originators, such as the customer that several aggregates belong to: the
// events with one value are processed in order. of must always return the same
// for one event. name names it, and is stored: give it another name if what it
// returns changes, so that no event is lost or repeated.
//
// If the events of one aggregate have different values, their order is not
// kept, and neither is it by Park. Every process decodes every event to find
// its partition.
func PartitionBy(name string, of func(event domain.Event) string) FollowerOption {
	return func(f *Follower) error {
		switch {
		case name == "" || of == nil:
			return errors.New("system.PartitionBy needs a name and a function")
		case f.partitioning.of != nil:
			return errors.New("system.PartitionBy is given twice")
		}
		f.partitioning.key, f.partitioning.of = name, of
		return nil
	}
}

// isDivided reports whether the follower is to be divided.
func (p partitioning) isDivided() bool { return p.count > 1 }

// partitionOf is the partition that a value belongs to. It must never change,
// because positions depend on it.
func partitionOf(value []byte, count int) int {
	hash := fnv.New64a()
	_, _ = hash.Write(value) // it returns no error
	sum := hash.Sum64()
	return int((sum ^ sum>>32) % uint64(count))
}

// planLeases says which leases a process changes so that all processes have a
// fair share: it hands over what others have asked for, takes what is free, and
// asks the process with the most for what it lacks. A process that is greedy
// takes all that is free. avoided are partitions that it does not take.
func planLeases(
	set persistence.PartitionSet, process string, greedy bool, lease time.Duration, avoided func(number int) bool,
) (changes []capability.LeaseChange) {
	share := newShares(set, process)
	change := func(p persistence.Partition, action capability.LeaseAction) {
		changes = append(changes, capability.LeaseChange{Number: p.Number, Fence: p.Fence, Action: action})
	}
	var free []persistence.Partition
	for _, p := range set.Partitions {
		isOwn := p.Owner == process
		switch {
		case p.Leased && isOwn && p.Successor != "":
			change(p, capability.HandOverLease)
		case p.Leased && isOwn && avoided(p.Number):
			change(p, capability.ReleaseLease)
		case !p.Leased && !avoided(p.Number):
			free = append(free, p)
		}
	}
	// One that has been free for long is taken in any case: those that should
	// take it do not.
	waited := func(p persistence.Partition) bool { return !p.Until.IsZero() && time.Since(p.Until) > lease }
	for _, p := range free {
		if greedy || share.of[process] < share.most || waited(p) {
			change(p, capability.TakeLease)
			share.of[process]++
		}
	}
	if greedy || len(free) > 0 {
		return changes
	}
	for share.of[process] < share.least {
		i := share.toAsk(set, process, avoided, changes)
		if i < 0 {
			break
		}
		change(set.Partitions[i], capability.RequestLease)
		share.of[process]++
		share.of[set.Partitions[i].Owner]--
	}
	return changes
}

// shares are how many partitions each process has, or will have when it is
// given what it has asked for.
type shares struct {
	of          map[string]int
	least, most int // of each process, if all have a fair share
}

func newShares(set persistence.PartitionSet, process string) shares {
	s := shares{of: map[string]int{process: 0}}
	for _, p := range set.Partitions {
		switch {
		case !p.Leased:
		case p.Successor != "":
			s.of[p.Successor]++
			s.of[p.Owner] += 0
		default:
			s.of[p.Owner]++
		}
	}
	s.least = len(set.Partitions) / len(s.of)
	s.most = (len(set.Partitions) + len(s.of) - 1) / len(s.of)
	return s
}

// toAsk returns the index of a partition of the process that has the most, if
// that is more than a fair share, or -1.
func (s shares) toAsk(
	set persistence.PartitionSet, process string, avoided func(int) bool, changes []capability.LeaseChange,
) int {
	best := -1
	for i, p := range set.Partitions {
		isAsked := slices.ContainsFunc(changes, func(c capability.LeaseChange) bool { return c.Number == p.Number })
		if !p.Leased || p.Owner == process || p.Successor != "" || isAsked || avoided(p.Number) || s.of[p.Owner] <= s.least {
			continue
		}
		if best < 0 || s.of[p.Owner] > s.of[set.Partitions[best].Owner] {
			best = i
		}
	}
	return best
}
