package gormstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// How a batch is written to SQLite: in one transaction, so that one sync to disk serves all saves, with one prepared
// statement, which costs less than a long one for many rows. A save that conflicts is undone alone. A single event needs
// no transaction around its statement.

const insertRow = " (application_name, originator_id, originator_version, topic, state) VALUES (?, ?, ?, ?, ?)"

// merge implements dialect.
func (s sqlite) merge(ctx context.Context, r *processRecorder, batch []*save) {
	if len(batch) == 1 && len(batch[0].events) == 1 {
		s.writeEvent(ctx, r, batch[0])
		return
	}
	err := r.store.atomically(ctx, r.application+": "+opSave, func(ctx context.Context, pool unit) error {
		return s.writeBatch(ctx, connection{pool, r.store}, r, batch)
	})
	if err == nil {
		return
	}
	for _, save := range batch {
		save.ids, save.err = r.explain(ctx, connection{r.store.pool, r.store}, r.application+": "+opSave, save.events, err)
	}
}

// writeEvent writes a single event with a single statement, which is atomic by itself.
func (s sqlite) writeEvent(ctx context.Context, r *processRecorder, save *save) {
	if save.err = r.store.room(ctx); save.err != nil {
		return
	}
	ctx, alarm := r.store.handle.alarms.bounded(ctx, r.store.lockTimeout+commitTimeout)
	defer alarm.stop()
	c := connection{r.store.pool, r.store}
	err := s.patiently(ctx, r.store.lockTimeout, func() (err error) {
		save.ids, err = s.insertEvent(ctx, r, save)
		return err
	})
	save.err = nil
	if err != nil {
		if s.unanswered(err) && r.store.faultOf(err).class == persistence.ErrOperational {
			err = &lostReply{err: err, locked: true} // it is not SQLite that reports it, which may have stored the event
		}
		save.ids, save.err = r.explain(ctx, c, r.application+": "+opSave, save.events, err)
	}
}

// insertEvent uses a statement that is prepared once, where every connection of the pool syncs by itself; otherwise it
// takes a connection and has it sync.
func (s sqlite) insertEvent(ctx context.Context, r *processRecorder, save *save) ([]int64, error) {
	query := "INSERT INTO " + r.table.quoted + insertRow
	if r.store.handle.synced {
		statement, err := r.store.statement(ctx, query)
		if err != nil {
			return nil, err
		}
		return s.writeRows(r, save.events, func(arguments []any) (sql.Result, error) {
			begin := time.Now()
			result, err := statement.ExecContext(ctx, arguments...)
			connection{r.store.pool, r.store}.trace(ctx, begin, query, -1, err)
			return result, err
		})
	}
	conn, err := s.connect(ctx, r.store)
	if err != nil {
		return nil, err
	}
	defer conn.Close() // an error of giving back a connection has no consequence
	return s.writeRows(r, save.events, func(arguments []any) (sql.Result, error) {
		return connection{conn, r.store}.result(ctx, query, arguments...)
	})
}

// writeBatch writes the saves of a batch one after the other. Its error is for all of them.
func (s sqlite) writeBatch(ctx context.Context, c connection, r *processRecorder, batch []*save) error {
	statement, err := c.pool.PrepareContext(ctx, "INSERT INTO "+r.table.quoted+insertRow)
	if err != nil {
		return err
	}
	defer statement.Close() // closed with its connection at the latest
	insert := func(arguments []any) (sql.Result, error) { return statement.ExecContext(ctx, arguments...) }
	for _, save := range batch {
		if err := s.writeSave(ctx, c, r, save, insert); err != nil {
			return err
		}
	}
	return nil
}

// writeSave writes one save so that a conflict undoes it and nothing else. A statement that fails undoes itself, so only
// several need a savepoint.
func (s sqlite) writeSave(ctx context.Context, c connection, r *processRecorder, save *save, insert insertFunc) error {
	write := func() (err error) { save.ids, err = s.writeRows(r, save.events, insert); return err }
	save.err = nil
	var err error
	if len(save.events) == 1 {
		err = write()
	} else {
		err = r.store.savepoint(ctx, c, write)
	}
	if err == nil || errors.Is(err, persistence.ErrOperational) || errors.Is(r.store.faultOf(err).class, persistence.ErrOperational) {
		return err // trouble with the database is everybody's
	}
	save.ids, save.err = r.explain(ctx, c, r.application+": "+opSave, save.events, err)
	return nil
}

type insertFunc func(arguments []any) (sql.Result, error)

func (sqlite) writeRows(r *processRecorder, events []persistence.StoredEvent, insert insertFunc) ([]int64, error) {
	ids := make([]int64, len(events))
	for i := range events {
		e := &events[i]
		result, err := insert([]any{r.application, hexadecimal(e.OriginatorID), e.OriginatorVersion, e.Topic, e.State})
		if err != nil {
			return nil, err
		}
		if ids[i], err = result.LastInsertId(); err != nil {
			return nil, err
		}
	}
	return ids, nil
}
