package natsstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

var _ persistence.Transactor = (*Store)(nil)

// transaction is one of a store. What it stores is staged in this process, and
// sent as one atomic batch when it commits. The servers then compare what it
// has read of the originators and positions that it changes, so that it is as
// if their locks had been held.
type transaction struct {
	store *Store

	mu       sync.Mutex // protects what follows
	ended    bool
	stages   map[*stream]*stage
	statuses map[statusKey]stagedStatus
	listed   bool // all statuses were read: those that are not among them did not exist
}

type transactionKey struct{ store *Store }

// transaction returns the transaction of this store that ctx carries, or nil.
func (s *Store) transaction(ctx context.Context) *transaction {
	tx, _ := ctx.Value(transactionKey{s}).(*transaction)
	return tx
}

// Transaction implements persistence.Transactor. It is what followers use whose
// application is in this store: their events, positions and parked events are
// stored in one batch when fn returns, or not at all.
//
// It has limits that transactions of a database do not have. It stores events of
// one application only. Events have no notification ids before its commit, so
// InsertEvents returns none. Snapshots cannot be stored in it. If another
// process has changed an originator or a position that it changes, which is
// found out at its commit, nothing is stored, and the error is a
// persistence.ErrRetryTransaction.
func (s *Store) Transaction(ctx context.Context, fn func(ctx context.Context) error) error {
	const op = "begin a transaction"
	if outer := s.transaction(ctx); outer != nil {
		return outer.nested(ctx, fn)
	}
	if s.closed.Load() {
		return s.closedError("natsstore", op)
	}
	if err := ctx.Err(); err != nil {
		return contextError("natsstore", op, err)
	}
	tx := &transaction{store: s, stages: map[*stream]*stage{}, statuses: map[statusKey]stagedStatus{}}
	return run(ctx, tx, fn, func() error { return tx.commit(ctx) })
}

// run runs fn in a transaction, and commit if it returns nil. Then it runs what
// waits for the end.
func run(ctx context.Context, tx *transaction, fn func(context.Context) error, commit func() error) error {
	inside, ended := persistence.NewTransaction(ctx)
	committed := false
	defer func() {
		tx.end()
		ended(committed)
	}()
	if err := fn(context.WithValue(inside, transactionKey{tx.store}, tx)); err != nil {
		return err
	}
	tx.end()
	if err := commit(); err != nil {
		return err
	}
	committed = true
	return nil
}

func (tx *transaction) end() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.ended = true
}

// nested runs fn in a transaction within this one, which gets what it has
// staged.
func (tx *transaction) nested(ctx context.Context, fn func(ctx context.Context) error) error {
	tx.mu.Lock()
	defer tx.mu.Unlock() // the outer one waits for the inner one
	if tx.ended {
		return endedError("begin a transaction")
	}
	inner := &transaction{store: tx.store, stages: map[*stream]*stage{}, statuses: maps.Clone(tx.statuses), listed: tx.listed}
	for stream, st := range tx.stages {
		inner.stages[stream] = st.clone()
	}
	return run(ctx, inner, fn, func() error {
		tx.stages, tx.statuses, tx.listed = inner.stages, inner.statuses, inner.listed
		return nil
	})
}

func endedError(op string) error {
	return &persistence.Error{Class: persistence.ErrProgramming, Op: op, Err: errors.New("the transaction in ctx has ended")}
}

// beginWrite is begin for an operation that writes. It returns the transaction
// that ctx carries, or nil. A transaction of another store is an error: what is
// written here would stay if that one is rolled back.
func (s *stream) beginWrite(ctx context.Context, op string) (context.Context, *transaction, context.CancelFunc, error) {
	tx := s.store.transaction(ctx)
	if tx == nil && txscope.From(ctx) != nil {
		return nil, nil, nil, s.failure(op, persistence.ErrProgramming, "save in a handler of system.Effect, or after the commit",
			errors.New("the transaction in ctx is that of another store, and a save on NATS cannot be part of it"))
	}
	ctx, cancel, err := s.begin(ctx, op)
	return ctx, tx, cancel, err
}

// stage is what a transaction has staged for a stream.
type stage struct {
	*stream
	positions map[string]*stagedPosition // by upstream application
	parked    map[string]*stagedParking  // by upstream application
	events    []persistence.StoredEvent
	starts    map[uuid.UUID]mark // the newest events that are stored
}

// stagedPosition is a position that was read. If anything is stored, it is too,
// so that two transactions that have read it exclude each other.
type stagedPosition struct {
	stored   positionMark
	number   int64
	settings []byte
	changed  bool
}

func (st *stage) clone() *stage {
	c := &stage{stream: st.stream, positions: map[string]*stagedPosition{}, parked: map[string]*stagedParking{},
		events: slices.Clip(st.events), starts: maps.Clone(st.starts)}
	for upstream, p := range st.positions {
		copied := *p
		c.positions[upstream] = &copied
	}
	for upstream, p := range st.parked {
		c.parked[upstream] = p.clone()
	}
	return c
}

// stage calls f with what is staged for a stream. If f returns an error, it has
// staged nothing.
func (tx *transaction) stage(s *stream, op string, f func(st *stage) error) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.ended {
		return endedError(s.application + ": " + op)
	}
	st := tx.stages[s]
	if st == nil {
		st = &stage{stream: s, positions: map[string]*stagedPosition{}, parked: map[string]*stagedParking{}, starts: map[uuid.UUID]mark{}}
	} else {
		st = st.clone()
	}
	if err := f(st); err != nil {
		return err
	}
	if st.isChanged() {
		for other, staged := range tx.stages {
			if other != s && staged.isChanged() {
				return s.failure(op, persistence.ErrNotSupported, "save what belongs to another application by a follower of its own",
					errors.New("a transaction on NATS stores the events of one application, and it is at those of "+other.application))
			}
		}
	}
	tx.stages[s] = st
	return nil
}

func (st *stage) isChanged() bool {
	for _, p := range st.positions {
		if p.changed {
			return true
		}
	}
	for _, p := range st.parked {
		if len(p.changes) > 0 {
			return true
		}
	}
	return len(st.events) > 0
}

// stagedPosition returns a position as a transaction has it.
func (tx *transaction) stagedPosition(s *stream, upstream string) (stagedPosition, bool) {
	if tx == nil {
		return stagedPosition{}, false
	}
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if st := tx.stages[s]; st != nil && st.positions[upstream] != nil {
		return *st.positions[upstream], true
	}
	return stagedPosition{}, false
}

// stagedEvents returns the events of an originator that a transaction has
// staged.
func (tx *transaction) stagedEvents(s *stream, id uuid.UUID) (events []persistence.StoredEvent) {
	if tx == nil {
		return nil
	}
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if st := tx.stages[s]; st != nil {
		for _, e := range st.events {
			if e.OriginatorID == id {
				e.State = bytes.Clone(e.State)
				events = append(events, e)
			}
		}
	}
	return events
}

// position returns a position to be changed.
func (st *stage) position(ctx context.Context, op, upstream string) (*stagedPosition, error) {
	if p := st.positions[upstream]; p != nil {
		return p, nil
	}
	known, err := st.positionOf(ctx, op, upstream)
	if err != nil {
		return nil, err
	}
	p := &stagedPosition{stored: known, number: known.number, settings: known.settings}
	st.positions[upstream] = p
	return p, nil
}

// insert stages events, or returns what is in their way.
func (st *stage) insert(ctx context.Context, op string, events []persistence.StoredEvent) error {
	if err := st.conflictStaged(events); err != nil {
		return err
	}
	begun := slices.DeleteFunc(slices.Clone(events), func(e persistence.StoredEvent) bool { _, ok := st.newestStaged(e.OriginatorID); return ok })
	v := st.newSave(op, begun, nil)
	for _, part := range v.streams {
		start, err := v.start(ctx, part)
		switch {
		case errors.Is(err, errRefused):
			conflict, _, err := v.conflict(ctx)
			if err == nil && conflict != nil {
				return conflict
			}
			return cmp.Or(err, st.failure(op, persistence.ErrRetryTransaction, "", errRefused))
		case err != nil:
			return err
		}
		st.starts[part.id] = start
	}
	for _, e := range events {
		e.State = bytes.Clone(e.State)
		st.events = append(st.events, e)
	}
	return nil
}

// conflictStaged finds what is staged in the way of events.
func (st *stage) conflictStaged(events []persistence.StoredEvent) error {
	var conflict *persistence.ConflictError
	for _, part := range st.newSave("", events, nil).streams {
		newest, staged := st.newestStaged(part.id)
		version := part.first.OriginatorVersion
		if !staged || version == newest+1 {
			continue
		}
		if conflict == nil {
			conflict = &persistence.ConflictError{Application: st.application, OriginatorID: part.id, Version: version, Current: newest,
				Gap: version > newest}
		}
		conflict.Stored = append(conflict.Stored, st.stagedOf(part)...)
	}
	if conflict == nil {
		return nil
	}
	return conflict
}

// newestStaged is the newest version of an originator that has events staged.
func (st *stage) newestStaged(id uuid.UUID) (version int64, found bool) {
	for _, e := range slices.Backward(st.events) {
		if e.OriginatorID == id {
			return e.OriginatorVersion, true
		}
	}
	return 0, false
}

// stagedOf returns the staged events at the places of a part of a save. They
// have no ids yet.
func (st *stage) stagedOf(part *originatorPart) (stored []persistence.Notification) {
	for _, e := range st.events {
		if e.OriginatorID == part.id && e.OriginatorVersion >= part.first.OriginatorVersion && e.OriginatorVersion <= part.last {
			stored = append(stored, persistence.Notification{StoredEvent: e})
		}
	}
	return stored
}

// commit stores what is staged.
func (tx *transaction) commit(ctx context.Context) error {
	var changed *stage
	for _, st := range tx.stages {
		if st.isChanged() {
			changed = st
		}
	}
	statuses := tx.changedStatuses()
	switch {
	case statuses > 1 || statuses == 1 && changed != nil:
		return &persistence.Error{Class: persistence.ErrNotSupported, Op: "natsstore: commit a transaction", Hint: "record the status after the commit",
			Err: errors.New("the status of a follower can be stored alone only")}
	case changed != nil:
		return changed.commit(ctx)
	case statuses == 1:
		return tx.commitStatus(ctx)
	}
	return nil
}

// commit sends what is staged as one batch.
func (st *stage) commit(ctx context.Context) error {
	op := txscope.OperationFrom(ctx, "commit a transaction")
	ctx, cancel, err := st.begin(ctx, op)
	if err != nil {
		return err
	}
	defer cancel()
	v := st.newSave(op, st.events, nil)
	messages := make([]outgoing, 0, len(st.events)+len(st.positions)+len(st.parked)+1)
	upstreams := slices.Sorted(maps.Keys(st.positions))
	for _, upstream := range upstreams {
		p := st.positions[upstream]
		messages = append(messages, v.position(upstream, p.number, p.settings, p.stored.seq))
	}
	for _, upstream := range slices.Sorted(maps.Keys(st.parked)) {
		messages = append(messages, st.parked[upstream].messages(v.writing, upstream)...)
	}
	messages = v.appendEvents(messages, maps.Clone(st.starts))
	first, err := v.publishExpected(ctx, messages)
	if err != nil {
		return st.refused(ctx, v, err)
	}
	for i, upstream := range upstreams {
		p := st.positions[upstream]
		st.rememberPosition(upstream, positionMark{mark{p.number, first + int64(i)}, v.id, p.settings})
	}
	v.stored(first + int64(len(messages)-len(st.events)))
	return nil
}

// refused returns the error of a transaction that was not stored because
// something has changed since it was read, and learns what that is, so that the
// next one does not meet it again.
func (st *stage) refused(ctx context.Context, v *save, err error) error {
	if !errors.Is(err, errRefused) {
		return err
	}
	cause := err
	for upstream, p := range st.positions {
		known, err := st.positionOf(ctx, v.op, upstream)
		if err != nil {
			return err
		}
		if known.seq != p.stored.seq {
			cause = st.behind(persistence.Tracking{ApplicationName: upstream, NotificationID: p.number}, known.number)
		}
	}
	for _, part := range v.streams {
		if _, err := st.newestOf(ctx, v.op, part.id); err != nil {
			return err
		}
	}
	return st.failure(v.op, persistence.ErrRetryTransaction, "another process has changed what it has read; nothing was stored", cause)
}

// publishExpected is publish for a caller that cannot look at what is stored and
// make other messages. It tries again after a refusal while all expectations
// hold, because another write was in flight. If one holds no more, an earlier
// try may have been stored: its first message then is the next of its subject.
func (w *writing) publishExpected(ctx context.Context, messages []outgoing) (first int64, err error) {
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		first, err := w.publish(ctx, messages)
		if !errors.Is(err, errRefused) {
			return first, err
		}
		changed := false
		for i := 0; i < len(messages) && !changed; i++ {
			m := &messages[i]
			if !m.expect {
				continue
			}
			newest, _, err := w.leaderLast(ctx, w.op, m.subject, m.last)
			if err != nil {
				return 0, w.final(err)
			}
			changed = newest.seq != m.last
		}
		if changed && w.unknown {
			next, found, err := w.leaderNext(ctx, w.op, messages[0].subject, messages[0].last+1)
			switch {
			case err != nil:
				return 0, w.outcomeUnknown(err)
			case found && next.write == w.id:
				return next.seq, nil
			}
		}
		if changed {
			return 0, errRefused
		}
		if !sleep(ctx, pause) {
			return 0, w.ended(ctx, errRefused)
		}
	}
}
