// Package dognames is a follower of the training school that keeps the names of its dogs. To process an event again changes
// nothing, so it can be reset at any time.
package dognames

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

// DogName is a row of the table dog_names.
type DogName struct {
	Name string `gorm:"primaryKey"`
}

// Migrate creates the table.
func Migrate(ctx context.Context, db *gorm.DB) error {
	return db.WithContext(ctx).AutoMigrate(&DogName{})
}

// DogNames is the follower.
type DogNames struct {
	*application.Application
	db *gorm.DB
}

// New makes the follower. It needs the store gormstore.
func New(options ...application.Option) (*DogNames, error) {
	app, err := application.New("DogNames", options...)
	if err != nil {
		return nil, err
	}
	store, ok := app.Factory().(*gormstore.Store)
	if !ok {
		return nil, fmt.Errorf("DogNames has a table of its own, so PERSISTENCE_MODULE must be gormstore, not %T", app.Factory())
	}
	return &DogNames{Application: app, db: store.DB()}, nil
}

// Topics are the events that it wants.
func (n *DogNames) Topics() []string { return []string{"Dog.Registered"} }

// Policy keeps the name of a new dog. One that is kept already stays as it is.
func (n *DogNames) Policy(ctx context.Context, event domain.Event, _ *application.ProcessingEvent) error {
	tx, err := gormstore.Tx(ctx)
	if err != nil {
		return err
	}
	return tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&DogName{event.Data.(school.Registered).Name}).Error
}

// StatelessPolicy says that all of this may be done again.
func (n *DogNames) StatelessPolicy() {}

// Names returns the names of all dogs, sorted.
func (n *DogNames) Names(ctx context.Context) (names []string, err error) {
	err = n.db.WithContext(ctx).Model(&DogName{}).Order("name").Pluck("name", &names).Error
	return names, err
}
