package application

import (
	"context"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
)

// Repository loads the aggregates of one definition. It is safe for concurrent
// use; the aggregates are not: every caller gets its own.
type Repository[T any] struct{ aggregates *aggregates }

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
	a, err := newAggregates(app, definition)
	if err != nil {
		return nil, err
	}
	return &Repository[T]{a}, nil
}

// Get loads the latest version of an aggregate. It returns an
// ErrAggregateNotFound if the aggregate has no events, and a
// persistence.ErrOriginatorType if the id is that of an aggregate of another
// definition.
func (r *Repository[T]) Get(ctx context.Context, id uuid.UUID) (*T, error) {
	return definitions.Typed[T](r.aggregates.get(ctx, id))
}

// GetAt loads an aggregate as it was at a version. It returns an
// ErrAggregateNotFound if the aggregate never had that version, and a
// persistence.ErrProgramming if no aggregate could.
func (r *Repository[T]) GetAt(ctx context.Context, id uuid.UUID, version int64) (*T, error) {
	return definitions.Typed[T](r.aggregates.getAt(ctx, id, version))
}

// Contains reports whether an aggregate has events. It reads one row and
// decodes nothing. It returns false for the id of an aggregate of another
// definition.
func (r *Repository[T]) Contains(ctx context.Context, id uuid.UUID) (bool, error) {
	return r.aggregates.contains(ctx, id)
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
	_, err := r.aggregates.app.Save(ctx, changes...)
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
	return r.aggregates.update(ctx, id, func(aggregate any) error { return change(aggregate.(*T)) })
}

// UpdateAt is Update for a caller that has seen the aggregate at a version,
// such as an HTTP request with If-Match: if the aggregate is at another
// version, or another writer saves it in the meantime, UpdateAt returns a
// *persistence.ConflictError that is Stale: its Current is the version that the
// aggregate has, and its Version is version+1, the one that was to be stored.
// Nothing is saved then. UpdateAt never repeats change, and neither does
// gormstore.Retry around it.
func (r *Repository[T]) UpdateAt(ctx context.Context, id uuid.UUID, version int64, change func(*T) error) error {
	return r.aggregates.updateAt(ctx, id, version, func(aggregate any) error { return change(aggregate.(*T)) })
}

// TakeSnapshot stores a snapshot of an aggregate as it is saved now. A snapshot
// of that version that exists already is a success, and one that this program
// cannot use is replaced; SnapshotDone of a telemetry.Observer says which of them
// it was. It returns a persistence.ErrNotSupported if the application keeps no
// snapshots.
func (r *Repository[T]) TakeSnapshot(ctx context.Context, id uuid.UUID) error {
	a := r.aggregates
	return a.takeSnapshot(ctx, id, func() (any, error) { return a.load(ctx, id, latest) })
}

// TakeSnapshotAt is TakeSnapshot for an earlier version.
func (r *Repository[T]) TakeSnapshotAt(ctx context.Context, id uuid.UUID, version int64) error {
	return r.aggregates.takeSnapshotAt(ctx, id, version)
}
