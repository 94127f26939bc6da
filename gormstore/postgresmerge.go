package gormstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// How a batch is written to PostgreSQL: one statement takes the order lock, stores the rows and commits, in one round
// trip. Saves whose first version exists already are left out as a whole: versions have no gaps, so such a save
// conflicts, and no other does. The statement looks for them in the snapshot that it began with, before it waited for the
// lock; a commit of another process in between makes it fail on the unique key, nothing is stored, and it is repeated.
//
// Two details keep PostgreSQL's plans good. The arrays are wrapped in subqueries, because the planner would otherwise see
// their lengths and plan each execution anew. And the test for an existing version is a scalar subquery, because NOT
// EXISTS would become a join whose plan, made while the table was empty, scans the whole table when it is not.

// mergeStatements are the statements for the events of one table. Each begins with the time limit for the lock and the
// lock's key.
type mergeStatements struct {
	event string // one event
	save  string // the events of one save
	batch string // the events of several saves
}

func newMergeStatements(events string) mergeStatements {
	head := "WITH l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), pg_advisory_xact_lock($2)) INSERT INTO " +
		events + " (application_name, originator_id, originator_version, topic, state) SELECT $3::varchar, "
	return mergeStatements{
		event: head + "$4::uuid, $5::bigint, $6::text, $7::bytea FROM l RETURNING id",
		save: head + "o, v, t, s FROM l, unnest($4::uuid[], $5::bigint[], $6::text[], $7::bytea[]) AS u(o, v, t, s) " +
			"RETURNING id",
		batch: head + "o, v, t, s FROM l, unnest((SELECT $4::uuid[]), (SELECT $5::bigint[]), (SELECT $6::text[]), " +
			"(SELECT $7::bytea[]), (SELECT $8::bigint[])) AS u(o, v, t, s, f) " +
			"WHERE (SELECT true FROM " + events + " e WHERE e.application_name = $3::varchar AND e.originator_id = u.o " +
			"AND e.originator_version = u.f LIMIT 1) IS NULL RETURNING id, originator_id, originator_version",
	}
}

// mergeAttempts is how often a merged statement is tried before its saves are written one by one.
const mergeAttempts = 3

// merge implements dialect.
func (p postgres) merge(ctx context.Context, r *processRecorder, batch []*save) {
	ctx, cancel := context.WithTimeout(ctx, r.store.lockTimeout+commitTimeout)
	defer cancel()
	conn, err := r.store.connect(ctx)
	if err != nil {
		fail(batch, err)
		return
	}
	defer conn.Close() // an error of giving back a connection has no consequence
	c := connection{pool: conn, store: r.store}
	for attempt := 0; len(batch) > 1 && attempt < mergeAttempts; attempt++ {
		if p.writeMany(ctx, c, r, batch) {
			return
		}
	}
	// A batch of one, or one that others have beaten again and again.
	for _, s := range batch {
		p.writeOne(ctx, c, r, s)
	}
}

func fail(batch []*save, err error) {
	for _, s := range batch {
		s.ids, s.err = nil, err
	}
}

// writeOne writes a save alone. A violated unique key is its conflict.
func (p postgres) writeOne(ctx context.Context, c connection, r *processRecorder, s *save) {
	s.ids = make([]int64, 0, len(s.events))
	err := p.insertOne(ctx, c, r, s.events, func(row []driver.Value) error {
		id, err := asInt(row[0])
		s.ids = append(s.ids, id)
		return err
	})
	if err != nil {
		s.ids, s.err = p.outcome(ctx, c, r, s, err)
		return
	}
	s.ids, s.err = complete(s.ids, s.events)
}

func (postgres) insertOne(ctx context.Context, c connection, r *processRecorder, events []persistence.StoredEvent, each eachRow) error {
	if len(events) == 1 {
		e := &events[0]
		return c.direct(ctx, each, r.statements.event, r.timeout, r.lockKey, r.application,
			e.OriginatorID.String(), e.OriginatorVersion, e.Topic, e.State)
	}
	var a columns
	a.add(events)
	return c.direct(ctx, each, r.statements.save, r.timeout, r.lockKey, r.application,
		a.originators, a.versions, a.topics, a.states)
}

// outcome finds out what an error of a statement means for a save. A server that answers with an error has stored
// nothing; without an answer, nobody knows until the rows are read.
func (p postgres) outcome(ctx context.Context, c connection, r *processRecorder, s *save, err error) ([]int64, error) {
	op := r.application + ": " + opSave
	if p.unanswered(err) {
		if conn, ok := c.pool.(*sql.Conn); ok {
			_ = conn.Close() // a pool of one has no other connection to look with
		}
		return r.settle(ctx, op, s.events, &lostReply{err: err})
	}
	return r.explain(ctx, c, op, s.events, err)
}

// unanswered tells whether the server may have done what it was asked although there is an error.
func (p postgres) unanswered(err error) bool {
	coded, ok := errors.AsType[sqlState](err)
	if !ok {
		return true
	}
	switch class := coded.SQLState()[:2]; class {
	case "08", "57", "40":
		return coded.SQLState() != "40001" && coded.SQLState() != "40P01" && coded.SQLState() != "57014"
	}
	return false
}

// writeMany writes a batch with one statement. It is false where the statement has to be tried again.
func (p postgres) writeMany(ctx context.Context, c connection, r *processRecorder, batch []*save) bool {
	var a columns
	for _, s := range batch {
		a.add(s.events)
	}
	err := c.direct(ctx, assignTo(batch), r.statements.batch, r.timeout, r.lockKey, r.application,
		a.originators, a.versions, a.topics, a.states, a.firsts)
	if err == nil {
		p.explainMissing(ctx, c, r, batch)
		return true
	}
	if r.store.faultOf(err).unique {
		return false
	}
	p.explainFailed(ctx, c, r, batch, err)
	return true
}

// explainFailed finds out what the error of a merged statement means for each save. Once the database does not answer
// the others need not ask it again.
func (p postgres) explainFailed(ctx context.Context, c connection, r *processRecorder, batch []*save, err error) {
	for i, s := range batch {
		s.ids, s.err = p.outcome(ctx, c, r, s, err)
		if errors.Is(s.err, persistence.ErrOutcomeUnknown) {
			fail(batch[i:], s.err)
			return
		}
	}
}

// assignTo gives each save the ids of its rows.
func assignTo(batch []*save) eachRow {
	saves := make(map[uuid.UUID]*save, len(batch))
	for _, s := range batch {
		s.ids, s.err = nil, nil
		saves[s.originator()] = s
	}
	return func(row []driver.Value) error {
		var originator uuid.UUID
		id, err := asInt(row[0])
		version, errVersion := asInt(row[2])
		if err := errors.Join(err, errVersion, originator.Scan(row[1])); err != nil {
			return err
		}
		s := saves[originator]
		if s.ids == nil {
			s.ids = make([]int64, len(s.events))
		}
		s.ids[version-s.first()] = id
		return nil
	}
}

// asInt takes a whole number from a row as the driver gives it.
func asInt(value driver.Value) (int64, error) {
	n, ok := value.(int64)
	if !ok {
		return 0, fmt.Errorf("the driver returned %T where a whole number was expected", value)
	}
	return n, nil
}

// explainMissing finds out about the saves that were left out: they conflict, or were stored by an earlier execution of
// the same statement whose answer was lost.
func (p postgres) explainMissing(ctx context.Context, c connection, r *processRecorder, batch []*save) {
	for _, s := range batch {
		if s.ids == nil {
			s.err = r.conflict(ctx, c, r.application+": "+opSave, s.events, nil)
		}
	}
}
