package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// door is a way to save in a transaction.
type door struct {
	name   string
	plugin bool
	// run does the work in a transaction, and nested in a savepoint of one.
	run    func(ctx context.Context, db *gorm.DB, do work) error
	nested func(ctx context.Context, tx *gorm.DB, do work) error
}

// doors are all ways to save in a transaction.
var doors = []door{
	{"Transaction", false, gormstore.Transaction, nil},
	{"WithTx and Ended", false, withEnded, withEnded},
	{"WithTx and the plugin", true, withPlugin, withPlugin},
	{"Begin and Ended", false, byHandEnded, withEnded},
	{"Begin and the plugin", true, byHandPlugin, withPlugin},
}

// withEnded uses GORM's transactions and tells of their end.
func withEnded(ctx context.Context, db *gorm.DB, do work) (err error) {
	var inside context.Context
	finished := false
	defer func() {
		if !finished {
			err = errors.Join(err, errUndone)
		}
		if inside != nil {
			gormstore.Ended(inside, err)
		}
	}()
	err = db.Transaction(func(tx *gorm.DB) error {
		inside = gormstore.WithTx(ctx, tx)
		return do(inside, tx)
	})
	finished = true
	return err
}

// withPlugin uses GORM's transactions, nothing more.
func withPlugin(ctx context.Context, db *gorm.DB, do work) error {
	return db.Transaction(func(tx *gorm.DB) error { return do(gormstore.WithTx(ctx, tx), tx) })
}

func byHandEnded(ctx context.Context, db *gorm.DB, do work) error {
	tx := db.Begin()
	inside := gormstore.WithTx(ctx, tx)
	err := byHand(tx, func() error { return do(inside, tx) })
	gormstore.Ended(inside, err)
	return err
}

func byHandPlugin(ctx context.Context, db *gorm.DB, do work) error {
	tx := db.Begin()
	return byHand(tx, func() error { return do(gormstore.WithTx(ctx, tx), tx) })
}

func byHand(tx *gorm.DB, do func() error) (err error) {
	if tx.Error != nil {
		return tx.Error
	}
	defer func() {
		if panicked := recover(); panicked != nil {
			tx.Rollback()
			err = fmt.Errorf("%w: %v", errUndone, panicked)
		}
	}()
	if err := do(); err != nil {
		return errors.Join(err, tx.Rollback().Error)
	}
	return tx.Commit().Error
}

// eachDoor runs a test with every way to save in a transaction, on every kind
// of database and with the settings of GORM that concern transactions: each way
// without any and with one of them, or with all if every combination is tried.
func eachDoor(t *testing.T, test func(t *testing.T, o *clinic)) {
	t.Helper()
	t.Parallel()
	settings := []struct {
		name   string
		config gorm.Config
	}{
		{"plain", gorm.Config{}},
		{"PrepareStmt", gorm.Config{PrepareStmt: true}},
		{"DisableNestedTransaction", gorm.Config{DisableNestedTransaction: true}},
		{"SkipDefaultTransaction", gorm.Config{SkipDefaultTransaction: true}},
	}
	backends := []testdb.Backend{
		{Name: "sqlite-file", Open: testdb.SQLiteFile},
		{Name: "postgres", Open: testdb.OpenPostgresSchema},
		{Name: "postgres-one-connection", Open: testdb.OpenPostgresSchema},
	}
	for i, d := range doors {
		for _, backend := range backends {
			for j, setting := range settings {
				if j > 0 && j-1 != i%(len(settings)-1) && !testdb.Exhaustive() {
					continue
				}
				t.Run(d.name+"/"+backend.Name+"/"+setting.name, func(t *testing.T) {
					t.Parallel()
					first := backend.Open(t)
					db := configured(t, first.Dialector, setting.config)
					if strings.HasSuffix(backend.Name, "one-connection") {
						limit(t, db, 1)
					}
					o := openClinic(t, db, d)
					test(t, o)
					wantIdle(t, db)
				})
			}
		}
	}
}
