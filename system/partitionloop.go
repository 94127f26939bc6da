package system

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// partitionLoop is what a follower loop knows of the partitions of a log. One
// goroutine at a time uses it, and another one renews leases meanwhile.
type partitionLoop struct {
	recorder capability.PartitionRecorder
	lease    time.Duration
	greedy   bool // it takes all partitions that are free, for as long as a command

	loaded    bool // what follows is what the store has, as far as others let it be
	count     int
	key       string
	held      []*heldPartition // in the order of their numbers
	farthest  int64            // the highest position of all partitions, when the store was asked
	refreshed time.Time        // when the store was asked last
	turn      int              // takes turns between partitions at different positions
	avoided   map[int]time.Time

	mu      sync.Mutex // protects what follows
	renewed time.Time  // when the leases were last renewed
	pulled  time.Time  // when the last pull began
	leased  []int      // the numbers of held, for the goroutine that renews
	working []int      // those of which events were begun to be processed by the present pull
}

// heldPartition is a partition that a follower loop has the lease of.
type heldPartition struct {
	number   int
	fence    int64
	position int64
	failure  *partitionFailure // nil unless it has failed
	noted    bool              // the store has a failure of it
	// Since when it has failed at which event, as another process, or this one
	// with a former lease, has noted it.
	notedSince time.Time
	notedID    int64
}

// partitionFailure keeps a partition from being processed for a while. The
// others go on.
type partitionFailure struct {
	err       error
	count     int // in a row
	since     time.Time
	next      time.Time
	announced bool
}

// ticks is how often leases are renewed during the time of one.
const ticks = 5

// avoidedFor is for how long a process leaves a partition to others, if it
// cannot read its next event.
const avoidedFor = time.Minute

// errDivided says that the follower is divided into partitions.
var errDivided = errors.New("the follower is divided into partitions")

// setPartitions says that the follower is divided, or, with nil, whole. Only
// the goroutine that pulls calls it.
func (f *followerLoop) setPartitions(p *partitionLoop) {
	f.partitions = p
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leasing = p
}

func (f *followerLoop) newPartitionLoop() *partitionLoop {
	recorder := f.app.RecorderCapabilities().Partitions
	return &partitionLoop{recorder: recorder, lease: f.config.PartitionLease, greedy: !f.isRun}
}

// pullPartitions is pull for a follower that is divided, or is to be.
func (f *followerLoop) pullPartitions(ctx context.Context) (outcome, error) {
	p := f.partitions
	p.beginPull()
	defer p.endPull()
	waiting := f.newWaiters()
	if f.follower.hasEffects() {
		f.setClaimed(true) // who has the lease makes the calls
	}
	err := f.refreshPartitions(ctx)
	f.idleAt, f.isPaused, f.standingBy = -1, isPaused(err), isLocked(err)
	switch {
	case f.isPaused:
		return paused, nil
	case errors.Is(err, errOvertaken):
		return overtaken, nil
	case err != nil && !f.standingBy:
		return nothingMore, err
	case f.partitions == nil: // it is whole again
		return maybeMore, nil
	}
	f.standingBy = f.standingBy || len(p.held) == 0
	head, err := f.leader.Head(ctx)
	if err != nil {
		return nothingMore, f.failed(persistence.Notification{}, err)
	}
	f.aim(waiting, head)
	if err := f.reachedByAll(ctx); err != nil {
		return nothingMore, err
	}
	if !p.loaded {
		return onStandby, nil
	}
	if err := f.checkPartitionsAhead(ctx, head); err != nil {
		return nothingMore, err
	}
	if f.standingBy = len(p.held) == 0; f.standingBy {
		f.caughtUp(ctx, head) // other processes have the partitions
		return onStandby, nil
	}
	target, err := f.alignmentTarget(head)
	if err != nil {
		return nothingMore, err
	}
	b, err := f.readPartitions(ctx, target)
	if err != nil {
		return nothingMore, f.failed(persistence.Notification{}, err)
	}
	f.progress.Position = p.lowest()
	if len(b.members) == 0 {
		return f.nothingToDo(ctx, head, target)
	}
	b.head = head
	return f.callAndProcess(ctx, b)
}

// nothingToDo concludes a pull that has found nothing to process.
func (f *followerLoop) nothingToDo(ctx context.Context, head, target int64) (outcome, error) {
	p := f.partitions
	failure := f.worstFailure()
	if f.isToDivideAnew() && failure == nil && p.lowest() == target { // all have the same position
		return f.divideAnew(ctx)
	}
	if failure != nil && p.greedy {
		return nothingMore, failure.err
	}
	if failure == nil && p.lowest() == head {
		f.idleAt = head
		f.caughtUp(ctx, head)
	}
	return nothingMore, nil
}

// quietPartitions reports whether the leases need no attention.
func (f *followerLoop) quietPartitions() bool {
	p := f.partitions
	if p == nil {
		return true
	}
	return p.loaded && time.Since(p.refreshed) < p.lease/ticks
}

// refreshPartitions finds out, if it is time to, how the follower is divided,
// takes its share of the partitions, and gives up what is not its own.
func (f *followerLoop) refreshPartitions(ctx context.Context) error {
	p := f.partitions
	if f.quietPartitions() && p.isValid() {
		return nil
	}
	p.loaded = false
	if err := f.loadPersisted(ctx); err != nil {
		return f.failed(persistence.Notification{}, err)
	}
	if _, err := f.readPosition(ctx); err != nil {
		if isPaused(err) || errors.Is(err, errOvertaken) {
			return err
		}
		return f.failed(persistence.Notification{}, err)
	}
	if f.storedPartitions == 0 {
		if !f.follower.partitioning.isDivided() {
			f.setPartitions(nil)
			return nil
		}
		if err := f.divide(ctx); err != nil {
			return err
		}
	}
	began := time.Now()
	set, err := p.recorder.RenewLeases(ctx, f.leader.Name(), f.identity, p.numbers(), p.lease)
	if err != nil {
		return f.failed(persistence.Notification{}, err)
	}
	if len(set.Partitions) == 0 { // it was reset in between
		return errOvertaken
	}
	p.count, p.key = len(set.Partitions), set.Key
	if err := f.checkDivision(ctx, set); err != nil {
		return err
	}
	changes := planLeases(set, f.identity, p.greedy || f.isToDivideAnew(), p.lease, p.isAvoided)
	changes = slices.DeleteFunc(changes, func(c capability.LeaseChange) bool {
		return c.Action == capability.HandOverLease && f.hasUnrecorded(c.Number)
	})
	if len(changes) > 0 {
		set, err = p.recorder.ChangeLeases(ctx, f.leader.Name(), f.identity, changes, p.lease)
		if err != nil {
			return f.failed(persistence.Notification{}, err)
		}
	}
	f.adopt(set)
	p.loaded, p.refreshed = true, time.Now()
	p.setRenewed(began)
	return nil
}

// divide divides a follower that is whole at its present position.
func (f *followerLoop) divide(ctx context.Context) error {
	want := f.follower.partitioning
	err := f.transaction(ctx, func(ctx context.Context) error {
		_, settings, _, err := f.lockSettings(ctx)
		switch {
		case err != nil:
			return err
		case settings == nil || settings.Partitions > 0 || settings.Began == nil:
			return errOvertaken
		}
		return f.partitions.recorder.Divide(ctx, f.leader.Name(), want.key, want.count)
	})
	if err != nil && !errors.Is(err, errOvertaken) && !isLocked(err) {
		err = f.failed(persistence.Notification{}, err)
	}
	if err == nil {
		f.app.Logger().InfoContext(ctx, "follower is divided into partitions", "follower", f.app.Name(), "leader", f.leader.Name(),
			"partitions", want.count)
		f.storedPartitions = want.count
	}
	return err
}

// isToDivideAnew reports whether the follower is divided otherwise than this
// program has it.
func (f *followerLoop) isToDivideAnew() bool {
	p, want := f.partitions, f.follower.partitioning
	return p.count > 0 && (p.count != max(want.count, 1) || p.key != want.key)
}

// checkDivision returns an error if the follower is divided otherwise than this
// program has it, and other processes run it so, or if this program cannot tell
// the partitions. It then gives back those that it has.
func (f *followerLoop) checkDivision(ctx context.Context, set persistence.PartitionSet) error {
	if !f.isToDivideAnew() {
		return nil
	}
	want := f.follower.partitioning
	problem := fmt.Sprintf("it is divided into %s in the log of %s, and this program has %s",
		division(len(set.Partitions), set.Key), f.leader.Name(), division(max(want.count, 1), want.key))
	for _, p := range set.Partitions {
		if p.Leased && p.Owner != f.identity {
			f.releasePartitions(ctx)
			return divisionError{&mistake{f.app.Name(), fmt.Sprintf("%s; it is divided anew as soon as the processes "+
				"that run it so, such as %s, have ended", problem, p.Owner)}}
		}
	}
	same := !slices.ContainsFunc(set.Partitions, func(p persistence.Partition) bool { return p.Position != set.Partitions[0].Position })
	if set.Key != "" && set.Key != want.key && !same {
		f.releasePartitions(ctx)
		return &mistake{f.app.Name(), fmt.Sprintf("%s; its partitions are at different positions, and only a program with "+
			"system.PartitionBy(%q) can process up to the same one: run sync_followers of that program once", problem, set.Key)}
	}
	return nil
}

// divisionError says that a follower cannot be divided anew while another
// process runs it. It may end at any time, so this is not an ErrProgramming.
type divisionError struct{ *mistake }

// Unwrap makes the error a domain.ErrEventSourcing.
func (divisionError) Unwrap() error { return domain.ErrEventSourcing }

// division says how a follower is divided.
func division(count int, key string) string {
	switch {
	case count <= 1:
		return "no partitions"
	case key == "":
		return fmt.Sprintf("%d partitions", count)
	}
	return fmt.Sprintf("%d partitions by %q", count, key)
}

// alignmentTarget is up to where to process: the head, or the position at which
// the follower is to be divided anew.
func (f *followerLoop) alignmentTarget(head int64) (int64, error) {
	p := f.partitions
	if !f.isToDivideAnew() {
		return head, nil
	}
	if len(p.held) < p.count {
		return 0, divisionError{&mistake{f.app.Name(), "it is to be divided anew, and another process has some of its " +
			"partitions; it is tried again"}}
	}
	return min(head, p.highest()), nil
}

// divideAnew divides a follower whose partitions are all at the same position
// as this program has it.
func (f *followerLoop) divideAnew(ctx context.Context) (outcome, error) {
	p, want := f.partitions, f.follower.partitioning
	count := want.count
	if !want.isDivided() {
		count = 0
	}
	err := f.transaction(ctx, func(ctx context.Context) error {
		if _, _, _, err := f.lockSettings(ctx); err != nil {
			return err
		}
		if err := p.recorder.MovePartitions(ctx, f.leader.Name(), f.identity, p.leases(p.held), p.highest()); err != nil {
			return err
		}
		return p.recorder.Divide(ctx, f.leader.Name(), want.key, count)
	})
	p.drop()
	switch {
	case isLocked(err) || errors.Is(err, capability.ErrLeaseLost):
		return maybeMore, nil
	case err != nil:
		return nothingMore, f.failed(persistence.Notification{}, err)
	}
	f.app.Logger().InfoContext(ctx, "follower is divided anew", "follower", f.app.Name(), "leader", f.leader.Name(),
		"partitions", count)
	if count == 0 {
		f.setPartitions(nil)
	}
	return maybeMore, nil
}

// hasUnrecorded reports whether calls were made for events of a partition whose
// results are still to be recorded: another process would make them again.
func (f *followerLoop) hasUnrecorded(number int) bool {
	for _, h := range f.partitions.held {
		if h.number == number && h.failure != nil { // it may keep failing here
			return false
		}
	}
	for _, made := range f.effects {
		if made.partition == number && made.err == nil && !made.undecodable {
			return true
		}
	}
	return false
}

// adopt takes over the leases and positions that the store returned. A position
// differs from the one to which this loop has moved its partition only if the
// row was edited or the database was restored.
func (f *followerLoop) adopt(set persistence.PartitionSet) {
	p := f.partitions
	before := p.held
	p.held, p.farthest = nil, highestOf(set)
	for _, stored := range set.Partitions {
		if stored.Owner != f.identity || !stored.Leased {
			continue
		}
		i := slices.IndexFunc(before, func(h *heldPartition) bool { return h.number == stored.Number && h.fence == stored.Fence })
		if i < 0 {
			p.held = append(p.held, &heldPartition{number: stored.Number, fence: stored.Fence, position: stored.Position,
				noted: stored.Error != "", notedSince: stored.Since, notedID: stored.NotificationID})
			continue
		}
		held := before[i]
		if stored.Position < held.position {
			f.effects = nil
		}
		held.position = stored.Position
		p.held = append(p.held, held)
	}
	// Calls of other processes' partitions, and calls that were recorded, are
	// forgotten.
	for key, made := range f.effects {
		if !slices.ContainsFunc(p.held, func(h *heldPartition) bool {
			return (made.partition < 0 || h.number == made.partition) && h.position < key.position
		}) {
			delete(f.effects, key)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leased = p.numbers()
}

// checkPartitionsAhead is findAhead for the highest position of all partitions,
// also of those that other processes have: when this one takes them over, the
// log may have grown beyond their positions.
func (f *followerLoop) checkPartitionsAhead(ctx context.Context, head int64) error {
	p := f.partitions
	_, lookedAgain, err := f.findAhead(ctx, max(p.farthest, p.highest()), head)
	if lookedAgain {
		p.loaded = false // a deletion may have moved it back
	}
	if err == nil && !p.loaded {
		return f.refreshPartitions(ctx)
	}
	return err
}

// highestPosition is the highest position of all partitions as stored.
func (p *partitionLoop) highestPosition(ctx context.Context, upstream string) (int64, error) {
	set, err := p.recorder.Partitions(ctx, upstream)
	return highestOf(set), err
}

func highestOf(set persistence.PartitionSet) (position int64) {
	for _, p := range set.Partitions {
		position = max(position, p.Position)
	}
	return position
}

func lowestOf(set persistence.PartitionSet) (position int64) {
	for i, p := range set.Partitions {
		if i == 0 || p.Position < position {
			position = p.Position
		}
	}
	return position
}

// readPartitions reads a batch for some of the partitions that are held, up to
// the id target: those at the same position, and those that the batch comes to.
// Partitions at other positions have the next turn.
func (f *followerLoop) readPartitions(ctx context.Context, target int64) (b batch, err error) {
	p := f.partitions
	var ready []*heldPartition
	var positions []int64
	for _, h := range p.held {
		if h.position < target && (h.failure == nil || !p.greedy && !time.Now().Before(h.failure.next)) {
			ready, positions = append(ready, h), append(positions, h.position)
		}
	}
	if len(ready) == 0 {
		return b, nil
	}
	slices.Sort(positions)
	positions = slices.Compact(positions)
	p.turn++
	from := positions[p.turn%len(positions)]
	ready = slices.DeleteFunc(ready, func(h *heldPartition) bool { return h.position < from })
	limit := f.batchLimit()
	rows := min(limit*(p.count+len(ready)-1)/len(ready), persistence.MaxPage)
	wanted := f.restrict(persistence.NotificationRange{After: from, Limit: rows})
	events, end, err := f.readEvents(ctx, wanted, target)
	if err != nil {
		return b, err
	}
	b = batch{from: from, to: endOfPage(events, rows, end), head: target}
	for _, n := range events {
		if slices.Contains(wanted.Except, n.Topic) {
			continue
		}
		number, isOurs := f.isOurs(n, ready)
		if !isOurs {
			continue
		}
		if len(b.events) == limit {
			b.to = b.events[limit-1].ID
			break
		}
		b.events, b.numbers = append(b.events, n), append(b.numbers, number)
	}
	b.rows = len(b.events)
	b.members = slices.DeleteFunc(ready, func(h *heldPartition) bool { return h.position >= b.to })
	return b, nil
}

// isOurs returns the partition of an event, and reports whether the event is to
// be processed for one of some partitions.
func (f *followerLoop) isOurs(n persistence.Notification, among []*heldPartition) (number int, isOurs bool) {
	number = f.partitionOf(n)
	return number, slices.ContainsFunc(among, func(h *heldPartition) bool {
		return (number < 0 || h.number == number) && h.position < n.ID
	})
}

// partitionOf returns the partition of an event. It is -1, for all partitions,
// if the key of the event cannot be found: it cannot be decoded, or the function
// of PartitionBy panics. Such an event is not processed.
func (f *followerLoop) partitionOf(n persistence.Notification) (number int) {
	p := f.partitions
	if p.key == "" {
		return partitionOf(n.OriginatorID[:], p.count)
	}
	defer func() {
		if recover() != nil {
			number = -1
		}
	}()
	event, err := f.leader.Decode(n)
	if err != nil {
		return -1
	}
	return partitionOf([]byte(f.follower.partitioning.of(event)), p.count)
}

// keyError is why an event has no partition, if it can be decoded. Each process
// that has partitions comes to such an event, so none of them may process it.
func (f *followerLoop) keyError(n persistence.Notification) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = f.failed(n, fmt.Errorf("the function of system.PartitionBy panicked, and the event has no partition: %w",
				&panicError{value, debug.Stack()}))
		}
	}()
	event, err := f.leader.Decode(n)
	if err != nil {
		return nil // which is an error when the event is processed
	}
	f.follower.partitioning.of(event)
	return f.failed(n, errors.New("the function of system.PartitionBy panics for an event at one time and not at another"))
}

// lockPartitions locks a batch of partitions: what was found out about the
// follower before must still hold.
func (f *followerLoop) lockPartitions(ctx context.Context) error {
	p := f.partitions
	settings, revision, err := p.recorder.LockPartitions(ctx, f.leader.Name(), f.wait)
	switch {
	case err != nil:
		return f.failed(persistence.Notification{}, err)
	case settings == nil || settings.Partitions != p.count || f.settled != "" && settings.Topics != f.settled:
		return errOvertaken
	case settings.Paused():
		return f.paused()
	case f.revision == nil || revision != *f.revision:
		return errOutOfDate
	}
	return nil
}

// movePartitions moves those partitions of a batch that are before a position.
// After a batch that has taken long, other processes may have those of which no
// event was processed, and they are left out.
func (f *followerLoop) movePartitions(ctx context.Context, b batch, to int64, processed int) error {
	p := f.partitions
	var required, idle []*heldPartition
	for _, h := range b.members {
		switch {
		case h.position >= to:
		case p.isLong() && !slices.Contains(b.numbers[:processed], h.number) && !slices.Contains(b.numbers[:processed], -1):
			idle = append(idle, h)
		default:
			required = append(required, h)
		}
	}
	move := func(of ...*heldPartition) error {
		if len(of) == 0 {
			return nil
		}
		return p.recorder.MovePartitions(ctx, f.leader.Name(), f.identity, p.leases(of), to)
	}
	err := move(required...)
	for _, h := range idle {
		if failed := move(h); errors.Is(failed, capability.ErrLeaseLost) {
			p.loaded = false // which finds out what is still held
		} else {
			err = errors.Join(err, failed)
		}
	}
	if errors.Is(err, capability.ErrLeaseLost) {
		return fmt.Errorf("%w: %w", errOvertaken, err)
	}
	return err
}

// concludePartitions takes down what has become of a batch before the outcome
// is found.
func (f *followerLoop) concludePartitions(ctx context.Context, b batch, position int64, err error) {
	p := f.partitions
	if err != nil {
		// What the store has is read again: the outcome of a commit may be
		// unknown, and a lease lost.
		p.loaded = false
		return
	}
	for _, h := range b.members {
		if h.position < position {
			h.position = position
			h.failure = nil
			if h.noted {
				f.notePartition(ctx, h)
			}
		}
	}
	f.progress.Position = p.lowest()
}

// partitionFailed records that a partition's next event cannot be processed, so
// that the other partitions go on without it until its next try. It returns false
// if the failure is not about one partition.
func (f *followerLoop) partitionFailed(ctx context.Context, b batch, err error) bool {
	p := f.partitions
	newer := errors.Is(err, persistence.ErrNewerProgram)
	if p == nil || len(b.events) != 1 || !newer && f.isAboutStore(err) {
		return false
	}
	i := slices.IndexFunc(b.members, func(h *heldPartition) bool { return h.number == b.numbers[0] })
	if i < 0 {
		return false
	}
	h := b.members[i]
	if h.failure == nil {
		h.failure = &partitionFailure{since: time.Now()}
		if h.noted && h.notedID == b.events[0].ID {
			h.failure.since = h.notedSince
		}
	}
	h.failure.err, h.failure.announced = f.failed(b.events[0], err), false
	h.failure.next = time.Now().Add(f.retryTime(h.failure.count))
	h.failure.count++
	f.oneByOne = 0
	f.notePartition(ctx, h)
	if newer { // another process may have the newer program
		p.avoid(h.number)
	}
	return true
}

// retryTime is how long to wait after so many failures before.
func (f *followerLoop) retryTime(failures int) time.Duration {
	return shortened(min(f.config.ShortestRetry<<min(failures, 10), f.config.LongestRetry))
}

// worstFailure is the failure of a partition that has failed for the longest
// time, or nil.
func (f *followerLoop) worstFailure() (worst *partitionFailure) {
	if f.partitions == nil {
		return nil
	}
	for _, h := range f.partitions.held {
		if h.failure != nil && (worst == nil || h.failure.since.Before(worst.since)) {
			worst = h.failure
		}
	}
	return worst
}

// notePartition keeps what a partition has failed with, or that it has
// recovered, for other processes to see.
func (f *followerLoop) notePartition(ctx context.Context, h *heldPartition) {
	h.noted = h.failure != nil
	note := persistence.Partition{Number: h.number, Fence: h.fence}
	if h.failure != nil {
		note.Error, note.Since = keepable(textOf(h.failure.err)), h.failure.since.UTC()
		if failed, ok := errors.AsType[*ProcessingError](h.failure.err); ok {
			note.NotificationID = failed.NotificationID
		}
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	err := f.partitions.recorder.NotePartition(ctx, f.leader.Name(), f.identity, note)
	if err != nil && ctx.Err() == nil {
		f.app.Logger().WarnContext(ctx, "the failure of a partition cannot be kept", "follower", f.app.Name(), "error", err)
	}
}

// reachedByAll ends the waiting for positions that all partitions have reached,
// those of other processes as well.
func (f *followerLoop) reachedByAll(ctx context.Context) error {
	p := f.partitions
	if !f.hasWaiters() {
		return nil
	}
	position := p.lowest()
	if len(p.held) < p.count {
		var err error
		if position, err = f.app.Recorder().MaxTrackingID(ctx, f.leader.Name()); err != nil {
			return f.failed(persistence.Notification{}, err)
		}
	}
	f.reached(position)
	return nil
}

// keepLeases renews the leases while a batch takes long: those of its
// partitions for as long as it takes, and others for one lease, so that other
// processes go on with them. A follower may be divided while it runs.
func (f *followerLoop) keepLeases(ctx context.Context) {
	ticker := time.NewTicker(f.config.PartitionLease / ticks)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		f.guarded(ctx, func() { f.renewLeases(ctx) })
	}
}

func (f *followerLoop) renewLeases(ctx context.Context) {
	f.mu.Lock()
	p := f.leasing
	f.mu.Unlock()
	if p == nil {
		return
	}
	numbers := p.toRenew()
	if len(numbers) == 0 {
		return
	}
	began := time.Now()
	renewing, cancel := context.WithTimeout(ctx, p.lease)
	defer cancel()
	_, err := p.recorder.RenewLeases(renewing, f.leader.Name(), f.identity, numbers, p.lease)
	if err == nil {
		p.setRenewed(began)
	} else if ctx.Err() == nil {
		f.app.Logger().WarnContext(ctx, "the leases of partitions cannot be renewed", "follower", f.app.Name(), "error", err)
	}
}

// releasePartitions gives up all leases, so that others need not wait for their
// end.
func (f *followerLoop) releasePartitions(ctx context.Context) {
	p := f.partitions
	if p == nil || len(p.held) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusTimeout)
	defer cancel()
	changes := make([]capability.LeaseChange, len(p.held))
	for i, h := range p.held {
		changes[i] = capability.LeaseChange{Number: h.number, Fence: h.fence, Action: capability.ReleaseLease}
	}
	p.drop()
	if _, err := p.recorder.ChangeLeases(ctx, f.leader.Name(), f.identity, changes, p.lease); err != nil {
		f.app.Logger().WarnContext(ctx, "the leases of partitions cannot be given up, and end by themselves",
			"follower", f.app.Name(), "error", err)
	}
}

// holdsAll reports whether the loop has all partitions, or the follower is not
// divided.
func (f *followerLoop) holdsAll() bool {
	return f.partitions == nil || f.partitions.loaded && len(f.partitions.held) == f.partitions.count
}

// drop forgets all leases, so that none is renewed.
func (p *partitionLoop) drop() {
	p.held, p.loaded = nil, false
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leased = nil
}

func (p *partitionLoop) numbers() (numbers []int) {
	for _, h := range p.held {
		numbers = append(numbers, h.number)
	}
	return numbers
}

func (p *partitionLoop) leases(of []*heldPartition) (leases []capability.PartitionLease) {
	for _, h := range of {
		leases = append(leases, capability.PartitionLease{Number: h.number, Fence: h.fence, Position: h.position})
	}
	return leases
}

// lowest is the lowest position that is held.
func (p *partitionLoop) lowest() (position int64) {
	for i, h := range p.held {
		if i == 0 || h.position < position {
			position = h.position
		}
	}
	return position
}

// lowestAfter is the lowest position that is held after a batch, which has
// brought its partitions to a position. One that has failed is among them: it
// is what an observer has to see.
func (p *partitionLoop) lowestAfter(b batch, position int64) int64 {
	lowest := position
	for _, h := range p.held {
		if !slices.Contains(b.members, h) {
			lowest = min(lowest, h.position)
		}
	}
	return lowest
}

func (p *partitionLoop) highest() (position int64) {
	for _, h := range p.held {
		position = max(position, h.position)
	}
	return position
}

func (p *partitionLoop) isAvoided(number int) bool { return time.Now().Before(p.avoided[number]) }

func (p *partitionLoop) avoid(number int) {
	if p.greedy {
		return
	}
	if p.avoided == nil {
		p.avoided = map[int]time.Time{}
	}
	p.avoided[number] = time.Now().Add(avoidedFor)
	p.loaded = false
}

func (p *partitionLoop) beginPull() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulled = time.Now()
}

func (p *partitionLoop) endPull() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.working = nil
}

// work takes down that events of partitions are being processed.
func (p *partitionLoop) work(numbers ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, number := range numbers {
		if number < 0 {
			p.working = slices.Clone(p.leased)
			return
		}
		if !slices.Contains(p.working, number) {
			p.working = append(p.working, number)
		}
	}
}

// isLong reports whether the present pull has taken longer than a lease.
func (p *partitionLoop) isLong() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.pulled) >= p.lease
}

// toRenew are the partitions whose leases are to be renewed.
func (p *partitionLoop) toRenew() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case time.Since(p.renewed) < p.lease/ticks:
		return nil
	case time.Since(p.pulled) < p.lease:
		return p.leased
	}
	return slices.Clone(p.working)
}

func (p *partitionLoop) setRenewed(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renewed = at
}

// isValid reports whether the leases are in force as far as this process knows.
// The clock of the machine tells of a time in which it was suspended.
func (p *partitionLoop) isValid() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(time.Since(p.renewed), time.Now().Round(0).Sub(p.renewed.Round(0))) < p.lease*4/5
}
