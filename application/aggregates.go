package application

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// aggregates are a Repository without its type: everything that it does. So the
// compiler makes it once, and not for each aggregate of each program. What its
// methods call an aggregate is a pointer to one of the definition's type.
type aggregates struct {
	app        *Application
	definition definitions.Definition
	pointer    reflect.Type    // of the aggregates
	cache      *aggregateCache // nil if the cache is off
}

func newAggregates(app *Application, definition domain.Schema) (*aggregates, error) {
	r := &aggregates{app: app, definition: definitions.Of(definition)}
	if err := r.check(definition); err != nil {
		return nil, unusable(app.name, r.definition.Name(), err)
	}
	r.pointer = reflect.TypeOf(r.definition.Blank(uuid.Nil))
	if app.cache.size > 0 {
		r.cache = newAggregateCache(r)
	}
	app.mu.Lock()
	defer app.mu.Unlock()
	app.repositories[r.definition.Name()] = append(app.repositories[r.definition.Name()], r)
	return r, nil
}

func (r *aggregates) check(definition domain.Schema) error {
	if r.definition.SnapshotType() == nil {
		return errors.New("it is of a log, which has no aggregates; use application.NewEventSourcedLog")
	}
	if err := errors.Join(r.app.mapper.CheckNames(definition), r.app.mapper.Add(definition)); err != nil {
		return err
	}
	checker, ok := r.app.mapper.Transcoder().(interface{ CheckType(reflect.Type) error })
	if !ok || r.app.snapshots == nil && r.app.cache.size == 0 {
		return nil
	}
	if err := checker.CheckType(r.definition.StateType()); err != nil {
		return fmt.Errorf("%w; %s needs it: turn that off, or give the definition a domain.State", err, r.app.storesStates)
	}
	return nil
}

func (r *aggregates) get(ctx context.Context, id uuid.UUID) (any, error) {
	if err := r.app.ready(ctx); err != nil {
		return nil, err
	}
	if r.app.isLoadObserved() {
		return r.observed(ctx, id, func(ctx context.Context) (any, error) { return r.getLatest(ctx, id) })
	}
	return r.getLatest(ctx, id)
}

func (r *aggregates) getLatest(ctx context.Context, id uuid.UUID) (any, error) {
	// What a transaction has saved but not committed must not get into the
	// cache, and must be seen.
	if r.cache == nil || txscope.From(ctx) != nil {
		return r.load(ctx, id, latest)
	}
	return r.cache.get(ctx, id)
}

// latest asks for the aggregate as it is now.
const latest int64 = -1

func (r *aggregates) getAt(ctx context.Context, id uuid.UUID, version int64) (any, error) {
	if err := r.app.ready(ctx); err != nil {
		return nil, err
	}
	if version < r.definition.First() {
		return nil, &invalid.Error{
			What:    fmt.Sprintf("version %d of %s %s", version, r.definition.Name(), id),
			Problem: fmt.Sprintf("cannot exist: versions start at %d", r.definition.First()), Class: persistence.ErrProgramming,
		}
	}
	if r.app.isLoadObserved() {
		return r.observed(ctx, id, func(ctx context.Context) (any, error) { return r.load(ctx, id, version) })
	}
	return r.load(ctx, id, version)
}

// load loads an aggregate up to a version.
func (r *aggregates) load(ctx context.Context, id uuid.UUID, version int64) (any, error) {
	aggregate, err := r.read(ctx, id, version)
	if err != nil {
		return nil, err
	}
	reached := r.definition.Root(aggregate).Version()
	if reached < r.definition.First() || version != latest && reached < version {
		return nil, r.notFound(id, version, reached)
	}
	return aggregate, nil
}

// read makes an aggregate of its newest snapshot that can be used, and the
// events after it. An aggregate that has no events is blank.
//
// If the store can, it reads both at once. Only if the newest snapshot cannot
// be used does it read older ones. It reports those that cannot, because the
// events say the same and only take longer.
func (r *aggregates) read(ctx context.Context, id uuid.UUID, version int64) (any, error) {
	before, limit := endExclusive(version), 1
	if r.app.snapshots != nil && r.app.events.ReadsHistory() {
		stored, events, err := r.app.events.History(ctx, id, before)
		if err != nil {
			return nil, err
		}
		if stored == nil {
			return r.fromEvents(ctx, id, events)
		}
		aggregate, unusable, err := r.fromSnapshot(ctx, *stored, events)
		if unusable == nil {
			return aggregate, err
		}
		r.app.logSkippedSnapshot(ctx, r.definition.Name(), *stored, unusable)
		before, limit = stored.OriginatorVersion, olderSnapshots
	}
	if isOldest := limit > 1 && before == 0; r.app.snapshots != nil && !isOldest {
		aggregate, err := r.loadFromSnapshot(ctx, id, before, limit, version)
		if aggregate != nil || err != nil {
			return aggregate, err
		}
	}
	return r.fromEvents(ctx, id, r.app.events.Get(ctx, id, rangeOf(r.definition.First(), version)))
}

// fromEvents makes an aggregate of its events alone.
func (r *aggregates) fromEvents(ctx context.Context, id uuid.UUID, events iter.Seq2[domain.Event, error]) (any, error) {
	aggregate := r.definition.Blank(id)
	r.loadedFrom(ctx, "events", aggregate)
	for event, err := range events {
		if err != nil {
			return nil, err
		}
		if event.OriginatorVersion < r.definition.First() {
			continue
		}
		if err := r.apply(aggregate, event); err != nil {
			return nil, err
		}
	}
	return aggregate, nil
}

func (r *aggregates) notFound(id uuid.UUID, version, reached int64) error {
	if reached < r.definition.First() {
		reached = -1
	}
	return &notFoundError{r.app.name, r.definition.Name(), id, version, reached}
}

var (
	// errAhead says that a snapshot, or a cached aggregate, is of a version
	// that is not stored: the events were deleted or lost, or it was planted.
	// What would be saved on it could never be read.
	errAhead = errors.New("its version is not among the stored events of the aggregate")
	// errRewritten says that it was made of another event than the one stored
	// now.
	errRewritten = errors.New("the stored event of its version is another one: the events were deleted and made anew")
)

// forward applies later events to an aggregate that comes from a snapshot or
// from the cache. The first of events is the one of the aggregate's version,
// which must still be stored and still be the same. Otherwise the error is
// errAhead or errRewritten.
func (r *aggregates) forward(aggregate any, events iter.Seq2[domain.Event, error]) error {
	root := r.definition.Root(aggregate)
	at, last, modified, found := root.Version(), r.definition.LastEventID(aggregate), root.ModifiedOn(), false
	for event, err := range events {
		switch {
		case err != nil:
			return err
		case !found && event.OriginatorVersion != at:
			return errAhead
		case !found && isAnother(event, last, modified):
			return errRewritten
		case event.OriginatorVersion > root.Version():
			err = r.apply(aggregate, event)
		}
		if err != nil {
			return err
		}
		found = true
	}
	if !found {
		return errAhead
	}
	return nil
}

// isAnother reports whether an event is not the one with this id, or, in the
// layout that has no ids, not of this time. What is zero is not known.
func isAnother(event domain.Event, id uuid.UUID, timestamp time.Time) bool {
	if event.ID != uuid.Nil && id != uuid.Nil {
		return event.ID != id
	}
	return event.ID == uuid.Nil && id == uuid.Nil && !timestamp.IsZero() && !event.Timestamp.Equal(timestamp)
}

// isOutdated reports whether forward found that an aggregate is not what
// its events make of it.
func isOutdated(err error) bool { return errors.Is(err, errAhead) || errors.Is(err, errRewritten) }

func (r *aggregates) apply(aggregate any, event domain.Event) error {
	if err := r.definition.Apply(aggregate, event); err != nil {
		if wrong := r.app.checkDefinition(r.definition, event.OriginatorID, event.Topic); wrong != nil {
			wrong.Err = err
			return wrong
		}
		return fmt.Errorf("%s: %s: %w", r.app.name, r.definition.Name(), err)
	}
	return nil
}

// rangeOf is the range from one version to another, which may be the latest.
func rangeOf(from, to int64) persistence.EventRange {
	return persistence.EventRange{From: from, Before: endExclusive(to)}
}

// endExclusive is the end of a range up to a version; 0 is no end.
func endExclusive(version int64) int64 {
	if version == latest || version == math.MaxInt64 {
		return 0
	}
	return version + 1
}

// loadFromSnapshot loads an aggregate from its newest snapshot before a version
// that can be used, or returns nil if there is none. It reads limit snapshots,
// and more only if limit is 1 and that one cannot be used.
func (r *aggregates) loadFromSnapshot(
	ctx context.Context, id uuid.UUID, before int64, limit int, version int64,
) (any, error) {
	for ; ; limit = olderSnapshots {
		wanted := persistence.EventRange{Before: before, Descending: true, Limit: limit}
		read := 0
		for stored, err := range r.app.snapshots.GetStored(ctx, id, wanted) {
			if err != nil {
				return nil, err
			}
			events := r.app.events.GetSince(ctx, id, rangeOf(stored.OriginatorVersion, version))
			aggregate, unusable, err := r.fromSnapshot(ctx, stored, events)
			if unusable == nil {
				return aggregate, err
			}
			r.app.logSkippedSnapshot(ctx, r.definition.Name(), stored, unusable)
			read, before = read+1, stored.OriginatorVersion
		}
		if read < limit || limit > 1 || before == 0 {
			return nil, nil
		}
	}
}

// olderSnapshots is how many snapshots are tried if the newest cannot be used.
const olderSnapshots = 4

// fromSnapshot makes an aggregate of a stored snapshot and the events from its
// version on. unusable is what is wrong with the snapshot itself.
func (r *aggregates) fromSnapshot(
	ctx context.Context, stored persistence.StoredEvent, events iter.Seq2[domain.Event, error],
) (aggregate any, unusable, err error) {
	snapshot, err := r.app.mapper.SnapshotToDomain(stored)
	if err == nil {
		aggregate, err = r.definition.Restore(snapshot)
	}
	if isUnreadable(err) {
		return nil, err, nil
	}
	if err == nil {
		r.loadedFrom(ctx, "snapshot", aggregate)
		err = r.forward(aggregate, events)
	}
	if isOutdated(err) {
		return nil, err, nil
	}
	return aggregate, nil, err
}

// one returns the first of a stream.
func one(events iter.Seq2[domain.Event, error]) (domain.Event, bool, error) {
	for event, err := range events {
		return event, err == nil, err
	}
	return domain.Event{}, false, nil
}

// checkDefinition returns an error if the topic of an originator's event belongs
// to another definition than this one.
func (a *Application) checkDefinition(definition eventtype.Schema, id uuid.UUID, topic string) *persistence.Error {
	own := definition.EventTypes()
	if len(own) == 0 {
		return nil
	}
	stored := persistence.StoredEvent{OriginatorID: id, Topic: topic}
	return a.mapper.CheckDefinition(stored, own[0].Topic())
}

func (r *aggregates) contains(ctx context.Context, id uuid.UUID) (bool, error) {
	if err := r.app.ready(ctx); err != nil {
		return false, err
	}
	for first, err := range r.app.recorder.SelectEvents(ctx, id, persistence.EventRange{Limit: 1}) {
		return err == nil && r.app.checkDefinition(r.definition, id, first.Topic) == nil, err
	}
	return false, nil
}

func (r *aggregates) update(ctx context.Context, id uuid.UUID, change func(any) error) error {
	for attempt := 1; ; attempt++ {
		aggregate, err := r.get(ctx, id)
		if err == nil {
			if err := change(aggregate); err != nil {
				return err
			}
			_, err = r.app.Save(ctx, aggregate.(domain.Changes))
		}
		if err == nil || !r.repeatable(ctx, err) || attempt == maxAttempts {
			return err
		}
		if !pause(ctx, attempt) {
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

func (r *aggregates) updateAt(ctx context.Context, id uuid.UUID, version int64, change func(any) error) error {
	if err := r.app.ready(ctx); err != nil {
		return err
	}
	aggregate, err := r.load(ctx, id, latest) // past the cache, which may be out of date
	if err != nil {
		return err
	}
	if current := r.definition.Root(aggregate).Version(); current != version {
		return &persistence.ConflictError{Application: r.app.name, OriginatorID: id, Version: version + 1, Current: current,
			Gap: current < version, Stale: true}
	}
	if err := change(aggregate); err != nil {
		return err
	}
	_, err = r.app.Save(ctx, aggregate.(domain.Changes))
	if conflict, ok := errors.AsType[*persistence.ConflictError](err); ok && conflict.OriginatorID == id {
		conflict.Stale = true
	}
	return err
}

const (
	maxAttempts   = 100
	shortestPause = time.Millisecond
	longestPause  = 64 * time.Millisecond
)

func (r *aggregates) repeatable(ctx context.Context, err error) bool {
	again := persistence.IsConflict(err) || errors.Is(err, persistence.ErrRetryTransaction)
	return again && txscope.From(ctx) == nil // a wait for a lock has been long enough already
}

// pause waits a random time, in a window that doubles with each attempt, so
// that rivals do not meet again.
func pause(ctx context.Context, attempt int) bool {
	window := min(shortestPause<<min(attempt, 10), longestPause)
	timer := time.NewTimer(rand.N(window))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (r *aggregates) takeSnapshot(ctx context.Context, id uuid.UUID, load func() (any, error)) error {
	if r.app.snapshots == nil {
		return noSnapshots(r.app.name, r.definition.Name(), id)
	}
	if err := r.app.ready(ctx); err != nil {
		return err
	}
	aggregate, err := load()
	if err != nil {
		r.app.snapshotDone(ctx, telemetry.Snapshot{Definition: r.definition.Name(), OriginatorID: id, Err: err})
		return err
	}
	version := r.definition.Root(aggregate).Version()
	outcome, err := r.app.snapshots.PutReporting(ctx, r.definition.TakeSnapshot(aggregate))
	r.app.snapshotDone(ctx, telemetry.Snapshot{
		Definition: r.definition.Name(), OriginatorID: id, Version: version, Outcome: outcome, Err: err,
	})
	return err
}

func (r *aggregates) takeSnapshotAt(ctx context.Context, id uuid.UUID, version int64) error {
	return r.takeSnapshot(ctx, id, func() (any, error) { return r.getAt(ctx, id, version) })
}

// stateAt returns the state of an originator at a version, as a snapshot would
// have it.
func (r *aggregates) stateAt(ctx context.Context, id uuid.UUID, version int64) (any, error) {
	aggregate, err := r.load(ctx, id, version)
	if err != nil {
		return nil, err
	}
	return r.definition.TakeSnapshot(aggregate).Data, nil
}

// snapshot stores a snapshot of an originator at a version. If that is the
// version of change, it reads nothing, unless an Apply of it has panicked.
func (r *aggregates) snapshot(ctx context.Context, change domain.Changes, id uuid.UUID, version int64) error {
	if !r.has(change) || r.definition.Root(change).Version() != version || r.definition.IsPartial(change) {
		return r.takeSnapshotAt(ctx, id, version)
	}
	return r.takeSnapshot(ctx, id, func() (any, error) { return change, nil })
}

// saved caches an aggregate whose events were committed.
func (r *aggregates) saved(change domain.Changes) {
	if r.has(change) && r.cache != nil {
		r.cache.saved(change)
	}
}

// has reports whether what is saved is an aggregate, and not events alone.
func (r *aggregates) has(change domain.Changes) bool { return reflect.TypeOf(change) == r.pointer }

// forget drops what is cached of an originator.
func (r *aggregates) forget(id uuid.UUID) {
	if r.cache != nil {
		r.cache.entries.Remove(id)
	}
}
