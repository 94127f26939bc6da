package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The applications of the row load: the same histories, as the framework stores
// them, compressed and encrypted, and as JSON alone.
const (
	sealedName = "BenchmarkSealed"
	rawName    = "BenchmarkRaw"
)

const (
	loadedAggregates = 4  // that are loaded in turn
	behindSnapshot   = 10 // events that follow the snapshot
)

// A library is the histories that the row load reads.
type library struct {
	bench  *bench
	d      *database
	db     *gorm.DB
	seal   application.Option
	ids    []uuid.UUID
	events int
}

// newLibrary writes histories of a number of events each.
func (b *bench) newLibrary(ctx context.Context, d *database, db *gorm.DB, events int) (*library, error) {
	seal, err := sealed()
	if err != nil {
		return nil, err
	}
	l := &library{bench: b, d: d, db: db, seal: seal, events: events}
	for range loadedAggregates {
		l.ids = append(l.ids, uuid.New())
	}
	err = d.reset(ctx, b.preload)
	if err == nil {
		err = errors.Join(l.fill(ctx, applicationName), l.fill(ctx, sealedName, seal), l.fillRaw(ctx), l.takeSnapshots(ctx))
	}
	if err == nil {
		_, err = d.admin.ExecContext(ctx, "ANALYZE")
	}
	return l, err
}

// fill saves the accounts in an application.
func (l *library) fill(ctx context.Context, name string, options ...application.Option) error {
	_, repository, err := newLedger(l.db, name, options...)
	if err != nil {
		return err
	}
	for _, id := range l.ids {
		if err := repository.Save(ctx, newAccount(id, l.events)); err != nil {
			return err
		}
	}
	return nil
}

// fillRaw stores the same payloads as JSON.
func (l *library) fillRaw(ctx context.Context) error {
	app, _, err := newLedger(l.db, rawName)
	if err != nil {
		return err
	}
	for _, id := range l.ids {
		var rows []persistence.StoredEvent
		for _, event := range newAccount(id, l.events).PendingEvents() {
			state, err := json.Marshal(event.Data)
			if err != nil {
				return err
			}
			rows = append(rows, persistence.StoredEvent{
				OriginatorID: id, OriginatorVersion: event.OriginatorVersion, Topic: event.Topic, State: state,
			})
		}
		if _, err := bridge.Of(app).Recorder().InsertEvents(ctx, rows); err != nil {
			return err
		}
	}
	return nil
}

func (l *library) takeSnapshots(ctx context.Context) error {
	_, repository, err := newLedger(l.db, applicationName, application.WithSnapshotting(nil))
	if err != nil {
		return err
	}
	for _, id := range l.ids {
		if err := repository.TakeSnapshotAt(ctx, id, int64(max(l.events-behindSnapshot, 1))); err != nil {
			return err
		}
	}
	return nil
}

// A getter loads a history and counts its events.
type getter func(ctx context.Context, id uuid.UUID) (events int, err error)

// repository is a way to load: with Repository.Get, by an application with
// these options.
func (l *library) repository(name, app string, options ...application.Option) way {
	return l.reading(name, func() (getter, func() error, error) {
		_, repository, err := newLedger(l.db, app, options...)
		get := func(ctx context.Context, id uuid.UUID) (int, error) {
			account, err := repository.Get(ctx, id)
			if err != nil {
				return 0, err
			}
			return int(account.Version()), nil
		}
		return get, func() error { return nil }, err
	})
}

// rows is the limit of loading: the rows, and their payloads out of JSON.
func (l *library) rows() way {
	return l.reading(raw, func() (getter, func() error, error) {
		pool, err := l.d.pool(1)
		if err != nil {
			return nil, nil, err
		}
		query, err := pool.Prepare("SELECT originator_version, topic, state FROM stored_events" +
			" WHERE application_name = $1 AND originator_id = $2 ORDER BY originator_version")
		if err != nil {
			return nil, nil, errors.Join(err, pool.Close())
		}
		get := func(ctx context.Context, id uuid.UUID) (int, error) { return l.read(ctx, query, id) }
		return get, func() error { return errors.Join(query.Close(), pool.Close()) }, nil
	})
}

func (l *library) read(ctx context.Context, query *sql.Stmt, id uuid.UUID) (n int, err error) {
	rows, err := query.QueryContext(ctx, rawName, l.d.uuid(id))
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var version int64
		var topic string
		var state []byte
		if err := rows.Scan(&version, &topic, &state); err != nil {
			return 0, err
		}
		if version == 1 {
			err = json.Unmarshal(state, new(Opened))
		} else {
			err = json.Unmarshal(state, new(Booked))
		}
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, rows.Err()
}

// reading is the way of a getter.
func (l *library) reading(name string, open func() (get getter, end func() error, err error)) way {
	return way{name: name, turn: func(ctx context.Context) (_ tally, err error) {
		get, end, err := open()
		if err != nil {
			return tally{}, err
		}
		defer func() { err = errors.Join(err, end()) }()
		meter, err := l.d.meter(ctx)
		if err != nil {
			return tally{}, err
		}
		next := 0
		read := func(ctx context.Context) error {
			next = (next + 1) % len(l.ids)
			events, err := get(ctx, l.ids[next])
			if err == nil && events != l.events {
				err = fmt.Errorf("void: %d of %d events were loaded", events, l.events)
			}
			return err
		}
		return closedLoop(ctx, l.bench.timing, []operation{read}, meter)
	}}
}

// cell is the cell of the given ways to load.
func (l *library) cell(row string, ways ...way) *cell {
	return &cell{row: row, database: l.d.kind, workers: 1, events: l.events, note: "Repository.Get", ways: ways}
}

// all are the ways to load. The cache asks the database for what is new, unless
// it is told not to.
func (l *library) all() []way {
	cache := map[string]string{"AGGREGATE_CACHE_MAXSIZE": "1000"}
	alone := map[string]string{"AGGREGATE_CACHE_MAXSIZE": "1000", "AGGREGATE_CACHE_FASTFORWARD": "n"}
	return []way{
		l.repository(ours, applicationName),
		l.rows(),
		l.repository("ours, zlib, AES", sealedName, l.seal),
		l.repository("ours, snapshot", applicationName, application.WithSnapshotting(nil)),
		l.repository("ours, cache", applicationName, application.WithEnv(cache)),
		l.repository("ours, cache alone", applicationName, application.WithEnv(alone)),
	}
}

// withLibrary calls f with histories of a number of events each.
func (b *bench) withLibrary(ctx context.Context, d *database, events int, f func(*library) (result, error)) (_ result, err error) {
	db, pool, err := d.open(1)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	l, err := b.newLibrary(ctx, d, db, events)
	if err != nil {
		return result{}, err
	}
	return f(l)
}

// measureLoad is the row load.
func (b *bench) measureLoad(ctx context.Context, p *place) ([]result, error) {
	return b.within(p, func(d *database) (results []result, err error) {
		for _, events := range b.histories {
			r, err := b.withLibrary(ctx, d, events, func(l *library) (result, error) {
				return l.cell(rowLoad, l.all()...).measure(ctx, b.rounds)
			})
			if err != nil {
				return nil, err
			}
			results = append(results, r)
		}
		return results, nil
	})
}
