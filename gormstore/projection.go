package gormstore

import (
	"context"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// Projection is a follower that keeps tables of the service's own, its read
// model, in the database of its position, so that both change together. Embed
// it in a struct that has the queries.
type Projection struct {
	*system.Follower

	store *Store
}

// ProjectionOption is a part of a Projection.
type ProjectionOption func(*projectionParts)

type projectionParts struct {
	models      []any
	handlers    []system.FollowerOption
	application []application.Option
}

// Models names the models of the tables that the projection keeps, each as a
// pointer to a zero value. AutoMigrate migrates them, and so does the command
// migrate; a reset deletes all their rows, those of the last model first.
//
// A migration only adds what is missing. A table whose primary key is not that
// of its model is a difference that AutoMigrate, Validate and the command check
// report. For another shape, reset the projection, and drop its table or give
// the model another table name.
func Models(models ...any) ProjectionOption {
	return func(p *projectionParts) { p.models = append(p.models, models...) }
}

// On handles the events with payloads of type E. tx is the transaction in which
// the projection's position moves. See system.On for the rest.
func On[E any](handle func(ctx context.Context, tx *gorm.DB, event domain.Recorded[E]) error) ProjectionOption {
	return func(p *projectionParts) {
		if handle == nil {
			p.handlers = append(p.handlers, system.On[E](nil)) // which reports it
			return
		}
		p.handlers = append(p.handlers, system.On(func(ctx context.Context, event domain.Recorded[E]) error {
			tx, err := Tx(ctx)
			if err != nil {
				return err
			}
			return handle(ctx, tx, event)
		}))
	}
}

// WithFollower adds options of package system, such as system.StartAtHead or
// system.Park.
func WithFollower(options ...system.FollowerOption) ProjectionOption {
	return func(p *projectionParts) { p.handlers = append(p.handlers, options...) }
}

// WithApplication adds options of the projection's application, such as
// application.WithLogger.
func WithApplication(options ...application.Option) ProjectionOption {
	return func(p *projectionParts) { p.application = append(p.application, options...) }
}

// NewProjection makes a projection with a name and its own tables. It can be
// reset: that deletes all rows of its models, whatever leader they come from.
// Its rows are in the database of its store, so PERSISTENCE_MODULE has no
// effect on it. Its errors are those of application.New and system.NewFollower.
func NewProjection(name string, store *Store, options ...ProjectionOption) (*Projection, error) {
	if store == nil {
		return nil, fmt.Errorf("projection %q: the store is nil; give it what gormstore.New returned", name)
	}
	var parts projectionParts
	for _, option := range options {
		option(&parts)
	}
	app, err := application.New(name, append(slices.Clip(parts.application), application.WithStore(store))...)
	if err != nil {
		return nil, err
	}
	p := &Projection{store: store}
	handlers := parts.handlers
	if len(parts.models) > 0 {
		handlers = append(handlers, system.Resettable(func(ctx context.Context, _ []string) error { return empty(ctx, parts.models) }))
	}
	if p.Follower, err = system.NewFollower(app, handlers...); err != nil {
		return nil, err
	}
	store.poolState.addModels(parts.models)
	return p, nil
}

// DB returns a handle for queries of the read model: the transaction in ctx, or
// the store's database as Readers has it, so that on SQLite a query does not wait
// for the connection that writes, and cannot write.
func (p *Projection) DB(ctx context.Context) *gorm.DB {
	if tx, err := Tx(ctx); err == nil {
		return tx
	}
	return Readers(p.store.DB()).WithContext(ctx)
}

// empty deletes all rows of the models.
func empty(ctx context.Context, models []any) error {
	tx, err := Tx(ctx)
	if err != nil {
		return err
	}
	for _, model := range slices.Backward(models) {
		if err := tx.Session(&gorm.Session{AllowGlobalUpdate: true}).Unscoped().Delete(model).Error; err != nil {
			return err
		}
	}
	return nil
}
