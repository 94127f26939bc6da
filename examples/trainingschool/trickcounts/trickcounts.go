// Package trickcounts is a follower of the training school with a table of its own: how many dogs know each trick.
package trickcounts

import (
	"context"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
)

// TrickCount is a row of the table trick_counts.
type TrickCount struct {
	Trick string `gorm:"primaryKey"`
	Dogs  int64  `gorm:"not null"`
}

// Migrate creates the table.
func Migrate(ctx context.Context, db *gorm.DB) error {
	return db.WithContext(ctx).AutoMigrate(&TrickCount{})
}

// TrickCounts is the follower. Its table is in the database of its position, so that both change together.
type TrickCounts struct {
	*application.Application
	db *gorm.DB
}

// New makes the follower. It needs the store gormstore.
func New(options ...application.Option) (*TrickCounts, error) {
	app, err := application.New("TrickCounts", options...)
	if err != nil {
		return nil, err
	}
	store, ok := app.Factory().(*gormstore.Store)
	if !ok {
		return nil, fmt.Errorf("TrickCounts has a table of its own, so PERSISTENCE_MODULE must be gormstore, not %T", app.Factory())
	}
	return &TrickCounts{Application: app, db: store.DB()}, nil
}

// Topics are the events that it wants.
func (c *TrickCounts) Topics() []string { return []string{"Dog.TrickAdded"} }

// Policy counts a dog that has learned a trick, in the transaction in which the position moves.
func (c *TrickCounts) Policy(ctx context.Context, event domain.Event, _ *application.ProcessingEvent) error {
	tx, err := gormstore.Tx(ctx)
	if err != nil {
		return err
	}
	again := clause.OnConflict{Columns: []clause.Column{{Name: "trick"}},
		DoUpdates: clause.Assignments(map[string]any{"dogs": gorm.Expr("trick_counts.dogs + 1")})}
	return tx.Clauses(again).Create(&TrickCount{Trick: event.Data.(school.TrickAdded).Trick, Dogs: 1}).Error
}

// ResetState empties the table, so that processing all events again counts them once. The school is the only leader.
func (c *TrickCounts) ResetState(ctx context.Context, _ []string) error {
	tx, err := gormstore.Tx(ctx)
	if err != nil {
		return err
	}
	return tx.Where("TRUE").Delete(&TrickCount{}).Error
}

// Counts returns all tricks, the ones that most dogs know first.
func (c *TrickCounts) Counts(ctx context.Context) (counts []TrickCount, err error) {
	err = c.db.WithContext(ctx).Order("dogs DESC, trick").Find(&counts).Error
	return counts, err
}
