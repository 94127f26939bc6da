package gormstore

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The databases that are supported, by the names of their dialectors.
const (
	postgresName = "postgres"
	sqliteName   = "sqlite"
)

// dialect is what differs between the databases. Everything else is written
// once.
type dialect interface {
	// placeholders turns a statement with ? into the database's form.
	placeholders(query string) string

	// uuid is the argument for a UUID column.
	uuid(id uuid.UUID) any

	// prepare makes a database ready at its first use, in the transaction that
	// ctx carries, if any: it may have the only connection. It returns false if
	// that has to be done again, outside of a transaction.
	prepare(ctx context.Context, s *Store, joined *txScope) (bool, error)

	// begin opens a transaction that may write. It waits for a connection, and
	// for the lock of SQLite's file, no longer than wait. It is cancelled with
	// ctx.
	begin(ctx context.Context, s *Store, wait time.Duration) (openTx, error)

	// lock takes locks that last to the end of the transaction, in this order.
	// Without keys it only bounds the waits that follow.
	lock(ctx context.Context, c connection, how locking, keys ...int64) error

	// lockIn takes locks whose keys depend on the location of a table. If the
	// connection finds the table elsewhere, it takes none and returns false.
	lockIn(ctx context.Context, c connection, how locking, t table, at location, keys ...int64) (there bool, err error)

	// updateBriefly runs an UPDATE, given as what is before its condition and
	// as its condition, in a transaction of the user's, and returns how many
	// rows it changed. It waits for rows no longer than wait, and leaves the
	// session as it was.
	updateBriefly(ctx context.Context, c connection, wait time.Duration, set, condition string, arguments ...any) (int64, error)

	// read returns a connection for reads outside of a transaction, until done
	// is called. Their waits for tables are bounded by the store's lock
	// timeout.
	read(ctx context.Context, s *Store, op string) (c connection, done func(), err error)

	// watchJoined returns the caller's transaction for statements whose waits
	// for tables are bounded like those of read, until done is called. A
	// statement that has waited too long ends the transaction.
	watchJoined(s *Store, outer *txScope, op string) (c connection, done func())

	// history is the statement that selects the newest snapshot of an
	// originator and the events from its version on, or "" if two statements
	// take less time.
	history(events, snapshots table) string

	// hidesRows reports whether a transaction cannot see the rows that violate
	// a unique key of a table, other than that of its column key.
	hidesRows(ctx context.Context, c connection, t table, key string, violation error) (bool, error)

	// stillOpen returns an error if the database has ended a transaction by
	// itself, which the caller cannot see.
	stillOpen(ctx context.Context, c connection) error

	// savepoint returns what bounds the waits for locks, of tables as well,
	// between a savepoint in a transaction of the caller's and its release:
	// what to send after the one and before the other.
	savepoint(wait time.Duration) (set, release string)

	// insert stores events in a table and returns the values of its key column.
	insert(ctx context.Context, c connection, into table, key, application string, events []persistence.StoredEvent) ([]int64, error)

	// insertSnapshot stores a snapshot, and deletes all but the newest keep of
	// its originator up to its version.
	insertSnapshot(ctx context.Context, c connection, t *eventTable, snapshot persistence.StoredEvent, keep int) error

	// isState is a condition that a column of states holds the bytes of an
	// argument.
	isState() string

	// lockHolder says which session holds the order lock of a log, or one of
	// the tables, and as what.
	lockHolder(ctx context.Context, c connection, key int64, tables ...table) (heldLock, string)

	// append takes the lock of a log and then stores events in it. It returns
	// their ids.
	append(ctx context.Context, c connection, how locking, l *eventLog, events []persistence.StoredEvent) ([]int64, error)

	// appendsWhole reports whether appendWhole can store the events of a save.
	appendsWhole(s *save) bool

	// appendWhole takes the lock of a log and stores events in a transaction of
	// the user's, all or none of them, with one statement. It returns
	// errNotContinued if they do not continue their stream; the transaction can
	// go on then, and after no other error.
	appendWhole(ctx context.Context, c connection, l *eventLog, events []persistence.StoredEvent) ([]int64, error)

	// merge writes a batch of saves, each of which succeeds or fails alone, and
	// says in each what became of it.
	merge(ctx context.Context, l *eventLog, batch []*save)

	// concurrent reports whether writers of one log run at the same time, so
	// that readers need a bound.
	concurrent() bool

	// end finds the end of a log, where writers run at the same time. It
	// returns false if the connection finds the table elsewhere.
	end(ctx context.Context, c connection, l *eventLog, at location, joined bool) (end logEnd, there bool, err error)

	// hold finds the running writer that readers of a log do not read beyond,
	// or nil. It returns false if the connection finds the table elsewhere.
	hold(ctx context.Context, c connection, l *eventLog, at location) (hold *persistence.LogHold, there bool, err error)

	// numbers is a SELECT of the numbers of an argument.
	numbers(of []int64) (query string, argument any)

	// topics is a condition on the column topic, with its arguments.
	topics(topics []string) (condition string, arguments []any)

	// describe says what tables are like, those that exist and those that do
	// not.
	describe(ctx context.Context, c connection, tables []table) ([]description, error)

	// misfit says why the type of a column cannot keep the values of a field.
	misfit(field *schema.Field, c column) string

	// mayCreate reports whether tables may be created in a schema.
	mayCreate(ctx context.Context, c connection, schema string) (permission, error)

	// sequenceLag says by how much the source of a table's ids is below those
	// in use. It is "" if it is not.
	sequenceLag(ctx context.Context, c connection, t table, d description, key string) (string, error)

	// locate finds the location of a table for a connection.
	locate(ctx context.Context, c connection, t table) (location, error)

	// now is the time by the database's clock, in UTC. Hosts whose clocks
	// differ agree on it.
	now(ctx context.Context, c connection) (time.Time, error)

	// isServerError reports whether an error is one that the database or its
	// connection has reported.
	isServerError(err error) bool

	// isOutcomeUnknown reports whether the database may have done what it was
	// asked although there is an error.
	isOutcomeUnknown(err error) bool

	// errorInfo says what an error of the driver is.
	errorInfo(err error) errorInfo
}

// locking says how a transaction takes locks.
type locking struct {
	timeout time.Duration
	joined  bool // the transaction is the user's, and its session is left as it was
	shared  bool // others that share the lock may have it too
}

// openTx is an open transaction.
type openTx interface {
	gorm.ConnPool
	gorm.TxCommitter
}

// dialectOf finds the dialect of a database.
func dialectOf(db *gorm.DB) (dialect, bool) {
	switch db.Dialector.Name() {
	case postgresName:
		return postgres{}, true
	case sqliteName:
		return sqlite{}, true
	}
	return nil, false
}

// numbered turns each ? into $1, $2, and so on. The statements of this package
// have no ? in them that means anything else.
func numbered(query string) string {
	var b strings.Builder
	n := 0
	for part := range strings.SplitAfterSeq(query, "?") {
		text, cut := strings.CutSuffix(part, "?")
		b.WriteString(text)
		if cut {
			n++
			b.WriteString("$" + strconv.Itoa(n))
		}
	}
	return b.String()
}

// scanIDs reads a result of one column of whole numbers.
func scanIDs(rows *sql.Rows, ids []int64) ([]int64, error) {
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
