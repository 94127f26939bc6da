package gormstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"time"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/groupcommit"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// How a batch is written to SQLite: in one transaction, so that one sync to
// disk serves all saves, with one prepared statement, which costs less than a
// long one for many rows. A save that conflicts is undone alone. A single event
// needs no transaction around its statement.

// continuesSQLite is the condition continues as SQLite finds it out fastest: it
// is slow to find the last entry of an index.
func continuesSQLite(events, application, originator, version string) string {
	stored := "EXISTS (SELECT 1 FROM " + events + " e WHERE e.application_name = " + application +
		" AND e.originator_id = " + originator + " AND e.originator_version "
	return "(NOT " + stored + ">= abs(" + version + ")) AND (" + stored + "= abs(" + version + ") - 1) OR " +
		version + " < 1 AND NOT " + stored + "< abs(" + version + "))))"
}

// insertRow is the statement for one event, which fails with a mismatch if the
// event does not continue its stream: its id is no number then. SQLite would
// copy the row to a temporary table if the condition were one of a SELECT.
func insertRow(events table, key string) string {
	return "INSERT INTO " + events.quoted + " (" + key + ", application_name, originator_id, originator_version, topic, state) " +
		"VALUES (CASE WHEN " + continuesSQLite(events.quoted, "?1", "?2", "?6") + " THEN NULL ELSE 'not continued' END, ?1, ?2, ?3, ?4, ?5)"
}

// sqliteMismatch is the result code of an id that is no number.
const sqliteMismatch = 20

func isSQLiteMismatch(err error) bool {
	code, ok := sqliteCode(err)
	return ok && code&0xff == sqliteMismatch
}

// storedID is the id of the row that insertRow has stored, or its error.
func storedID(result driver.Result, err error) (int64, error) {
	if isSQLiteMismatch(err) {
		return 0, errNotContinued
	}
	if err != nil {
		return 0, err
	}
	return result.LastInsertId()
}

// rejected is why the database does not take one save of a batch, for another
// reason than a conflict. What became of the transaction is not certain, so the
// saves are written each on its own.
type rejected struct{ error }

func (r *rejected) Unwrap() error { return r.error }

// merge implements dialect. If the wait for a lock took the time of the first
// save, the others that have time left go back to the queue.
func (s sqlite) merge(ctx context.Context, l *eventLog, batch []*save) {
	s.mergeOnce(ctx, l, batch)
	groupcommit.TakeBack(batch, l.store.lockTimeout)
}

func (s sqlite) mergeOnce(ctx context.Context, l *eventLog, batch []*save) {
	if len(batch) == 1 && len(batch[0].events) == 1 {
		s.writeEvent(ctx, l, batch[0])
		return
	}
	wait := groupcommit.Patience(batch, l.store.lockTimeout)
	err := l.store.inTransactionWithin(ctx, l.application+": "+opSave, wait, func(ctx context.Context, pool openTx) error {
		return s.writeBatch(ctx, connection{pool, l.store}, l, batch)
	})
	if err == nil {
		return
	}
	if _, ok := errors.AsType[*rejected](err); ok && len(batch) > 1 {
		for i := range batch {
			s.mergeOnce(ctx, l, batch[i:i+1])
		}
		return
	}
	for _, save := range batch {
		save.ids, save.Err = l.classifyWriteError(ctx, connection{l.store.pool, l.store}, l.application+": "+opSave, save.events, err)
	}
}

// writeEvent writes a single event with a single statement, which is atomic by
// itself.
func (s sqlite) writeEvent(ctx context.Context, l *eventLog, one *save) {
	wait := groupcommit.Patience([]*save{one}, l.store.lockTimeout)
	deadline := time.Now().Add(wait)
	if one.Err = l.store.waitForConnection(ctx, wait); one.Err != nil {
		return
	}
	ctx, alarm := l.store.poolState.deadlines.withTimeout(ctx, wait+commitTimeout)
	defer alarm.stop()
	c := connection{l.store.pool, l.store}
	err := s.insertEvent(ctx, l, one, deadline)
	one.Err = nil
	if err != nil {
		if !errors.Is(err, errNotContinued) && s.isOutcomeUnknown(err) && l.store.infoOf(err).class == persistence.ErrOperational {
			// It is not SQLite that reports it, which may have stored the
			// event.
			err = &unknownOutcome{err: err, locked: true}
		}
		one.ids, one.Err = l.classifyWriteError(ctx, c, l.application+": "+opSave, one.events, err)
	}
}

// insertEvent uses a statement that is prepared once, if every connection of
// the pool syncs by itself. If that statement finds the file locked, or may
// wait beyond the deadline, insertEvent takes a connection and tries again on
// it.
func (s sqlite) insertEvent(ctx context.Context, l *eventLog, one *save, deadline time.Time) error {
	if l.store.poolState.synced && !l.store.poolState.outlasts(deadline) {
		err := s.insertPrepared(ctx, l, one)
		if err == nil || s.errorInfo(err).class != persistence.ErrLockTimeout || time.Now().After(deadline) {
			return err
		}
	}
	conn, err := s.connect(ctx, l.store, max(time.Until(deadline), time.Millisecond))
	if err != nil {
		return err
	}
	defer conn.Close() // an error of giving back a connection has no consequence
	return s.patientlyOn(ctx, l.store, conn, deadline, func() (err error) {
		one.ids, err = s.writeRows(l, one.events, func(arguments []any) (sql.Result, error) {
			return connection{conn, l.store}.result(ctx, l.row, arguments...)
		})
		return err
	})
}

func (s sqlite) insertPrepared(ctx context.Context, l *eventLog, one *save) error {
	statement, err := l.store.statement(ctx, l.row)
	if err != nil {
		return err
	}
	one.ids, err = s.writeRows(l, one.events, func(arguments []any) (sql.Result, error) {
		begin := time.Now()
		result, err := statement.ExecContext(ctx, arguments...)
		connection{l.store.pool, l.store}.trace(ctx, begin, l.row, err)
		return result, err
	})
	return err
}

// writeBatch writes the saves of a batch one after the other. Its error is for
// all of them.
func (s sqlite) writeBatch(ctx context.Context, c connection, l *eventLog, batch []*save) error {
	if unit, ok := c.pool.(*sqliteUnit); ok && allSingle(batch) {
		if err := s.writeSingles(ctx, unit, l, batch); !errors.Is(err, errIndirect) {
			return err
		}
	}
	statement, err := c.pool.PrepareContext(ctx, l.row)
	if err != nil {
		return err
	}
	defer statement.Close() // closed with its connection at the latest
	insert := func(arguments []any) (sql.Result, error) { return statement.ExecContext(ctx, arguments...) }
	for _, save := range batch {
		if err := s.writeSave(ctx, c, l, save, insert); err != nil {
			return err
		}
	}
	return nil
}

func allSingle(batch []*save) bool {
	return !slices.ContainsFunc(batch, func(s *save) bool { return len(s.events) != 1 })
}

// errIndirect says that the driver can only be used by database/sql.
var errIndirect = errors.New("the driver has no statements to use directly")

// writeSingles writes saves of one event each past the machinery of
// database/sql, which costs as much as the rows. It returns errIndirect, and has
// done nothing, if the driver does not offer that. A statement that violates a
// unique key undoes itself, and nothing else. After other errors SQLite may have
// rolled everything back, and what follows would commit on its own.
func (s sqlite) writeSingles(ctx context.Context, u *sqliteUnit, l *eventLog, batch []*save) error {
	err := u.conn.Raw(func(raw any) error {
		statement, ok := prepareDirect(ctx, raw, l.row)
		if !ok {
			return errIndirect
		}
		defer statement.Close() // closed with its connection at the latest
		for _, save := range batch {
			save.ids, save.Err = s.insertSingle(ctx, statement, l.application, &save.events[0])
			if save.Err != nil && !l.isConflict(save.Err) {
				return save.Err
			}
		}
		return nil
	})
	if errors.Is(err, errIndirect) {
		return err
	}
	if err != nil {
		u.verify(err)
		if !errors.Is(l.store.infoOf(err).class, persistence.ErrOperational) {
			err = &rejected{err}
		}
		return err
	}
	for _, save := range batch {
		if save.Err != nil {
			save.ids, save.Err = l.classifyWriteError(ctx, connection{u, l.store}, l.application+": "+opSave, save.events, save.Err)
		}
	}
	return nil
}

// directStatement is a statement of a driver that can be used without
// database/sql.
type directStatement interface {
	driver.Stmt
	driver.StmtExecContext
}

// prepareDirect prepares a statement at the driver. Drivers that check
// arguments themselves are left to database/sql.
func prepareDirect(ctx context.Context, raw any, query string) (directStatement, bool) {
	preparer, ok := raw.(driver.ConnPrepareContext)
	if _, checks := raw.(driver.NamedValueChecker); !ok || checks {
		return nil, false
	}
	made, err := preparer.PrepareContext(ctx, query)
	if err != nil {
		return nil, false // which database/sql then reports
	}
	statement, ok := made.(directStatement)
	if _, checks := made.(driver.NamedValueChecker); !ok || checks {
		_ = made.Close() // it was not used
		return nil, false
	}
	return statement, true
}

func (sqlite) insertSingle(ctx context.Context, statement directStatement, application string, e *persistence.StoredEvent) ([]int64, error) {
	id, err := storedID(statement.ExecContext(ctx, []driver.NamedValue{
		{Ordinal: 1, Value: application}, {Ordinal: 2, Value: hexadecimal(e.OriginatorID)},
		{Ordinal: 3, Value: e.OriginatorVersion}, {Ordinal: 4, Value: e.Topic}, {Ordinal: 5, Value: e.State},
		{Ordinal: 6, Value: continued(e)},
	}))
	return []int64{id}, err
}

// writeSave writes one save so that a conflict undoes it and nothing else. A
// statement that fails undoes itself, so only several need a savepoint.
func (s sqlite) writeSave(ctx context.Context, c connection, l *eventLog, save *save, insert insertFunc) error {
	write := func() (err error) { save.ids, err = s.writeRows(l, save.events, insert); return err }
	save.Err = nil
	var err error
	if len(save.events) == 1 {
		err = write()
	} else {
		err = l.store.savepoint(ctx, c, write)
	}
	if err != nil && l.isConflict(err) {
		save.ids, save.Err = l.classifyWriteError(ctx, c, l.application+": "+opSave, save.events, err)
		return nil
	}
	if err == nil || errors.Is(err, persistence.ErrOperational) || errors.Is(l.store.infoOf(err).class, persistence.ErrOperational) {
		return err // an error of the database fails all saves of the transaction
	}
	if !errors.Is(err, persistence.ErrPersistence) {
		return &rejected{err}
	}
	save.ids, save.Err = l.classifyWriteError(ctx, c, l.application+": "+opSave, save.events, err)
	return nil
}

type insertFunc func(arguments []any) (sql.Result, error)

func (sqlite) writeRows(l *eventLog, events []persistence.StoredEvent, insert insertFunc) ([]int64, error) {
	ids := make([]int64, len(events))
	for i := range events {
		e := &events[i]
		id, err := storedID(insert([]any{l.application, hexadecimal(e.OriginatorID), e.OriginatorVersion, e.Topic, e.State, continued(e)}))
		if err != nil {
			return nil, err
		}
		ids[i] = id
	}
	return ids, nil
}
