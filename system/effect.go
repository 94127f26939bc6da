package system

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
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

// Effect handles the events with payloads of type E by a call to another
// service, such as one that sends mails or takes payments. See On for what E
// may be.
//
// First call makes the call. No transaction is open and no lock is held
// meanwhile, so it may take long. The events of one originator are called in
// order, one after the other; those of several originators are called at the
// same time, up to Config.ConcurrentEffects. Then record gets the result, and
// what it saves or writes commits together with the follower's position, as
// with On. record may be nil if there is nothing to record.
//
// A call is made at least once: it is repeated if it fails, and if the process
// ends before its result is recorded. Its result is recorded exactly once. Give
// the other service the event's ID as its idempotency key. In the Python layout
// events have no ID (it is uuid.Nil): use Application, OriginatorID and
// OriginatorVersion. Add Part if UpcastToMany makes several events of one.
//
// If the store keeps the statuses of followers, as gormstore does, one Runner or
// CatchUp makes the calls at a time and the others stand by, also while it has
// nothing to do. Another one takes over when it stops or, after a crash, within
// 30 seconds; only a process that was suspended for so long may make calls
// beside it. A SingleThreadedRunner stands by for others, but others do not for
// it.
//
// If call returns an error or panics, the events before it are recorded, and it
// is made again later; Park applies. The results of later events are kept until
// then, as long as the process runs. ctx ends when the runner is cancelled;
// give the call its own timeout.
//
// A call that has begun may still be going on when Pause has returned; its
// result is then recorded after Resume, or the call is made again.
//
// A follower with an Effect cannot catch up in a transaction, so it has no dry
// run: a call cannot be rolled back. CatchUp returns a
// persistence.ErrNotSupported.
func Effect[E, R any](
	call func(ctx context.Context, event domain.Recorded[E]) (R, error),
	record func(ctx context.Context, event domain.Recorded[E], result R) error,
) FollowerOption {
	payload := reflect.TypeFor[E]()
	return func(f *Follower) error {
		if call == nil {
			return fmt.Errorf("the call of the effect of %v is nil", payload)
		}
		return f.add(handler{
			payload: payload,
			call:    func(ctx context.Context, event domain.Event) (any, error) { return call(ctx, recorded[E](event)) },
			record: func(ctx context.Context, event domain.Event, result any) error {
				if record == nil {
					return nil
				}
				value, _ := result.(R) // the result of an interface type may be nil
				return record(ctx, recorded[E](event), value)
			},
		})
	}
}

// effects are the calls of a follower loop that were made and are not recorded
// yet.
type effects map[effectKey]*effectCall

// effectKey is an event of the log. A log that was restored may have another
// event at the same position.
type effectKey struct {
	position   int64
	originator uuid.UUID
	version    int64
	topic      string
	state      uint64 // a hash
}

var effectSeed = maphash.MakeSeed()

func effectKeyOf(n persistence.Notification) effectKey {
	return effectKey{n.ID, n.OriginatorID, n.OriginatorVersion, n.Topic, maphash.Bytes(effectSeed, n.State)}
}

// effectCall is what became of the calls for one event.
type effectCall struct {
	results     []any // one for each part of the event that has a handler with a call
	partition   int   // of the event, if the follower is divided
	err         error // of the first call that failed
	failed      time.Time
	undecodable bool // no call was made
}

// effectsTime is after how long no further call is begun before the results so
// far are recorded: a process that ends repeats those that are not.
const effectsTime = time.Second

// errEffectInTransaction refuses a call that would not be rolled back.
var errEffectInTransaction = fmt.Errorf("%w: it has an Effect, which calls another service and cannot be rolled back: "+
	"it cannot process events in a transaction of the caller, and has no dry run", persistence.ErrNotSupported)

// callEffects makes the calls for the events of a batch, and returns the batch
// without the events after those calls, as far as they were made. If the first
// event's call has failed, it returns that event alone, and how it failed.
func (f *followerLoop) callEffects(ctx context.Context, b batch) (made batch, failure, err error) {
	if !f.follower.hasEffects() || len(b.events) == 0 {
		return b, nil, nil
	}
	if txscope.From(ctx) != nil {
		return b, nil, f.failed(persistence.Notification{}, errEffectInTransaction)
	}
	parked, err := f.parkedOriginators(ctx, b.events)
	if err != nil {
		return b, nil, f.failed(persistence.Notification{}, err)
	}
	f.atWork()
	if f.partitions != nil {
		// No call is made for an event without a partition.
		if i := slices.Index(b.numbers, -1); i >= 0 {
			if b = b.first(max(i, 1)); i == 0 {
				return b, nil, nil
			}
		}
		f.partitions.work(b.numbers...)
	}
	f.begin(b.events[0].ID)
	defer f.end()
	f.makeCalls(ctx, b.events, parked)
	for i, number := range b.numbers {
		if made := f.effects[effectKeyOf(b.events[i])]; made != nil {
			made.partition = number
		}
	}
	for i, n := range b.events {
		if _, isParked := parked[n.OriginatorID]; isParked {
			continue
		}
		made := f.effects[effectKeyOf(n)]
		switch {
		case made != nil && made.undecodable: // which is an error when the event is processed
			delete(f.effects, effectKeyOf(n))
			return b.first(i + 1), nil, nil
		case made != nil && made.err == nil:
			continue
		case made != nil && i == 0:
			delete(f.effects, effectKeyOf(n)) // to be called again
			return b.first(1), f.failed(n, made.err), nil
		case i == 0 && f.partitions != nil && ctx.Err() == nil: // the leases may have ended
			f.partitions.loaded = false
			return b, nil, errOvertaken
		case i == 0:
			return b, nil, f.failed(n, context.Cause(ctx))
		}
		return b.first(i), nil, nil
	}
	return b, nil, nil
}

// atWork sets the status of a follower that was paused or has stood by, before
// calls that may take long.
func (f *followerLoop) atWork() {
	if state := f.currentStatus().State; state == Paused || state == StandingBy {
		f.setStatus(nil, time.Time{})
	}
}

// concludeCall concludes a batch of one event whose call has failed. What the
// call says is about the event alone: an error of the other service may look
// like one of the follower's own.
func (f *followerLoop) concludeCall(ctx context.Context, b batch, failure error) (outcome, error) {
	if f.partitions == nil {
		f.progress.Position = b.from
		f.reached(b.from)
	}
	switch {
	case ctx.Err() == nil && f.parks(b, failure):
		return f.park(ctx, b, failure)
	case ctx.Err() == nil && f.partitionFailed(ctx, b, failure):
		return maybeMore, nil
	}
	return nothingMore, failure
}

// first returns the batch of the first events.
func (b batch) first(n int) batch {
	if b.rows != len(b.events) {
		// It is not known how many of the events that are passed over are among
		// the first.
		b.rows = 0
	} else {
		b.rows = n
	}
	b.to, b.events, b.numbers = b.position(n), b.events[:n], b.numbers[:min(n, len(b.numbers))]
	return b
}

// claim makes this follower loop the one that makes the calls, and reports
// whether it is. The status in the store says which one is: its row is written
// under the lock of the position, and no loop without the claim writes that it
// runs. A store that does not keep statuses cannot tell, and every loop has the
// claim.
func (f *followerLoop) claim(ctx context.Context) (held bool, err error) {
	recorder := f.app.Capabilities().Statuses
	if recorder == nil || txscope.From(ctx) != nil {
		f.setClaimed(true)
		return true, nil
	}
	if !f.lacksClaim() && time.Since(f.claimedAt) < capability.HeartbeatInterval {
		return true, nil
	}
	free, err := f.isFree(ctx, recorder)
	if isNotMigrated(err) {
		f.setClaimed(true)
		return true, nil
	}
	if err == nil && free && f.claims {
		err = f.transaction(ctx, func(ctx context.Context) error {
			if _, _, _, err := f.lockFollower(ctx); err != nil { // one process claims at a time
				return err
			}
			if free, err = f.isFree(ctx, recorder); err != nil || !free {
				return err
			}
			status := f.statusToKeep(f.identity)
			status.State, status.Error, status.Heartbeat = string(Running), "", time.Now().UTC()
			return recorder.RecordStatus(ctx, status)
		})
	}
	// Another process is doing the same.
	if isLocked(err) || errors.Is(err, persistence.ErrRetryTransaction) {
		free, err = false, nil
	}
	if err != nil {
		return false, f.failed(persistence.Notification{}, err)
	}
	f.setClaimed(free)
	if !free {
		f.effects = nil // another one makes the calls
	}
	return free, nil
}

func (f *followerLoop) setClaimed(claimed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.claimed, f.claimedAt = claimed, time.Now()
}

// isFree reports whether no other runner of the follower has the claim.
func (f *followerLoop) isFree(ctx context.Context, recorder capability.StatusRecorder) (bool, error) {
	statuses, err := recorder.FollowerStatuses(ctx)
	return !slices.ContainsFunc(statuses, func(s capability.FollowerStatus) bool {
		return f.isOwn(s) && s.Process != f.identity && s.Alive(time.Now()) && s.State != string(StandingBy) && s.State != string(Outdated)
	}), err
}

// release gives the claim of a command back, so that others need not wait for
// its status to become too old.
func (f *followerLoop) release(ctx context.Context) {
	recorder := f.app.Capabilities().Statuses
	if recorder == nil || !f.claims || f.partitions != nil || !f.follower.hasEffects() || f.lacksClaim() || txscope.From(ctx) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusTimeout)
	defer cancel()
	status := f.statusToKeep(f.identity)
	status.State, status.Heartbeat = string(Stopped), time.Now().UTC()
	if err := recorder.RecordStatus(ctx, status); err != nil && !isNotMigrated(err) {
		f.app.Logger().WarnContext(ctx, "the status of a follower cannot be kept", "follower", f.app.Name(), "error", err)
	}
}

// lacksClaim reports whether another follower loop may be the one that makes
// the calls.
func (f *followerLoop) lacksClaim() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.follower.hasEffects() && !f.claimed
}

// makeCalls makes the calls of the events that have none yet, until all are
// made, ctx ends or effectsTime is over. The first call of each originator that
// fails ends its calls.
func (f *followerLoop) makeCalls(ctx context.Context, events []persistence.Notification, parked map[uuid.UUID]int64) {
	var originators [][]persistence.Notification
	index := map[uuid.UUID]int{}
	for _, n := range events {
		if _, isParked := parked[n.OriginatorID]; isParked {
			continue
		}
		i, ok := index[n.OriginatorID]
		if !ok {
			i = len(originators)
			index[n.OriginatorID] = i
			originators = append(originators, nil)
		}
		originators[i] = append(originators[i], n)
	}
	if f.effects == nil {
		f.effects = effects{}
	}
	for key, made := range f.effects { // one that has failed a while ago is called again
		if made.err != nil && time.Since(made.failed) >= effectsTime {
			delete(f.effects, key)
		}
	}
	deadline := time.Now().Add(effectsTime)
	var (
		group sync.WaitGroup
		mu    sync.Mutex // protects f.effects
		slots = make(chan struct{}, f.config.ConcurrentEffects)
	)
	for i, own := range originators {
		slots <- struct{}{}
		if i > 0 && time.Now().After(deadline) || ctx.Err() != nil {
			break
		}
		group.Go(func() {
			defer func() { <-slots }()
			for j, n := range own {
				mu.Lock()
				made := f.effects[effectKeyOf(n)]
				mu.Unlock()
				if made == nil {
					if f.partitions != nil && !f.partitions.isValid() {
						return // another process may have the partitions
					}
					if (i > 0 || j > 0) && time.Now().After(deadline) || ctx.Err() != nil {
						return
					}
					made = f.callEffect(ctx, n)
					if made.err != nil && ctx.Err() != nil {
						return // which says nothing about the call
					}
					mu.Lock()
					f.effects[effectKeyOf(n)] = made
					mu.Unlock()
				}
				if made.err != nil || made.undecodable {
					return
				}
			}
		})
	}
	group.Wait()
}

// callEffect makes the calls for one event: usually one or none.
func (f *followerLoop) callEffect(ctx context.Context, n persistence.Notification) *effectCall {
	made := &effectCall{err: errGoexit} // unless it returns
	done := make(chan struct{})
	go func() { // which a call may end with runtime.Goexit
		defer close(done)
		defer func() {
			if value := recover(); value != nil {
				made.err = &panicError{value, debug.Stack()}
			}
		}()
		event, err := f.leader.Decode(n)
		if err != nil {
			made.err, made.undecodable = nil, true
			return
		}
		made.results, made.err = f.callHandlers(ctx, event)
	}()
	<-done
	made.failed = time.Now()
	return made
}

// callHandlers calls the handlers of the parts of an event.
func (f *followerLoop) callHandlers(ctx context.Context, event domain.Event) (results []any, err error) {
	if err := f.app.Ready(ctx); err != nil {
		return nil, err
	}
	ctx = bridge.WithCause(ctx, event, nil)
	for part := range event.Parts() {
		handler := f.follower.handler(reflect.TypeOf(part.Data))
		if handler == nil || handler.call == nil {
			continue
		}
		result, err := f.observedCall(ctx, handler, part)
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return results, nil
}

// errNotCalled says that an event could not be decoded when the calls were made,
// or was parked then, and that this has changed.
var errNotCalled = errors.New("the call of its effect was not made; it is tried again")

// forget forgets the calls of events up to a position, which are recorded.
func (f *followerLoop) forget(position int64) {
	for key := range f.effects {
		if key.position <= position {
			delete(f.effects, key)
		}
	}
}

// forgetEvents forgets the calls of events, which are recorded.
func (f *followerLoop) forgetEvents(events []persistence.Notification) {
	for _, n := range events {
		if f.effects == nil {
			return
		}
		delete(f.effects, effectKeyOf(n))
	}
}

// hasEffects reports whether a handler makes calls.
func (f *Follower) hasEffects() bool {
	return slices.ContainsFunc(f.handlers, func(h handler) bool { return h.call != nil })
}
