// Package dognames is a follower of the training school that keeps the names of
// its dogs. It shows a follower with a table as package system has it, without
// gormstore.NewProjection: to process an event again changes nothing, so it can
// be reset at any time.
package dognames

import (
	"context"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/system"
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
	*system.Follower
	db *gorm.DB
}

// New makes the follower, with its table in the database of a store.
func New(store *gormstore.Store, options ...application.Option) (*DogNames, error) {
	app, err := application.New("DogNames", append(options, application.WithStore(store))...)
	if err != nil {
		return nil, err
	}
	n := &DogNames{db: store.DB()}
	n.Follower, err = system.NewFollower(app, system.On(keep), system.Replayable())
	return n, err
}

// keep keeps the name of a new dog. One that is kept already stays as it is.
func keep(ctx context.Context, e domain.Recorded[school.Registered]) error {
	tx, err := gormstore.Tx(ctx)
	if err != nil {
		return err
	}
	return tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&DogName{e.Data.Name}).Error
}

// Names returns the names of all dogs, sorted.
func (n *DogNames) Names(ctx context.Context) (names []string, err error) {
	err = n.db.WithContext(ctx).Model(&DogName{}).Order("name").Pluck("name", &names).Error
	return names, err
}
