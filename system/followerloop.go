package system

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// fewestEvents are read at least, however slow the handlers are. A batch that
// has waited for its locks should not end because it has read too little.
const fewestEvents = 100

// After a conflict so many batches lock the follower's log before they read. If
// one writer conflicts, others will soon, and a batch that conflicts is work
// done twice, or a second lost by a deadlock. There are four times as many if
// the next conflict comes soon, up to mostContendedBatches.
const (
	contendedBatches     = 10
	mostContendedBatches = 16 * contendedBatches
)

// A batch that locks its log takes so many times as long as it was kept from
// work: since the last batch ended, or at least for the lock. That holds where
// it is longer than Config.BatchTime, up to longestBatches times Config.BatchTime.
// So the follower gets its share also on a machine where everything takes long.
const (
	workPerWait    = 2
	longestBatches = 10
)

// A store that cannot lock a log has a batch repeated at once after a conflict
// so many times in a row. Then the conflict is an error like any other.
const conflictRetries = 10

// fullPolls is how many polls in a row may look at the leader's head alone. The
// next one also reads the position, which may have been reset.
const fullPolls = 10

// followerLoop is one follower's following of one leader. One goroutine at a
// time may pull.
type followerLoop struct {
	follower *Follower
	app      bridge.Application
	leader   Leader
	topics   []string // under all names; none if all are wanted
	config   Config
	identity string        // of the runner or command
	wait     time.Duration // for the position; 0 is the store's lock timeout

	took          time.Duration // by the last batch
	waited        time.Duration // by the last batch, for the locks
	endedAt       time.Time     // when the last batch ended; zero if there was nothing more to do
	parkedInBatch int           // how many events of the last batch were parked
	limit         int           // how many events are read at once
	window        window        // of ids, in which events of some topics are read at once
	oneByOne      int           // how many events are still processed singly after an error
	locking       int           // how many batches lock the log before they read, after a conflict
	contended     int           // locking after the last conflict, less one per unlocked batch
	saves         *savedLogs    // by the last batch; nil before the first
	logs          contendedLogs // which are locked
	retries       int           // in a row, after deadlocks, and conflicts without a lock
	ahead         *aheadError   // set once the position was found to be ahead of the log
	idleAt        int64         // the position that the last pull found at the head, or -1
	left          int64         // the position that the last pull has moved it to, or -1
	polls         int           // how many polls in a row were quiet
	progress      Processed     // in all pulls
	exit          *exit         // a batch whose goroutine the handler has ended
	lagIsReported bool          // the last batch that was reported has left a lag

	isRun            bool           // by a Runner, and not by a command
	partitions       *partitionLoop // nil if the follower is not divided
	storedPartitions int            // as they were read with the position

	effects       effects   // calls that are not recorded yet
	claims        bool      // whether it writes that it makes the calls, so that others do not
	claimedAt     time.Time // when that was written last, by itself
	lastRead      int64     // the position
	failing       failures  // of the event that failed last
	loaded        bool      // whether the store was asked what other processes know
	savedAhead    int64     // the position of ahead as the store has it, or 0
	mayHaveParked bool      // events may be parked, after which others have to be
	settled       string    // the topics as this loop has recorded them, or ""
	// revision is that of the settings which were read with the position, or
	// nil if they have none.
	revision   *int64
	topicNote  string // what a person should know of the topics
	warned     string // the warning of the settings that was logged last
	isPaused   bool   // as the last pull has found it
	standingBy bool   // as well: another process holds the position

	mu       sync.Mutex     // protects what follows
	leasing  *partitionLoop // the partitions, for the goroutine that renews their leases
	claimed  bool           // whether it makes the calls of effects
	stopped  bool           // no runner pulls any more
	status   Status
	current  currentEvent
	waiters  []*waiter
	position int64  // as it was last read or moved, for waiters
	wake     func() // wakes the goroutine that pulls, if there is one
	retryNow bool   // the next pull does not wait for the time of a retry
	pulls    int    // how many were begun
	pulling  bool   // the last of them has not ended
}

func newFollowerLoop(follower *Follower, leader Leader, config Config) *followerLoop {
	f := &followerLoop{follower: follower, app: follower.app, leader: leader, config: config, idleAt: -1, left: -1,
		limit: config.BatchEvents, mayHaveParked: follower.park != nil, identity: newIdentity()}
	for _, names := range follower.topics(leader) {
		f.topics = append(f.topics, names...)
	}
	f.status = Status{Follower: f.app.Name(), Leader: leader.Name(), State: Stopped}
	if follower.partitioning.isDivided() {
		f.setPartitions(f.newPartitionLoop())
	}
	return f
}

// again returns a follower loop of the same follower that has not pulled yet.
func (f *followerLoop) again(leader Leader) *followerLoop {
	return newFollowerLoop(f.follower, leader, f.config)
}

// errOvertaken says that another process has moved the position. Nothing of the
// batch was stored, and nothing is lost.
var errOvertaken = errors.New("another process of the follower was faster")

// errMovedAtCommit is errOvertaken of a store that compares positions when a
// transaction commits, in place of locking them.
var errMovedAtCommit = fmt.Errorf("%w: it has moved the position before the commit", errOvertaken)

// errOutOfDate says that events of the leader may have been deleted since a
// batch was read. Nothing of the batch was stored, and nothing is lost.
var errOutOfDate = errors.New("events of the leader were deleted since they were read")

// batch is what is processed at once: a part of the leader's log between two
// positions.
type batch struct {
	from   int64
	events []persistence.Notification
	rows   int   // how many events were read, also those that are passed over
	to     int64 // after the last event if others were passed over
	head   int64 // the end of the log before the events were read

	// Of a follower that is divided: whose events they are, and the partition of
	// each event, which is -1 if it concerns all.
	members []*heldPartition
	numbers []int
}

// position is the position of a batch after so many of its events.
func (b batch) position(processed int) int64 {
	switch processed {
	case len(b.events):
		return b.to
	case 0:
		return b.from
	}
	return b.events[processed-1].ID
}

// outcome is what a pull that did not fail leaves to do.
type outcome int

const (
	nothingMore outcome = iota
	maybeMore
	overtaken       // by another process of the follower, which is at work
	retriedOneByOne // it failed, and is tried again at once, one event at a time
	retriedAtOnce   // it met a save of another writer or a deletion, and is tried again at once
	paused          // nothing is processed until the follower is resumed
	onStandby       // another process of the follower holds its position
)

// pull processes the next batch.
func (f *followerLoop) pull(ctx context.Context) (outcome, error) {
	if f.partitions != nil {
		return f.pullPartitions(ctx)
	}
	held := true
	if f.follower.hasEffects() {
		var err error
		if held, err = f.claim(ctx); err != nil {
			return nothingMore, err
		}
	}
	b, err := f.read(ctx)
	if errors.Is(err, errDivided) {
		f.setPartitions(f.newPartitionLoop())
		return f.pullPartitions(ctx)
	}
	f.progress.Position = b.from
	f.isPaused, f.standingBy = isPaused(err), isLocked(err) || err == nil && !held
	switch {
	case f.isPaused:
		return paused, nil
	case f.standingBy:
		return onStandby, nil
	case errors.Is(err, errOvertaken):
		return overtaken, nil
	case err != nil:
		f.endedAt = time.Time{}
		return nothingMore, err
	case b.from == b.to:
		f.endedAt = time.Time{}
		f.caughtUp(ctx, b.to)
		return nothingMore, nil
	}
	return f.callAndProcess(ctx, b)
}

// callAndProcess makes the calls for the events of a batch, processes it, and
// takes down what became of it.
func (f *followerLoop) callAndProcess(ctx context.Context, b batch) (outcome, error) {
	f.parkedInBatch = 0
	observed := f.batchStart(ctx, b)
	b, failure, err := f.callEffects(observed.ctx, b)
	if err != nil || failure != nil {
		f.batchDone(observed, b, 0, cmp.Or(err, failure))
	}
	switch {
	case errors.Is(err, errOvertaken):
		return overtaken, nil
	case err != nil:
		return nothingMore, err
	case failure != nil:
		return f.concludeCall(ctx, b, failure)
	}
	f.exit = &exit{batch: b, observed: observed} // until it returns
	begin := time.Now()
	processed, err := f.process(observed.ctx, b)
	f.endedAt, f.exit = time.Now(), nil
	f.took = f.endedAt.Sub(begin)
	f.batchDone(observed, b, processed, err)
	return f.conclude(ctx, b, processed, err)
}

// exit is a batch that has not returned, because its goroutine has ended.
type exit struct {
	batch    batch
	event    persistence.Notification // in which it ended; its id is 0 if in none
	observed observation
}

// errGoexit is what becomes of a handler that ends its goroutine.
var errGoexit = errors.New("the handler has ended its goroutine with runtime.Goexit")

// resume is pull for a goroutine that takes over from one that a handler has
// ended: the batch in which it ended has failed.
func (f *followerLoop) resume(ctx context.Context) (outcome, error) {
	if f.exit == nil {
		return f.pull(ctx)
	}
	ended := *f.exit
	f.exit = nil
	err := f.failed(ended.event, errGoexit)
	f.batchDone(ended.observed, ended.batch, 0, err)
	return f.conclude(ctx, ended.batch, 0, err)
}

// noteExit takes down that a handler has ended its goroutine, if it has. The
// batch was rolled back, and the next pull reads it again.
func (f *followerLoop) noteExit() {
	if f == nil || f.exit == nil {
		return
	}
	f.setStatus(f.failed(f.exit.event, errGoexit), time.Time{})
	f.exit = nil
}

// conclude takes down what became of a batch.
func (f *followerLoop) conclude(ctx context.Context, b batch, processed int, err error) (outcome, error) {
	f.oneByOne = max(f.oneByOne-processed, 0)
	if processed > 0 {
		f.retries = 0
	}
	// Meeting another writer says nothing about the handler's speed.
	if processed > 0 || !f.metWriter(err) {
		f.adapt(processed, len(b.events))
	}
	f.progress.Events += processed - f.parkedInBatch
	f.progress.Parked += f.parkedInBatch
	if f.partitions != nil {
		f.forgetEvents(b.events[:processed])
		f.concludePartitions(ctx, b, b.position(processed), err)
	} else {
		f.progress.Position = b.position(processed)
		f.forget(f.progress.Position)
		f.reached(f.progress.Position)
	}
	switch {
	case err == nil && f.partitions != nil:
		return maybeMore, nil
	case err == nil && (len(b.events) > 0 || b.to < b.head):
		f.left, f.lastRead = f.progress.Position, f.progress.Position
		return maybeMore, nil
	case err == nil:
		return nothingMore, nil
	case isPaused(err):
		f.isPaused = true
		return paused, nil
	case isLocked(err):
		f.standingBy = true
		return onStandby, nil
	case errors.Is(err, errOvertaken):
		return overtaken, nil
	case errors.Is(err, errOutOfDate), errors.Is(err, errNotCalled), ctx.Err() == nil && f.repeats(err):
		return retriedAtOnce, nil
	case ctx.Err() == nil && f.retriesOneByOne(b, err):
		f.oneByOne = len(b.events) - processed
		return retriedOneByOne, nil
	case ctx.Err() == nil && f.parks(b, err):
		return f.park(ctx, b, err)
	case ctx.Err() == nil && f.partitionFailed(ctx, b, err):
		return maybeMore, nil
	}
	return nothingMore, f.failed(b.suspect(), err)
}

// adapt limits what is read to the events that will probably be processed
// before the time of a batch is over: the others would be read again.
func (f *followerLoop) adapt(processed, read int) {
	switch {
	case f.oneByOne > 0:
	case processed < read:
		f.limit = min(max(4*processed, fewestEvents), f.config.BatchEvents)
	default:
		f.limit = min(2*f.limit, f.config.BatchEvents)
	}
}

// metWriter reports whether a batch failed because of another writer: they
// saved the same aggregate, or waited for each other.
func (f *followerLoop) metWriter(err error) bool {
	class, _ := f.classify(err) // of a handler's own statement
	return persistence.IsConflict(err) || errors.Is(err, persistence.ErrRetryTransaction) ||
		errors.Is(class, persistence.ErrRetryTransaction)
}

// repeats reports whether a batch is repeated at once, because it met another
// writer. That is no failure. The batch then locks the logs that it has saved to
// before it reads, so that no other save can come between. A conflict under the
// locks is the handler's own. A deadlock is not: the other writer may wait for
// rows of the handler's, or be a program that takes locks in another order.
func (f *followerLoop) repeats(err error) bool {
	if !f.metWriter(err) {
		return false
	}
	isNew := f.contend()
	if own := f.app.RecorderCapabilities().Locker; own != nil && len(f.logs) == 0 {
		f.logs[f.app.Name()] = own // it has met a writer of other tables
		isNew = true
	}
	switch {
	case isNew:
		return true
	case len(f.logs) == 0:
		f.locking = 0
	case persistence.IsConflict(err):
		return false
	}
	f.retries++
	return f.retries <= conflictRetries
}

// contend has the next batches lock the logs that the last one has saved to. It
// reports whether they did not lock one of them yet.
func (f *followerLoop) contend() (isNew bool) {
	if f.locking == 0 {
		f.logs = contendedLogs{}
		f.contended = min(max(4*f.contended, contendedBatches), mostContendedBatches)
	}
	f.locking = f.contended
	return f.logs.add(f.saves)
}

// lockLogs keeps other writers out of the logs until the transaction ends.
func (f *followerLoop) lockLogs(ctx context.Context) error {
	for _, name := range f.logs.names() {
		err := f.logs[name].LockLog(ctx)
		if errors.Is(err, persistence.ErrProgramming) && name != f.app.Name() {
			delete(f.logs, name) // it is in another database, in which the batch does not write
			continue
		}
		if err != nil {
			return f.failed(persistence.Notification{}, err)
		}
	}
	return nil
}

// retriesOneByOne reports whether a batch that failed is tried again at once,
// one event at a time: the events before the one at fault are then stored, and
// a conflict with another writer's save does not happen again.
func (f *followerLoop) retriesOneByOne(b batch, err error) bool {
	if f.oneByOne > 0 || f.isRetryable(err) || errors.Is(err, errUnlockedMove) {
		return false
	}
	return persistence.IsConflict(err) || len(b.events) > 1
}

// suspect is the event that an error of the whole batch is about, if that is
// certain.
func (b batch) suspect() (n persistence.Notification) {
	if len(b.events) == 1 {
		n = b.events[0]
	}
	return n
}

// read reads the position and the batch after it. The head is read before the
// events: what is recorded in between is after it.
func (f *followerLoop) read(ctx context.Context) (batch, error) {
	f.idleAt = -1
	waiting := f.newWaiters()
	if err := f.loadPersisted(ctx); err != nil {
		return batch{}, f.failed(persistence.Notification{}, err)
	}
	position, head, err := f.ends(ctx)
	switch {
	case isPaused(err) || errors.Is(err, errOvertaken) || errors.Is(err, errDivided):
		return batch{from: position}, err
	case err != nil:
		return batch{}, f.failed(persistence.Notification{}, err)
	}
	f.aim(waiting, head)
	if position, _, err = f.findAhead(ctx, position, head); err != nil {
		return batch{}, err
	}
	if position >= head {
		if position == head {
			f.idleAt = position
		}
		return batch{from: position, to: position}, nil
	}
	limit := f.batchLimit()
	wanted := f.restrict(persistence.NotificationRange{After: position, Limit: limit})
	events, end, err := f.readEvents(ctx, wanted, head)
	if err != nil {
		return batch{}, f.failed(persistence.Notification{}, err)
	}
	b := batch{from: position, events: events, rows: len(events), to: endOfPage(events, limit, end), head: head}
	if len(wanted.Except) > 0 { // which the recorder may not know
		b.events = slices.DeleteFunc(events, func(n persistence.Notification) bool { return slices.Contains(wanted.Except, n.Topic) })
	}
	return b, nil
}

// ends returns the position and then the end of the log. The position need not
// be read if the last pull has moved it and there are events after it: what has
// become of it and of the settings since is found out when it is locked. That
// there is nothing to do is only said of a position that was read.
func (f *followerLoop) ends(ctx context.Context) (position, head int64, err error) {
	position, f.left = f.left, -1
	if position >= 0 {
		if head, err = f.leader.Head(ctx); err != nil || head > position {
			return position, head, err
		}
	}
	switch position, err = f.readPosition(ctx); {
	case err != nil:
		return position, 0, err
	case position < 0:
		return position, 0, fmt.Errorf("its position in notification_tracking is %d, "+
			"and must not be negative; correct the row, or delete it to process the log from its first event", position)
	case f.storedPartitions > 0:
		return position, 0, errDivided
	case position < f.lastRead: // it was reset
		f.effects = nil
	}
	f.lastRead = position
	f.reached(position)
	if head == 0 || position > head { // which another process has moved
		head, err = f.leader.Head(ctx)
	}
	return position, head, err
}

// restrict restricts a range to the topics that the follower wants. Events of
// topics that the program does not know are read all the same: a newer program
// may want them, under this name or another, and a position that has passed
// them does not return.
func (f *followerLoop) restrict(r persistence.NotificationRange) persistence.NotificationRange {
	known := f.knownTopics()
	if len(known) == 0 {
		r.Topics = f.topics
		return r
	}
	r.Except = slices.DeleteFunc(known, func(topic string) bool { return slices.Contains(f.topics, topic) })
	slices.Sort(r.Except)
	return r
}

// knownTopics returns the topics that the program defines, under all names. It
// returns none if they are not known, or if all events are wanted.
func (f *followerLoop) knownTopics() []string {
	if k, ok := f.leader.(topicLister); ok && len(f.topics) > 0 {
		return k.knownTopics()
	}
	return nil
}

// A position that is ahead of the log is looked at so many times, at this
// interval, before the follower stops for it.
const (
	aheadLooks    = 6
	aheadInterval = 600 * time.Millisecond
)

// lookAgain reads the position and the head until the position is not ahead of
// the log, at most aheadLooks times. One of the two may have been read from a
// server that lags, or that a failover has left.
func (f *followerLoop) lookAgain(ctx context.Context) (position, head int64, err error) {
	for looks := 1; ; looks++ {
		if position, head, err = f.look(ctx); err != nil || position <= head || looks == aheadLooks {
			return position, head, err
		}
		timer := time.NewTimer(aheadInterval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return position, head, ctx.Err()
		case <-timer.C:
		}
	}
}

// look reads the position and the head over one connection, that is from one
// server, if both are in one database.
func (f *followerLoop) look(ctx context.Context) (position, head int64, err error) {
	read := func(ctx context.Context) error {
		if f.partitions != nil {
			position, err = f.partitions.highestPosition(ctx, f.leader.Name())
		} else {
			position, err = f.app.Recorder().MaxTrackingID(ctx, f.leader.Name())
		}
		if err != nil {
			return err
		}
		head, err = newestOf(ctx, f.leader)
		return err
	}
	err = f.transaction(ctx, read)
	if errors.Is(err, persistence.ErrProgramming) { // the leader's log is in another database
		err = read(ctx)
	}
	return position, head, err
}

// readEvents reads events up to the id end, which is at most head. It returns
// fewer than the limit only if there are no more up to there.
//
// Topics are read a window of ids at a time, because the events of a rare topic
// may be so far apart that one query for them would exceed a time limit.
func (f *followerLoop) readEvents(
	ctx context.Context, r persistence.NotificationRange, head int64,
) (events []persistence.Notification, end int64, err error) {
	if len(r.Topics) == 0 && len(r.Except) == 0 {
		r.Stop = head // up to which the log is known to be final
		events, err = f.leader.Notifications(ctx, r)
		if len(events) > 0 {
			// This holds even for a page that is shorter than asked for.
			return events, events[len(events)-1].ID, err
		}
		return nil, head, err
	}
	for {
		size := f.window.size()
		r.Stop = head
		if head-r.After > size {
			r.Stop = r.After + size
		}
		begin := time.Now()
		events, err = f.leader.Notifications(ctx, r)
		if err == nil {
			f.window.succeeded(time.Since(begin))
			return events, r.Stop, nil
		}
		// A transaction of the caller's cannot go on after an error.
		if !f.window.failed() || ctx.Err() != nil || txscope.From(ctx) != nil || !isTimeout(err) {
			return nil, 0, err
		}
	}
}

// batchLimit is how many events the next batch has at most.
func (f *followerLoop) batchLimit() int {
	if f.oneByOne > 0 {
		return 1
	}
	return f.limit
}

// endOfPage returns the id up to which a page, which was read up to the id end,
// has all events of the log that were selected.
func endOfPage(events []persistence.Notification, limit int, end int64) int64 {
	switch {
	case len(events) == 0:
		return end
	case len(events) == limit:
		return events[limit-1].ID
	}
	return max(end, events[len(events)-1].ID)
}

// findAhead finds a position that is ahead of the log, which is an error. A
// position that seems to be is read once more; at is what it then is, and
// lookedAgain is true.
func (f *followerLoop) findAhead(ctx context.Context, position, head int64) (at int64, lookedAgain bool, err error) {
	newest, known := head, f.ahead != nil && f.ahead.position == position
	if position > head && !known {
		// Another process was told of a later end before a writer said from
		// where on it writes. Only a position above every event is wrong.
		if newest, err = newestOf(ctx, f.leader); err != nil {
			return position, false, f.failed(persistence.Notification{}, err)
		}
	}
	if lookedAgain = position > newest && !known; lookedAgain {
		if position, newest, err = f.lookAgain(ctx); err != nil {
			return position, true, f.failed(persistence.Notification{}, err)
		}
	}
	err = f.checkAhead(position, newest)
	if failed := f.saveAhead(ctx); failed != nil {
		err = f.failed(persistence.Notification{}, errors.Join(failed, err))
	}
	return position, lookedAgain, err
}

// checkAhead finds a position that is ahead of the log. It stays an error when
// the log has grown beyond it, because the events with the ids in between are
// new; only another position ends it.
func (f *followerLoop) checkAhead(position, head int64) error {
	if f.ahead != nil && f.ahead.position == position {
		return f.ahead
	}
	f.ahead = nil
	if position <= head {
		return nil
	}
	f.ahead = &aheadError{f.app.Name(), f.leader.Name(), position, head}
	return f.ahead
}

// quiet tells with one small query that nothing has happened since the last
// pull.
func (f *followerLoop) quiet(ctx context.Context) bool {
	if f.polls++; f.idleAt < 0 || f.polls >= fullPolls {
		f.polls = 0
		return false
	}
	if !f.quietPartitions() {
		return false
	}
	head, err := f.leader.Head(ctx)
	return err == nil && head == f.idleAt
}

// process processes a batch in one transaction, which ends early when it takes
// too long. The position is locked before anything else, then, after a
// conflict, the logs that the handlers save to.
func (f *followerLoop) process(ctx context.Context, b batch) (processed int, err error) {
	parked, begin := 0, time.Now()
	f.saves = &savedLogs{} // of this batch, whatever becomes of it
	err = f.transaction(ctx, func(ctx context.Context) error {
		processed, parked = 0, 0
		if err := f.lockBatch(ctx, b); err != nil {
			return err
		}
		if f.locking > 0 {
			if err := f.lockLogs(ctx); err != nil {
				return err
			}
		}
		firstParked, err := f.parkedOriginators(ctx, b.events)
		if err != nil {
			return f.failed(persistence.Notification{}, err)
		}
		f.waited = time.Since(begin)
		limit := f.newTimeLimit()
		f.saves.limit = limit
		for processed < len(b.events) {
			n := b.events[processed]
			if processed > 0 && limit.isOver() {
				break
			}
			if f.partitions != nil {
				f.partitions.work(b.numbers[processed])
				if b.numbers[processed] < 0 {
					if err := f.keyError(n); err != nil {
						return err
					}
				}
			}
			isParked, err := f.processOrPark(ctx, n, firstParked, f.saves)
			if _, undecodable := errors.AsType[undecodableError](err); undecodable && processed > 0 {
				break // nothing of n was done, and what is before it need not be done again
			}
			if err != nil {
				return err
			}
			if isParked {
				parked++
			}
			processed++
		}
		return f.moveLocked(ctx, b, b.position(processed), b.events[:processed])
	})
	if err != nil {
		return 0, err
	}
	f.parkedInBatch = parked
	switch {
	case f.locking > 0:
		f.locking--
	case f.saves.hasWaited(longestBatches * f.config.BatchTime):
		f.contend()
	default:
		f.contended = max(f.contended-1, 0)
	}
	return processed, nil
}

// timeLimit ends a batch. Its time begins when the batch may write and keeps
// others from it: at once if the transaction has that lock, and otherwise with
// its first save, which may have waited for other writers.
type timeLimit struct {
	batchTime time.Duration
	deadline  time.Time
	mayWrite  bool
}

func (f *followerLoop) newTimeLimit() *timeLimit {
	batchTime := f.config.BatchTime
	if f.locking > 0 {
		kept := f.waited
		if !f.endedAt.IsZero() {
			kept = time.Since(f.endedAt)
		}
		batchTime = min(max(batchTime, workPerWait*kept), longestBatches*batchTime)
	}
	return &timeLimit{
		batchTime: batchTime,
		deadline:  time.Now().Add(batchTime),
		mayWrite:  f.locking > 0 || f.hasOneWriter(),
	}
}

func (l *timeLimit) isOver() bool { return time.Now().After(l.deadline) }

// saved is called after a save.
func (l *timeLimit) saved() {
	if !l.mayWrite {
		l.mayWrite = true
		l.deadline = time.Now().Add(l.batchTime)
	}
}

// lockBatch locks the position of a batch. If the batch does not begin at that
// position any more, it returns errOvertaken. A deletion locks the positions of
// followers too, so none of the events can be deleted until the transaction
// ends.
func (f *followerLoop) lockBatch(ctx context.Context, b batch) error {
	if f.partitions != nil {
		return f.lockPartitions(ctx)
	}
	position, revision, err := f.lockPosition(ctx)
	switch {
	case err != nil:
		return err
	case position != b.from || f.storedPartitions > 0:
		return errOvertaken
	case revision == nil:
		return f.readAgain(ctx, b)
	case f.revision == nil || *revision != *f.revision:
		return errOutOfDate
	}
	return nil
}

// readAgain reads a batch again under the lock of the position. It is for a
// store without revisions, such as a database without the table of settings, in
// which a deletion leaves no trace.
func (f *followerLoop) readAgain(ctx context.Context, b batch) error {
	if _, local := f.leader.(*localLeader); !local {
		return nil
	}
	newest, err := newestOf(ctx, f.leader)
	if errors.Is(err, persistence.ErrProgramming) { // the leader's log is in another database
		return nil
	}
	rows := 0
	if err == nil && newest >= b.to && b.rows > 0 {
		page := f.restrict(persistence.NotificationRange{After: b.from, Stop: b.to, Limit: b.rows})
		var events []persistence.Notification
		events, err = f.leader.Notifications(ctx, page)
		rows = len(events)
	}
	switch {
	case err != nil:
		return f.failed(persistence.Notification{}, err)
	case newest < b.to || rows != b.rows:
		return errOutOfDate
	}
	return nil
}

// lockPosition holds the position until the transaction ends. What was settled
// before the transaction must still hold: the follower is not paused, and no
// other program has changed its topics. The revision is nil if the settings
// have none.
func (f *followerLoop) lockPosition(ctx context.Context) (position int64, revision *int64, err error) {
	position, settings, revision, err := f.lockFollower(ctx)
	if settings != nil {
		f.storedPartitions = settings.Partitions
	}
	switch {
	case err != nil:
		err = f.failed(persistence.Notification{}, err)
	case settings == nil:
	case settings.Paused():
		err = f.paused()
	case f.settled != "" && settings.Topics != f.settled:
		err = errOvertaken
	}
	return position, revision, err
}

// lockFollower locks the position, and returns it with the settings, if the
// store keeps any.
func (f *followerLoop) lockFollower(
	ctx context.Context,
) (position int64, settings *capability.FollowerSettings, revision *int64, err error) {
	if f.settingsRecorder() == nil {
		position, err = f.app.Recorder().LockPosition(ctx, f.leader.Name())
		return position, nil, nil, err
	}
	return f.lockSettings(ctx)
}

// readSettings reads the position together with the settings, and their
// revision if they have one.
func (f *followerLoop) readSettings(
	ctx context.Context,
) (position int64, settings *capability.FollowerSettings, revision *int64, err error) {
	recorder := f.app.RecorderCapabilities().Revisions
	if recorder == nil {
		position, settings, err = f.settingsRecorder().Settings(ctx, f.leader.Name())
		return position, settings, nil, err
	}
	position, settings, at, err := recorder.SettingsRevision(ctx, f.leader.Name())
	if settings != nil {
		revision = &at
	}
	return position, settings, revision, err
}

// lockSettings is readSettings under the lock of the position, if the store can
// lock it.
func (f *followerLoop) lockSettings(
	ctx context.Context,
) (position int64, settings *capability.FollowerSettings, revision *int64, err error) {
	if revisions := f.app.RecorderCapabilities().Revisions; revisions != nil {
		position, settings, at, err := revisions.LockSettingsRevision(ctx, f.leader.Name(), f.wait)
		if settings != nil {
			revision = &at
		}
		return position, settings, revision, err
	}
	position, settings, err = f.settingsRecorder().LockSettings(ctx, f.leader.Name())
	return position, settings, nil, err
}

// processOrPark processes an event, or parks it if an earlier one of its
// originator is in firstParked, and reports whether it did the latter. An event
// that only a newer program can read is an error in both cases.
func (f *followerLoop) processOrPark(
	ctx context.Context, n persistence.Notification, firstParked map[uuid.UUID]int64, saves bridge.Saves,
) (isParked bool, err error) {
	first, ok := firstParked[n.OriginatorID]
	if !ok {
		return false, f.processEvent(ctx, n, saves)
	}
	if _, err := f.leader.Decode(n); errors.Is(err, persistence.ErrNewerProgram) {
		return false, f.failed(n, undecodableError{err})
	}
	if err := f.parkEvent(ctx, n, fmt.Sprintf("event %d of the same originator is parked", first)); err != nil {
		return false, f.failed(n, err)
	}
	return true, nil
}

// move moves the position from the value that was read, after the events that
// were processed. It returns errOvertaken if a program of the Python library
// has processed one of them.
func (f *followerLoop) move(ctx context.Context, from, to int64, processed []persistence.Notification) error {
	tracking := persistence.Tracking{ApplicationName: f.leader.Name(), NotificationID: to}
	if tracker := f.app.RecorderCapabilities().Tracker; tracker != nil {
		ids := make([]int64, len(processed))
		for i := range processed {
			ids[i] = processed[i].ID
		}
		err := tracker.TrackNotifications(ctx, from, tracking, ids)
		if errors.Is(err, persistence.ErrPositionMoved) {
			return errOvertaken
		}
		return err
	}
	return f.app.Recorder().MovePosition(ctx, from, tracking)
}

// errUnlockedMove says that a program which does not take the lock of the
// position has moved it, as a follower of the Python library does.
var errUnlockedMove = errors.New("another program moved the position while events were processed, and nothing of them is stored; " +
	"run the follower in one program only")

// moveLocked moves a position that is locked.
func (f *followerLoop) moveLocked(ctx context.Context, b batch, to int64, processed []persistence.Notification) error {
	if f.partitions != nil {
		return f.movePartitions(ctx, b, to, len(processed))
	}
	err := f.move(ctx, b.from, to, processed)
	if errors.Is(err, persistence.ErrPositionMoved) {
		err = f.failed(persistence.Notification{}, fmt.Errorf("%w: %w", errUnlockedMove, err))
	}
	return err
}

// transaction runs fn in a transaction of the follower's store. A panic of an
// effect that waits for the commit is an error, although everything is stored:
// it must not end the process.
func (f *followerLoop) transaction(ctx context.Context, fn func(ctx context.Context) error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &panicError{value, debug.Stack()}
		}
	}()
	store := f.app.Factory().(persistence.Transactor) // New has looked
	entered, done := false, false
	operation := fmt.Sprintf("transaction of follower %s of %s", f.app.Name(), f.leader.Name())
	err = store.Transaction(txscope.WithOperation(ctx, operation), func(ctx context.Context) error {
		entered = true
		err := fn(ctx)
		done = err == nil
		return err
	})
	if errors.Is(err, persistence.ErrPositionMoved) && done {
		err = errMovedAtCommit
	}
	if !entered && errors.Is(err, persistence.ErrLockTimeout) && f.hasOneWriter() {
		err = &persistence.Error{Class: persistence.ErrPositionLocked, Op: f.app.Name() + ": begin to write", Err: err}
	}
	return err
}

// undecodableError is an error of Decode: no handler was called.
type undecodableError struct{ error }

func (e undecodableError) Unwrap() error { return e.error }

// hasOneWriter reports whether the store has one lock for all that write. Who
// waits for it waits for the position as well.
func (f *followerLoop) hasOneWriter() bool { return f.storeYieldTime() > 0 }

// storeYieldTime is how long the store of one writer is to be left alone, or 0.
func (f *followerLoop) storeYieldTime() time.Duration {
	if yielder := f.app.Capabilities().Yielder; yielder != nil {
		return yielder.YieldTime()
	}
	return 0
}

// yieldTime is how long to leave the log to others after the last batch.
// Writers that have waited for a batch mostly conflict with it, so those that
// queue for the lock of the log need the time to read and save once more before
// the next batch takes it.
func (f *followerLoop) yieldTime() time.Duration {
	switch {
	case f.took <= f.config.BatchTime/2:
		return 0
	case f.hasOneWriter():
		return f.storeYieldTime()
	case f.locking > 0:
		return max(f.config.BatchTime/2, min(f.waited, 2*f.config.BatchTime))
	}
	return 0
}

// isLocked reports whether an error is that another process holds the position.
func isLocked(err error) bool { return errors.Is(err, persistence.ErrPositionLocked) }

// locked is the error of a command that has waited for another process.
func (f *followerLoop) locked() error {
	return &persistence.Error{Class: persistence.ErrPositionLocked, Op: f.app.Name() + ": follow " + f.leader.Name(),
		Hint: "it processes what there is to process; see the command followers"}
}

// processEvent decodes an event with the leader's mapper and handles it. A
// panic is an error: it must not end the process, which would meet the same
// event when it is started again.
func (f *followerLoop) processEvent(ctx context.Context, n persistence.Notification, saves bridge.Saves) (err error) {
	f.begin(n.ID)
	defer f.end()
	returned := false
	defer func() {
		if value := recover(); value != nil {
			err = &panicError{value, debug.Stack()}
		} else if !returned && f.exit != nil {
			f.exit.event = n
		}
		if err != nil {
			err = f.failed(n, err)
		}
	}()
	err = f.handle(ctx, n, saves)
	returned = true
	return err
}

func (f *followerLoop) handle(ctx context.Context, n persistence.Notification, saves bridge.Saves) error {
	event, err := f.leader.Decode(n)
	if err != nil {
		return undecodableError{err}
	}
	if err := f.app.Ready(ctx); err != nil {
		return err
	}
	return f.observedHandling(bridge.WithCause(ctx, event, saves), n, event)
}

// dispatch calls the handlers of an event, or has them record what the
// calls of effects have returned.
func (f *followerLoop) dispatch(ctx context.Context, n persistence.Notification, event domain.Event) (err error) {
	made := f.effects[effectKeyOf(n)]
	called := 0
	for part := range event.Parts() {
		handler := f.follower.handler(reflect.TypeOf(part.Data))
		switch {
		case handler == nil:
		case handler.call == nil:
			err = handler.handle(ctx, part)
		case made == nil || made.err != nil || called >= len(made.results):
			err = errNotCalled
		default:
			err = handler.record(ctx, part, made.results[called])
			called++
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// failed says which event an error is about, unless the error says so already.
func (f *followerLoop) failed(n persistence.Notification, err error) error {
	if known, ok := errors.AsType[*ProcessingError](err); ok && known.Follower == f.app.Name() {
		return err
	}
	failure := &ProcessingError{Follower: f.app.Name(), Leader: f.leader.Name(), NotificationID: n.ID, Topic: n.Topic, Err: err}
	if panicked, ok := errors.AsType[*panicError](err); ok {
		failure.Stack = panicked.stack
	}
	return failure
}
