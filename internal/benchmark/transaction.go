package main

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The ways to save events in one transaction with a row of another table. The
// raw way has no order: it inserts the events as they come.
const (
	ownTransaction    = "own transaction"
	strictTransaction = "strict transaction"
	rawTransaction    = "raw transaction"
)

// ownRow is the statement for the caller's own row.
const ownRow = "INSERT INTO own_rows (text) VALUES ('0123456789012345678901234567890123456789')"

// measureTransaction is the row transaction: an own row, a save and a commit.
func (b *bench) measureTransaction(ctx context.Context, p *place) ([]result, error) {
	results, err := b.within(p, func(d *database) ([]result, error) {
		return b.transactions(ctx, d, "own row and recorder", b.writers)
	})
	if err != nil || p.kind == sqliteKind { // a process cannot slow its own disk
		return results, err
	}
	slow, err := b.onSlowServer(ctx, p, func(d *database) ([]result, error) {
		return b.transactions(ctx, d, "the same, +1 ms a sync", b.writers)
	})
	return append(results, slow...), err
}

func (b *bench) transactions(ctx context.Context, d *database, note string, writers []int) (results []result, err error) {
	if err := d.createOwnRows(ctx); err != nil {
		return nil, err
	}
	for _, n := range writers {
		c := &cell{row: rowTransaction, database: d.kind, workers: n, events: 1, note: note}
		ways := []struct{ name, way string }{{ours, ownTransaction}, {raw, rawTransaction}}
		if d.kind != sqliteKind {
			ways = append(ways, struct{ name, way string }{"strict", strictTransaction})
		}
		for _, one := range ways {
			task := b.task(one.way, n, 1)
			turn := func(ctx context.Context) (tally, error) { return task.run(ctx, d) }
			c.ways = append(c.ways, way{name: one.name, turn: b.saving(d, 1, turn)})
		}
		r, err := c.measure(ctx, b.rounds)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

func (d *database) createOwnRows(ctx context.Context) error {
	key := "bigserial PRIMARY KEY"
	if d.kind == sqliteKind {
		key = "INTEGER PRIMARY KEY AUTOINCREMENT"
	}
	return d.execute(ctx, "CREATE TABLE own_rows (id "+key+", text text NOT NULL)")
}

// openOwnTransaction saves through the recorder in gormstore.Transaction.
func openOwnTransaction(d *database, writers, _ int) (*saver, error) {
	return d.openTransaction(writers)
}

// openStrictTransaction is the same in strict order.
func openStrictTransaction(d *database, writers, _ int) (*saver, error) {
	return d.openTransaction(writers, gormstore.WithStrictOrder())
}

func (d *database) openTransaction(writers int, options ...gormstore.Option) (*saver, error) {
	db, pool, err := d.open(writers)
	if err != nil {
		return nil, err
	}
	recorder, err := gormstore.New(db, options...).ProcessRecorder(applicationName)
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	save := func(ctx context.Context, events []persistence.StoredEvent) error {
		return gormstore.Transaction(ctx, db, func(ctx context.Context, tx *gorm.DB) error {
			if err := tx.Exec(ownRow).Error; err != nil {
				return err
			}
			_, err := recorder.InsertEvents(ctx, events)
			return err
		})
	}
	return &saver{save: save, close: pool.Close}, nil
}

// openRawTransaction inserts the events in a transaction of GORM.
func openRawTransaction(d *database, writers, events int) (*saver, error) {
	db, pool, err := d.open(writers)
	if err != nil {
		return nil, err
	}
	insert := insertion(events)
	save := func(ctx context.Context, stored []persistence.StoredEvent) error {
		return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Exec(ownRow).Error; err != nil {
				return err
			}
			arguments := make([]any, 0, 5*len(stored))
			for _, e := range stored {
				arguments = append(arguments, applicationName, d.uuid(e.OriginatorID), e.OriginatorVersion, e.Topic, e.State)
			}
			return tx.Exec(insert, arguments...).Error
		})
	}
	return &saver{save: save, close: pool.Close}, nil
}
