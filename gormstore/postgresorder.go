package gormstore

import (
	"context"
)

// WithStrictOrder has transactions that save events of one application on
// PostgreSQL exclude each other: a save in a transaction waits until the
// transaction before it has ended, so that ids become visible in ascending
// order to everyone. It is for databases in which programs that are not built
// on this version of the package follow the log by id: the Python library, a
// query for "id > last", or a follower that is run by an earlier version.
// STRICT_ORDER sets it in the environment, and applications that write the
// Python library's layout have it anyway.
//
// Without it such transactions run at the same time. Readers of this package
// (followers, subscriptions, logs) then see the log in order all the same, up
// to a bound that no running writer can go below; ids of concurrent
// transactions may interleave. A transaction that stays open holds back the
// followers of its application, and no writers. Two transactions that save the
// same aggregates in opposite order may deadlock, which is a
// persistence.ErrRetryTransaction.
//
// Writers with and without the option exclude each other and lose nothing, so a
// deployment may change it process by process. On SQLite, on which one
// transaction writes at a time, it has no effect.
func WithStrictOrder() Option {
	return func(s *Store) { s.order = max(s.order, strictOrder) }
}

// WithTableOrder is WithStrictOrder for all applications of a table at once:
// their saves exclude each other, so that ids become visible in ascending order
// to a program that reads the events of several applications by id alone, such
// as a query for "id > last" over the whole table. All applications that write
// to the table need it. Applications that write the Python layout have it
// anyway.
func WithTableOrder() Option {
	return func(s *Store) { s.order = tableOrder }
}

// writerOrder is in which order the events of transactions become visible that
// run at the same time.
type writerOrder int

const (
	concurrentOrder writerOrder = iota // any; readers stay below a bound
	strictOrder                        // that of the ids within a log
	tableOrder                         // that of the ids within the table
)

// orderLocks are the statements' parts that lock a log. The log's key is the
// argument $2, and the application's name the argument $3 of every statement.
//
// A writer shares the lock of the key with others, and says in a lock of two
// numbers from where on it writes; see logBound. A strict writer takes the key
// for itself. The first number of the pair is the upper half of the key, which
// is no conflict: PostgreSQL keeps keys of one and of two numbers apart.
//
// In the order of the table $2 is an array of two keys: of the lock of the
// table, and of that of the log, which excludes writers without this order.
type orderLocks struct {
	take string // takes the lock; reads h
	once string // takes it unless the transaction has it; reads h and b
	held string // whether the transaction has it, for b
}

func newOrderLocks(order writerOrder) orderLocks {
	const key = "$2::bigint"
	switch order {
	case strictOrder:
		const exclusive = "pg_advisory_xact_lock(" + key + ")"
		return orderLocks{take: exclusive, once: exclusive, held: "''"}
	case tableOrder:
		const exclusive = "pg_advisory_xact_lock(($2::bigint[])[1]), pg_advisory_xact_lock(($2::bigint[])[2])"
		return orderLocks{take: exclusive, once: exclusive, held: "''"}
	}
	shared := "pg_advisory_xact_lock_shared(" + key + ")"
	floorLock := "pg_advisory_xact_lock_shared((" + key + " >> 32)::int4, (h.floor << 32 >> 32)::int4)"
	// A transaction with many saves must not fill the server's table of locks.
	// That it has the lock is remembered in a setting of the transaction, and
	// not in the client: ROLLBACK TO SAVEPOINT undoes both the lock and the
	// setting.
	setting := "'eventsourcing.order_' || to_hex(" + key + ")"
	return orderLocks{
		take: shared + ", " + floorLock,
		once: "CASE WHEN b.held = '' THEN " + shared + "::text || " + floorLock + "::text || " +
			"set_config(" + setting + ", 'held', true) END",
		held: "COALESCE(current_setting(" + setting + ", true), '')",
	}
}

// lockLog takes the order lock of a log in a separate statement, for writes of
// more events than one statement stores. It returns false if the connection
// finds the table elsewhere.
func (p postgres) lockLog(ctx context.Context, c connection, how locking, l *eventLog, at location) (there bool, err error) {
	place := l.keyAt(at)
	arguments := []any{milliseconds(how.timeout), l.orderArgument(place), at.oid, at.sequence}
	tell := ""
	if channel := l.store.notified(place); channel != "" {
		tell = notify("$6", "$5")
		arguments = append(arguments, l.application, channel)
	}
	locks, events := l.statements.locks, l.table.quoted
	floor := logStatements{events: events, sequence: "$4"}.floor()
	statement := "WITH " + floor + "l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), " +
		"set_config('idle_in_transaction_session_timeout', '" + milliseconds(idleTimeout) + "', true), " +
		locks.take + tell + " FROM h WHERE " + here(events, "$3") + ") SELECT 1 FROM l"
	if how.joined {
		statement = "WITH " + floor + "b AS MATERIALIZED (" + before(locks.held) + "), " +
			"l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), " + locks.once + tell + " FROM h, b WHERE " + here(events, "$3") + ") " +
			"SELECT 1, " + restore + " FROM l, b"
	}
	rows, err := c.query(ctx, statement, arguments...)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	there = rows.Next()
	return there, rows.Err()
}

// before selects what a statement in a transaction of the user's restores.
func before(held string) string {
	return "SELECT current_setting('lock_timeout') AS v, " + held + " AS held"
}
