package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// What is saved at the level of the recorder.
const (
	eventsPerAggregate = 100
	stateSize          = 200
)

var (
	sampleTopic = strings.Repeat("t", 40)
	sampleState = []byte(strings.Repeat("z", stateSize))
)

// A saver saves events in one of the ways. It is safe for concurrent use.
type saver struct {
	save  func(context.Context, []persistence.StoredEvent) error
	close func() error
}

// savers open the ways of saving, for a number of concurrent writers and of
// events in each save.
var savers = map[string]func(d *database, writers, events int) (*saver, error){
	ours:     openOurs,
	raw:      openRaw,
	original: openOriginal,

	ownTransaction:    openOwnTransaction,
	strictTransaction: openStrictTransaction,
	rawTransaction:    openRawTransaction,
}

// openOurs saves through the recorder of an application.
func openOurs(d *database, writers, _ int) (*saver, error) {
	db, pool, err := d.open(writers)
	if err != nil {
		return nil, err
	}
	recorder, err := gormstore.New(db).ProcessRecorder(applicationName)
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	save := func(ctx context.Context, events []persistence.StoredEvent) error {
		_, err := recorder.InsertEvents(ctx, events)
		return err
	}
	return &saver{save: save, close: pool.Close}, nil
}

// openRaw saves with one prepared INSERT, which is a transaction by itself.
func openRaw(d *database, writers, events int) (*saver, error) {
	pool, err := d.pool(writers)
	if err != nil {
		return nil, err
	}
	insert, err := pool.Prepare(insertion(events))
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	save := func(ctx context.Context, events []persistence.StoredEvent) error {
		arguments := make([]any, 0, 5*len(events))
		for _, e := range events {
			arguments = append(arguments, applicationName, d.uuid(e.OriginatorID), e.OriginatorVersion, e.Topic, e.State)
		}
		_, err := insert.ExecContext(ctx, arguments...)
		return err
	}
	return &saver{save: save, close: func() error { return errors.Join(insert.Close(), pool.Close()) }}, nil
}

// insertion is the INSERT of a number of rows, in a form that both databases
// understand.
func insertion(rows int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO stored_events (application_name, originator_id, originator_version, topic, state) VALUES ")
	for row := range rows {
		if row > 0 {
			b.WriteString(", ")
		}
		for column := range 5 {
			b.WriteString(string("(,,,,"[column]) + "$" + strconv.Itoa(5*row+column+1))
		}
		b.WriteString(")")
	}
	return b.String()
}

// uuid is an id in the form that the database keeps it in.
func (d *database) uuid(id uuid.UUID) string {
	if d.kind == sqliteKind {
		return strings.ReplaceAll(id.String(), "-", "")
	}
	return id.String()
}

// openOriginal saves as the Python library does with its Django models: in a
// transaction that first locks the table against other writers, a row at a
// time.
func openOriginal(d *database, writers, _ int) (*saver, error) {
	db, pool, err := d.open(writers)
	if err != nil {
		return nil, err
	}
	save := func(ctx context.Context, events []persistence.StoredEvent) error {
		return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if d.kind == postgresKind {
				if err := tx.Exec("LOCK TABLE stored_events IN EXCLUSIVE MODE").Error; err != nil {
					return err
				}
			}
			for _, e := range events {
				row := gormstore.StoredEvent{
					ApplicationName: applicationName, OriginatorID: gormstore.UUID(e.OriginatorID),
					OriginatorVersion: e.OriginatorVersion, Topic: e.Topic, State: e.State,
				}
				if err := tx.Create(&row).Error; err != nil {
					return err
				}
			}
			return nil
		})
	}
	return &saver{save: save, close: pool.Close}, nil
}

// open opens a handle of GORM, and the pool that is under it.
func (d *database) open(connections int) (*gorm.DB, *sql.DB, error) {
	db, err := d.gorm(connections)
	if err != nil {
		return nil, nil, err
	}
	pool, err := db.DB()
	return db, pool, err
}

// A writer appends to its own aggregate, and to a new one when that has
// eventsPerAggregate events.
type writer struct {
	saver  *saver
	events []persistence.StoredEvent
	last   int64 // version
}

func newWriter(s *saver, events int, topic string, state []byte) *writer {
	w := &writer{saver: s, events: make([]persistence.StoredEvent, events), last: eventsPerAggregate}
	for i := range w.events {
		w.events[i] = persistence.StoredEvent{Topic: topic, State: state}
	}
	return w
}

// write is an operation.
func (w *writer) write(ctx context.Context) error {
	w.next()
	return w.saver.save(ctx, w.events)
}

// next makes the events the ones that follow. The slice is used again:
// recorders do not take it over.
func (w *writer) next() {
	id := w.events[0].OriginatorID
	if w.last+int64(len(w.events)) > eventsPerAggregate {
		id, w.last = uuid.New(), 0
	}
	for i := range w.events {
		w.last++
		w.events[i].OriginatorID, w.events[i].OriginatorVersion = id, w.last
	}
}

// A task is what the writers of one process do.
type task struct {
	Way             string
	Writers, Events int
	Topic           string
	State           []byte
	Timing          timing
}

func (b *bench) task(way string, writers, events int) task {
	return task{Way: way, Writers: writers, Events: events, Topic: sampleTopic, State: sampleState, Timing: b.timing}
}

// prepare opens the task's way to save and makes the operations of its writers.
func (t *task) prepare(d *database) (operations []operation, end func() error, err error) {
	open, ok := savers[t.Way]
	if !ok {
		return nil, nil, fmt.Errorf("there is no way %q", t.Way)
	}
	s, err := open(d, t.Writers, t.Events)
	if err != nil {
		return nil, nil, err
	}
	for range t.Writers {
		operations = append(operations, newWriter(s, t.Events, t.Topic, t.State).write)
	}
	return operations, s.close, nil
}

// run does the task in this process.
func (t *task) run(ctx context.Context, d *database) (_ tally, err error) {
	operations, end, err := t.prepare(d)
	if err != nil {
		return tally{}, err
	}
	defer func() { err = errors.Join(err, end()) }()
	meter, err := d.meter(ctx)
	if err != nil {
		return tally{}, err
	}
	return closedLoop(ctx, t.Timing, operations, meter)
}

// saving surrounds the turn of a way that saves with what makes it comparable,
// and with the check that it has stored what it has acknowledged.
func (b *bench) saving(d *database, events int, turn func(context.Context) (tally, error)) func(context.Context) (tally, error) {
	return func(ctx context.Context) (tally, error) {
		if err := d.reset(ctx, b.preload); err != nil {
			return tally{}, err
		}
		t, err := turn(ctx)
		if err != nil {
			return t, err
		}
		return t, d.verify(ctx, t.Acknowledged*int64(events))
	}
}

// saveWay is a way to save in this process.
func (b *bench) saveWay(d *database, name string, writers, events int) way {
	t := b.task(name, writers, events)
	turn := func(ctx context.Context) (tally, error) { return t.run(ctx, d) }
	return way{name: name, turn: b.saving(d, events, turn)}
}

// saveCell is a cell of the given ways to save.
func (b *bench) saveCell(d *database, row string, writers, events int, ways ...string) *cell {
	c := &cell{row: row, database: d.kind, workers: writers, events: events, note: "recorder"}
	for _, name := range ways {
		c.ways = append(c.ways, b.saveWay(d, name, writers, events))
	}
	return c
}

// measureSave is the row save.
func (b *bench) measureSave(ctx context.Context, p *place) ([]result, error) {
	return b.within(p, func(d *database) (results []result, err error) {
		for _, events := range b.events {
			for _, writers := range b.writers {
				r, err := b.saveCell(d, rowSave, writers, events, ours, raw, original).measure(ctx, b.rounds)
				if err != nil {
					return nil, err
				}
				results = append(results, r)
			}
		}
		return results, nil
	})
}

// measureLatency is the row latency.
func (b *bench) measureLatency(ctx context.Context, p *place) ([]result, error) {
	return b.within(p, func(d *database) ([]result, error) {
		r, err := b.saveCell(d, rowLatency, 16, 1, ours, raw).measure(ctx, b.rounds)
		return []result{r}, err
	})
}
