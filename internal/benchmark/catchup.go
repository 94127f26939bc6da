package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
)

// Ways that take so long for an event that they are given fewer: rates are what
// is compared.
const (
	originalEvents = 2_000
	updatedEvents  = 10_000
)

// The logs that the row catchup reads, beside those of the row load.
const (
	originalName = "BenchmarkOriginal"
	updatedName  = "BenchmarkUpdated"
)

// How much a raw reader reads at once, and how much the original does.
const (
	rawPage      = 500
	originalPage = 10
)

// A view is a table of the service, which a handler keeps up to date.
type view struct {
	ID       int64 `gorm:"primaryKey"`
	Bookings int64
}

// updateView is a policy that changes the view with every event, in the
// transaction of the position.
func updateView(ctx context.Context, _ domain.Event) error {
	tx, err := gormstore.Tx(ctx)
	if err != nil {
		return err
	}
	return tx.Model(&view{ID: 1}).Update("bookings", gorm.Expr("bookings + 1")).Error
}

// newView makes the table, with the row that policies change.
func newView(d *database) (err error) {
	db, pool, err := d.open(1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	if err := db.AutoMigrate(&view{}); err != nil {
		return err
	}
	return db.Create(&view{ID: 1}).Error
}

// follow has a follower of this package's catch up with a log.
func follow(d *database, name string, h *history, do policy) way {
	return d.catchingUp(name, h, func() (reader, func() error, error) {
		db, pool, err := d.open(2)
		if err != nil {
			return nil, nil, err
		}
		p, err := newPair(db, h.application, do, nil, h.options()...)
		read := func(ctx context.Context) (int64, error) { return p.catchUp(ctx, h.events, nil) }
		return read, pool.Close, err
	})
}

// A reader processes a whole log. It returns how many events it has processed.
type reader func(ctx context.Context) (int64, error)

// catchingUp is the way of a reader. It begins with no position and ends with
// that of the last event.
func (d *database) catchingUp(name string, h *history, open func() (read reader, end func() error, err error)) way {
	return way{name: name, turn: func(ctx context.Context) (_ tally, err error) {
		if err := d.forget(ctx); err != nil {
			return tally{}, err
		}
		read, end, err := open()
		if err != nil {
			return tally{}, err
		}
		defer func() { err = errors.Join(err, end()) }()
		meter, err := d.meter(ctx)
		if err != nil {
			return tally{}, err
		}
		t, err := once(ctx, meter, read)
		if err != nil {
			return t, err
		}
		return t, d.verifyPosition(ctx, h, t.Operations)
	}}
}

// verifyPosition checks that a reader has processed so many events of a log,
// and that its position says so.
func (d *database) verifyPosition(ctx context.Context, h *history, processed int64) error {
	var behind int64
	err := d.admin.QueryRowContext(ctx, `SELECT count(*) FROM stored_events WHERE application_name = $1 AND id <= `+
		`(SELECT MAX(notification_id) FROM notification_tracking WHERE upstream_application_name = $1)`, h.application).Scan(&behind)
	if err == nil && (behind != processed || processed != int64(h.events)) {
		err = fmt.Errorf("void: %d of %d events were processed, and the position is behind %d", processed, h.events, behind)
	}
	return err
}

// readRaw is the limit of catching up: pages of the log, their payloads out of
// JSON, and one UPDATE for each page.
func readRaw(d *database, h *history) way {
	return d.catchingUp(raw, h, func() (reader, func() error, error) {
		pool, err := d.pool(1)
		if err != nil {
			return nil, nil, err
		}
		_, inserted := pool.Exec("INSERT INTO notification_tracking (application_name, upstream_application_name, notification_id)"+
			" VALUES ($1, $2, 0)", followerName, h.application)
		update, err := pool.Prepare("UPDATE notification_tracking SET notification_id = $1" +
			" WHERE application_name = $2 AND upstream_application_name = $3")
		page, failed := preparePage(pool)
		if err = errors.Join(inserted, err, failed); err != nil {
			return nil, nil, errors.Join(err, pool.Close())
		}
		read := func(ctx context.Context) (int64, error) {
			return eachPage(ctx, page, h, rawPage, func(ids []int64) error {
				_, err := update.ExecContext(ctx, ids[len(ids)-1], followerName, h.application)
				return err
			})
		}
		return read, func() error { return errors.Join(page.Close(), update.Close(), pool.Close()) }, nil
	})
}

func preparePage(pool *sql.DB) (*sql.Stmt, error) {
	return pool.Prepare("SELECT id, originator_id, originator_version, topic, state FROM stored_events" +
		" WHERE application_name = $1 AND id > $2 ORDER BY id LIMIT $3")
}

// readOriginal catches up as the Python library does with its Django models: a
// short page at a time, and for each event a transaction that locks the table
// of events and has GORM create a row of the tracking table.
func readOriginal(d *database, h *history) way {
	return d.catchingUp(original, h, func() (reader, func() error, error) {
		db, pool, err := d.open(1)
		if err != nil {
			return nil, nil, err
		}
		page, err := preparePage(pool)
		if err != nil {
			return nil, nil, errors.Join(err, pool.Close())
		}
		read := func(ctx context.Context) (int64, error) {
			return eachPage(ctx, page, h, originalPage, func(ids []int64) error {
				for _, id := range ids {
					if err := d.track(ctx, db, h, id); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return read, func() error { return errors.Join(page.Close(), pool.Close()) }, nil
	})
}

// track stores a position as the original does: a row for each.
func (d *database) track(ctx context.Context, db *gorm.DB, h *history, id int64) error {
	return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if d.kind == postgresKind {
			if err := tx.Exec("LOCK TABLE stored_events IN EXCLUSIVE MODE").Error; err != nil {
				return err
			}
		}
		return tx.Create(&gormstore.NotificationTracking{
			ApplicationName: followerName, UpstreamApplicationName: h.application, NotificationID: id,
		}).Error
	})
}

// eachPage decodes a log a page at a time, and calls done with the ids of each
// page.
func eachPage(ctx context.Context, query *sql.Stmt, h *history, size int, done func(ids []int64) error) (events int64, err error) {
	for after := int64(0); ; {
		ids, err := readPage(ctx, query, h, after, size)
		if err != nil {
			return events, err
		}
		if len(ids) > 0 {
			if err := done(ids); err != nil {
				return events, err
			}
			after = ids[len(ids)-1]
		}
		events += int64(len(ids))
		if len(ids) < size {
			return events, nil
		}
	}
}

func readPage(ctx context.Context, query *sql.Stmt, h *history, after int64, size int) (ids []int64, err error) {
	rows, err := query.QueryContext(ctx, h.application, after, size)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, version int64
		var originator, topic string
		var state []byte
		if err := rows.Scan(&id, &originator, &version, &topic, &state); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(state, new(Booked)); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// measureCatchup is the row catchup.
func (b *bench) measureCatchup(ctx context.Context, p *place) ([]result, error) {
	seal, err := sealed()
	if err != nil {
		return nil, err
	}
	n := b.followers.backlog
	plain := &history{application: applicationName, events: n}
	sealed := &history{application: sealedName, events: n, seal: seal}
	alone := &history{application: rawName, events: n, json: true}
	short := &history{application: originalName, events: min(n, originalEvents), json: true}
	updated := &history{application: updatedName, events: min(n, updatedEvents)}
	return b.within(p, func(d *database) ([]result, error) {
		if err := errors.Join(d.record(ctx, plain, sealed, alone, short, updated), newView(d)); err != nil {
			return nil, err
		}
		c := &cell{row: rowCatchup, database: d.kind, workers: 1, events: 1, note: fmt.Sprintf("a log of %s events", number(float64(n)))}
		c.ways = []way{
			follow(d, ours, plain, nil),
			readRaw(d, alone),
			readOriginal(d, short),
			follow(d, "ours, GORM UPDATE", updated, updateView),
			follow(d, "ours, zlib, AES", sealed, nil),
		}
		r, err := c.measure(ctx, b.rounds)
		return []result{r}, err
	})
}
