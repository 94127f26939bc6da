package gormstore

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Writers of one log do not wait for each other on PostgreSQL: they draw ids at
// the same time and commit in any order. Readers therefore read up to a bound
// that no running writer can go below.
//
// A writer takes a shared advisory lock whose second number is its floor: the
// highest committed id of the table, as its statement sees it. It draws its ids
// after it has the lock, so they are above the floor, and keeps the lock until
// its transaction ends.
//
// A reader finds the bound and reads the rows in two statements, which have two
// snapshots. The first one takes the highest committed id that it sees, the
// head, and then looks at the floors in pg_locks; the bound is the least of
// them all. A writer with an id below the head drew it before the head was
// committed, and had its lock before that. If its lock is gone, it has ended,
// and PostgreSQL makes a commit visible before it releases locks: the second
// statement sees its rows.
//
// A bound is the id of a committed row, so a position that moves to it cannot
// meet ids that a crash makes the server give again.

// logBound is what this process knows of the bound of one log. A bound that was
// found once holds for ever, although one that is found later may be lower: a
// writer may have looked at the head, and not yet have taken its lock, when the
// bound was found. Readers must never see less than what they have been told.
type logBound struct {
	mu    sync.Mutex // protects what follows
	bound int64
	whole time.Time // when the bound was found at the newest event last
}

// known returns the highest bound that was found.
func (b *logBound) known() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bound
}

// found takes note of a bound and returns the highest. A log that ends below it
// was restored or had its newest events deleted, and begins anew.
func (b *logBound) found(bound, newest int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if newest < b.bound {
		b.bound = bound
	}
	b.bound = max(b.bound, bound)
	if b.bound >= newest {
		b.whole = time.Now()
	}
	return b.bound
}

// lastWhole returns when the whole log could be read last.
func (b *logBound) lastWhole() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.whole
}

// logEnd is the end of a log for readers, and its newest committed event.
type logEnd struct{ bound, newest int64 }

// bound returns what this process knows of the bound of a log.
func (h *poolState) bound(at logKey) *logBound {
	if known, ok := h.bounds.Load(at); ok {
		return known.(*logBound)
	}
	made, _ := h.bounds.LoadOrStore(at, &logBound{})
	return made.(*logBound)
}

// headOf is a scalar expression for the highest id in the log of an application
// that a snapshot sees, or 0. The condition is a range of pairs, and the order
// is that of pairs, because only the index of both columns has them. For
// MAX(id) PostgreSQL often expects to find the application soon when it reads
// the primary key backwards, and then reads all that other applications have
// recorded since.
func headOf(events, application string) string {
	return "COALESCE((SELECT id FROM " + events + " WHERE (application_name, id) >= (" + application + ", 0) " +
		"AND (application_name, id) <= (" + application + ", 9223372036854775807) " +
		"ORDER BY application_name DESC, id DESC LIMIT 1), 0)"
}

// end finds the end of a log. A reader in a transaction that keeps one snapshot
// is refused, because it would not see what ended between two statements.
func (postgres) end(ctx context.Context, c connection, l *eventLog, at location, joined bool) (end logEnd, there bool, err error) {
	var standby bool
	var isolation string
	query := "WITH h AS MATERIALIZED (SELECT " + headOf(l.table.quoted, "$1::varchar") + " AS head WHERE " + here(l.table.quoted, "$3") + ") " +
		"SELECT h.head, LEAST(h.head, (SELECT MIN(h.head + " + belowHead + ") FROM pg_catalog.pg_locks l WHERE " + floors + ")), pg_is_in_recovery(), current_setting('transaction_isolation') FROM h"
	err = c.row(ctx, query, l.application, l.floorKey(at), at.oid).Scan(&end.newest, &end.bound, &standby, &isolation)
	if errors.Is(err, sql.ErrNoRows) {
		return logEnd{}, false, nil
	}
	if err != nil {
		return logEnd{}, false, err
	}
	op := l.application + ": find the end of the log"
	switch {
	case standby:
		return logEnd{}, false, l.onStandby(op, nil)
	case joined && isolation != "read committed":
		return logEnd{}, false, &persistence.Error{Class: persistence.ErrNotSupported, Op: op,
			Hint: "the transaction in the context has the isolation level " + isolation + ", in which it would miss events; " +
				"read the log in READ COMMITTED or outside of the transaction"}
	}
	return end, true, nil
}

// notOnStandby is a condition that fails on a standby, by a cast whose error
// has standbyText in it. Rows are selected below a bound that may have been
// found on the primary: a standby that lags, to which a proxy leads the next
// connection, would seem to have all of them. It is a subquery, so that it is
// evaluated once.
const (
	notOnStandby = "(SELECT CASE WHEN pg_is_in_recovery() THEN ('" + standbyText + "' || pg_is_in_recovery()::text)::bigint > 0 ELSE true END)"
	standbyText  = "eventsourcing: in recovery "
)

// onStandby is the error of a reader of the log on a standby.
func (t *eventTable) onStandby(op string, cause error) error {
	return &persistence.Error{Class: persistence.ErrReadOnly, Op: op, Err: cause,
		Hint: "a standby does not know the running writers of its primary; read the log on the primary"}
}

// floors is a condition that a row l of pg_locks is the floor of another
// session, with the argument $2 as floorKey returns it.
const floors = "l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = $2::bigint::oid AND l.mode = 'ShareLock' " +
	"AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) " +
	"AND l.pid IS DISTINCT FROM pg_backend_pid()"

// belowHead is the difference between the floor l and the head h.head. Of the
// floor the low 32 bits are known, so it is between -2^31 and 2^31.
const belowHead = "(((l.objid::bigint - h.head) << 32) >> 32)"

// floorKey is the first number of the locks that are floors of a log.
func (l *eventLog) floorKey(at location) int64 {
	return int64(uint32(l.orderKey(l.keyAt(at)) >> 32))
}

// end is never called: SQLite has one writer at a time, so all that can be read
// is final.
func (sqlite) end(context.Context, connection, *eventLog, location, bool) (logEnd, bool, error) {
	panic("gormstore: SQLite needs no bound")
}

// concurrent reports whether writers of one log run at the same time.
func (postgres) concurrent() bool { return true }
func (sqlite) concurrent() bool   { return false }
