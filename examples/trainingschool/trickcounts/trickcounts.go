// Package trickcounts is a projection of the training school: how many dogs
// know each trick.
package trickcounts

import (
	"context"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
)

// TrickCount is a row of the table trick_counts.
type TrickCount struct {
	Trick string `gorm:"primaryKey"`
	Dogs  int64  `gorm:"not null"`
}

// TrickCounts is the projection.
type TrickCounts struct{ *gormstore.Projection }

// New makes the projection in the database of a store.
func New(store *gormstore.Store, options ...gormstore.ProjectionOption) (*TrickCounts, error) {
	p, err := gormstore.NewProjection("TrickCounts", store,
		append(options, gormstore.Models(&TrickCount{}), gormstore.On(count))...)
	return &TrickCounts{p}, err
}

// count counts a dog that has learned a trick, in the transaction in which the
// position moves.
func count(_ context.Context, tx *gorm.DB, e domain.Recorded[school.TrickAdded]) error {
	return tx.Exec(`INSERT INTO trick_counts (trick, dogs) VALUES (?, 1)
		ON CONFLICT (trick) DO UPDATE SET dogs = trick_counts.dogs + 1`, e.Data.Trick).Error
}

// Counts returns all tricks, the ones that most dogs know first.
func (c *TrickCounts) Counts(ctx context.Context) (counts []TrickCount, err error) {
	err = c.DB(ctx).Order("dogs DESC, trick").Find(&counts).Error
	return counts, err
}
