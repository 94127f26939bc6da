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
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// Repository loads the aggregates of one definition. It is safe for concurrent
// use; the aggregates are not: every caller gets its own.
type Repository[T any] struct {
	app        *Application
	definition definitions.Definition[T]
	cache      *aggregateCache[T] // nil if the cache is off
}

// NewRepository makes the repository of a definition and makes its events known
// to the application. Make it once, when the application is made.
//
// It returns a persistence.ErrProgramming if the definition's topics clash with
// another's, or if snapshotting or the cache is on and aggregates would not
// come back from there as they were; the error names the field and the setting.
// domain.State is the remedy for types that cannot be stored as they are.
func NewRepository[T any](app *Application, definition *domain.Definition[T]) (*Repository[T], error) {
	if app == nil {
		return nil, noApplication(definitions.Of(definition).Name())
	}
	r := &Repository[T]{app: app, definition: definitions.Of(definition)}
	if err := r.check(definition); err != nil {
		return nil, unusable(app.name, r.definition.Name(), err)
	}
	if app.cache.size > 0 {
		r.cache = newAggregateCache(r)
	}
	app.mu.Lock()
	defer app.mu.Unlock()
	app.repositories[r.definition.Name()] = append(app.repositories[r.definition.Name()], r)
	return r, nil
}

func (r *Repository[T]) check(definition *domain.Definition[T]) error {
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

// Get loads the latest version of an aggregate. It returns an
// ErrAggregateNotFound if the aggregate has no events, and a
// persistence.ErrOriginatorType if the id is that of an aggregate of another
// definition.
func (r *Repository[T]) Get(ctx context.Context, id uuid.UUID) (*T, error) {
	if err := r.app.ready(ctx); err != nil {
		return nil, err
	}
	if r.app.isLoadObserved() {
		return r.observed(ctx, id, func(ctx context.Context) (*T, error) { return r.get(ctx, id) })
	}
	return r.get(ctx, id)
}

func (r *Repository[T]) get(ctx context.Context, id uuid.UUID) (*T, error) {
	// What a transaction has saved but not committed must not get into the
	// cache, and must be seen.
	if r.cache == nil || txscope.From(ctx) != nil {
		return r.load(ctx, id, latest)
	}
	return r.cache.get(ctx, id)
}

// latest asks for the aggregate as it is now.
const latest int64 = -1

// GetAt loads an aggregate as it was at a version. It returns an
// ErrAggregateNotFound if the aggregate never had that version, and a persistence.ErrProgramming if
// no aggregate could.
func (r *Repository[T]) GetAt(ctx context.Context, id uuid.UUID, version int64) (*T, error) {
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
		return r.observed(ctx, id, func(ctx context.Context) (*T, error) { return r.load(ctx, id, version) })
	}
	return r.load(ctx, id, version)
}

// load loads an aggregate up to a version.
func (r *Repository[T]) load(ctx context.Context, id uuid.UUID, version int64) (*T, error) {
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
func (r *Repository[T]) read(ctx context.Context, id uuid.UUID, version int64) (*T, error) {
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
func (r *Repository[T]) fromEvents(ctx context.Context, id uuid.UUID, events iter.Seq2[domain.Event, error]) (*T, error) {
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

func (r *Repository[T]) notFound(id uuid.UUID, version, reached int64) error {
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
func (r *Repository[T]) forward(aggregate *T, events iter.Seq2[domain.Event, error]) error {
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

func (r *Repository[T]) apply(aggregate *T, event domain.Event) error {
	if err := r.definition.Apply(aggregate, event); err != nil {
		if wrong := r.checkDefinition(event.OriginatorID, event.Topic); wrong != nil {
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
func (r *Repository[T]) loadFromSnapshot(
	ctx context.Context, id uuid.UUID, before int64, limit int, version int64,
) (*T, error) {
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
func (r *Repository[T]) fromSnapshot(
	ctx context.Context, stored persistence.StoredEvent, events iter.Seq2[domain.Event, error],
) (aggregate *T, unusable, err error) {
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

// checkDefinition returns an error if a topic belongs to another definition
// than the repository's.
func (r *Repository[T]) checkDefinition(id uuid.UUID, topic string) *persistence.Error {
	own := r.definition.EventTypes()
	if len(own) == 0 {
		return nil
	}
	stored := persistence.StoredEvent{OriginatorID: id, Topic: topic}
	return r.app.mapper.CheckDefinition(stored, own[0].Topic())
}

// Contains reports whether an aggregate has events. It reads one row and
// decodes nothing. It returns false for the id of an aggregate of another
// definition.
func (r *Repository[T]) Contains(ctx context.Context, id uuid.UUID) (bool, error) {
	if err := r.app.ready(ctx); err != nil {
		return false, err
	}
	for first, err := range r.app.recorder.SelectEvents(ctx, id, persistence.EventRange{Limit: 1}) {
		return err == nil && r.checkDefinition(id, first.Topic) == nil, err
	}
	return false, nil
}

// Save saves aggregates in one atomic write, as Application.Save does, for
// callers that do not need what was stored.
func (r *Repository[T]) Save(ctx context.Context, aggregates ...*T) error {
	changes := make([]domain.Changes, len(aggregates))
	for i, aggregate := range aggregates {
		if aggregate != nil {
			changes[i] = any(aggregate).(domain.Changes)
		}
	}
	_, err := r.app.Save(ctx, changes...)
	return err
}

// Update loads an aggregate, calls change with it, and saves it. If another
// writer has saved it in the meantime, or the database asks for it, Update
// repeats all of that, so change may be called several times and must act only
// on the aggregate that it is given. An error of change ends Update and is
// returned as it is; nothing is saved then.
//
// Between attempts Update waits, a little longer each time. It gives up after
// 100 attempts, or when ctx ends, with the last error. Inside a transaction
// there is only one attempt, because the whole transaction would have to be
// repeated; see gormstore.Retry.
func (r *Repository[T]) Update(ctx context.Context, id uuid.UUID, change func(*T) error) error {
	for attempt := 1; ; attempt++ {
		aggregate, err := r.Get(ctx, id)
		if err == nil {
			if err := change(aggregate); err != nil {
				return err
			}
			err = r.Save(ctx, aggregate)
		}
		if err == nil || !r.repeatable(ctx, err) || attempt == maxAttempts {
			return err
		}
		if !pause(ctx, attempt) {
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

// UpdateAt is Update for a caller that has seen the aggregate at a version,
// such as an HTTP request with If-Match: if the aggregate is at another
// version, or another writer saves it in the meantime, UpdateAt returns a
// *persistence.ConflictError that is Stale: its Current is the version that the
// aggregate has, and its Version is version+1, the one that was to be stored.
// Nothing is saved then. UpdateAt never repeats change, and neither does
// gormstore.Retry around it.
func (r *Repository[T]) UpdateAt(ctx context.Context, id uuid.UUID, version int64, change func(*T) error) error {
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
	err = r.Save(ctx, aggregate)
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

func (r *Repository[T]) repeatable(ctx context.Context, err error) bool {
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

// TakeSnapshot stores a snapshot of an aggregate as it is saved now. A snapshot
// of that version that exists already is a success, and one that this program
// cannot use is replaced; SnapshotDone of a telemetry.Observer says which of them
// it was. It returns a persistence.ErrNotSupported if the application keeps no
// snapshots.
func (r *Repository[T]) TakeSnapshot(ctx context.Context, id uuid.UUID) error {
	return r.takeSnapshot(ctx, id, func() (*T, error) { return r.load(ctx, id, latest) })
}

// TakeSnapshotAt is TakeSnapshot for an earlier version.
func (r *Repository[T]) TakeSnapshotAt(ctx context.Context, id uuid.UUID, version int64) error {
	return r.takeSnapshot(ctx, id, func() (*T, error) { return r.GetAt(ctx, id, version) })
}

func (r *Repository[T]) takeSnapshot(ctx context.Context, id uuid.UUID, load func() (*T, error)) error {
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

// stateAt implements repository.
func (r *Repository[T]) stateAt(ctx context.Context, id uuid.UUID, version int64) (any, error) {
	aggregate, err := r.load(ctx, id, version)
	if err != nil {
		return nil, err
	}
	return r.definition.TakeSnapshot(aggregate).Data, nil
}

// snapshot implements repository.
func (r *Repository[T]) snapshot(ctx context.Context, change domain.Changes, id uuid.UUID, version int64) error {
	aggregate, ok := any(change).(*T)
	if !ok || r.definition.Root(aggregate).Version() != version {
		return r.TakeSnapshotAt(ctx, id, version)
	}
	return r.takeSnapshot(ctx, id, func() (*T, error) { return aggregate, nil })
}

// saved implements repository.
func (r *Repository[T]) saved(change domain.Changes) {
	if aggregate, ok := any(change).(*T); ok && r.cache != nil {
		r.cache.saved(aggregate)
	}
}

// forget implements repository.
func (r *Repository[T]) forget(id uuid.UUID) {
	if r.cache != nil {
		r.cache.entries.Remove(id)
	}
}
