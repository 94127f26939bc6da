package gormstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"reflect"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// errorInfo is what an error of a driver means.
type errorInfo struct {
	class error
	// scope says what the error is about, for a follower that has to decide
	// what to do with the event that it was processing.
	scope scope
	// unique says that a unique key was violated.
	unique bool
	// missing names what the database lacks, if it was not migrated.
	missing string
	// hint says what to do about it.
	hint string
}

// scope is what an error is about.
type scope int

const (
	// aboutEvent is an error of a statement or of its values. It comes back
	// whenever the same event is processed, so system.Park is asked about it.
	aboutEvent scope = iota
	// aboutDatabase is an error of the server, of the connection or of the
	// schema. It says nothing about the event, which is tried again.
	aboutDatabase
	// passing is an error that the next attempt probably does not meet. It says
	// nothing about the event, which is tried again soon.
	passing
)

// Hints for faults that have a usual cause.
const (
	hintLock = "another transaction kept the order lock for too long; the likeliest cause is a Save inside a transaction " +
		"whose context lacks it: pass on the context that gormstore.Transaction gives"
	// hintConnection is hintLock if writers have one connection between them.
	hintConnection = hintLock + "; another one is a statement through db inside a transaction, which waits for the connection " +
		"that the transaction has: use its tx"
	hintRead     = "another session has locked the table"
	hintTable    = hintRead + "; nothing was stored"
	hintDeferred = "the transaction read before another one wrote; open the database with _txlock=immediate, " +
		"or use gormstore.Transaction"
	hintPooler  = "a connection pooler in transaction mode needs default_query_exec_mode=exec in the DSN, and no PrepareStmt"
	hintPlan    = "the statement was prepared before a migration changed its columns; it is prepared again at the next attempt"
	hintNarrow  = "an id, version or position does not fit its column; make the column a bigint"
	hintDamaged = "the file is not a database, or it is damaged"
	hintFix     = "create the tables with gormstore.AutoMigrate(db), or with the migrate command"
)

// translate turns an error of a driver into one of the persistence package.
// Errors that are translated already stay as they are. If ctx has ended, its
// error is part of the result.
func (s *Store) translate(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, persistence.ErrPersistence) {
		return err
	}
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err)
	}
	f := s.infoOf(err)
	if coded, ok := errors.AsType[sqlState](err); ok && coded.SQLState() == outOfRange {
		f.class, f.hint = persistence.ErrOperational, hintNarrow
	}
	if f.missing != "" {
		return notMigrated(op, f.missing, err)
	}
	return &persistence.Error{Class: f.class, Op: op, Hint: f.hint, Err: err}
}

// notMigrated is the error of an operation that misses a part of the tables.
func notMigrated(op, missing string, cause error) error {
	return &persistence.Error{Class: persistence.ErrNotMigrated, Op: op, Hint: missing + " is missing; " + hintFix, Err: cause}
}

// infoOf says what an error is, first as far as no database is needed for it.
func (s *Store) infoOf(err error) errorInfo {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, sql.ErrConnDone):
		return errorInfo{class: persistence.ErrOperational, scope: aboutDatabase}
	case errors.Is(err, driver.ErrBadConn): // nothing was sent
		return errorInfo{class: persistence.ErrUnavailable, scope: aboutDatabase}
	case errors.Is(err, sql.ErrTxDone):
		return errorInfo{class: persistence.ErrInterface, scope: aboutDatabase, hint: "the transaction in the context has ended"}
	case strings.HasSuffix(err.Error(), "sql: database is closed"):
		return errorInfo{class: persistence.ErrClosed, scope: aboutDatabase}
	}
	return s.dialect.errorInfo(err)
}

// postgresFaults are the conditions of PostgreSQL by their code or its class,
// the first two characters. A code that has no row, and whose class has none,
// is an ErrDatabase about the event.
//
// The class is what callers see. The scope is what followers go by: a handler
// may send any statement.
var postgresFaults = map[string]errorInfo{
	"03": {class: persistence.ErrDatabase, scope: aboutDatabase},    // statement not complete
	"08": {class: persistence.ErrOperational, scope: aboutDatabase}, // connection
	"0A": {class: persistence.ErrNotSupported, scope: aboutEvent},   // feature not supported
	"22": {class: persistence.ErrData, scope: aboutEvent},           // data
	"23": {class: persistence.ErrIntegrity, scope: aboutEvent},      // constraints
	"24": {class: persistence.ErrDatabase, scope: aboutDatabase},    // invalid cursor state
	"25": {class: persistence.ErrInternal, scope: aboutDatabase},    // invalid transaction state
	"26": {class: persistence.ErrProgramming, scope: passing, hint: hintPooler},
	"28": {class: persistence.ErrOperational, scope: aboutDatabase}, // authorization
	"2D": {class: persistence.ErrDatabase, scope: aboutDatabase},    // transaction termination
	"34": {class: persistence.ErrDatabase, scope: passing, hint: hintPooler},
	"3B": {class: persistence.ErrDatabase, scope: aboutDatabase},    // savepoint
	"3D": {class: persistence.ErrOperational, scope: aboutDatabase}, // no such database
	"40": {class: persistence.ErrRetryTransaction, scope: passing},  // rollback
	"42": {class: persistence.ErrProgramming, scope: aboutEvent},    // syntax, names and types
	"53": {class: persistence.ErrOperational, scope: aboutDatabase}, // resources
	"54": {class: persistence.ErrData, scope: aboutEvent},           // limits of statement and row
	"55": {class: persistence.ErrOperational, scope: aboutDatabase}, // not in prerequisite state
	"57": {class: persistence.ErrOperational, scope: aboutDatabase}, // operator intervention
	"58": {class: persistence.ErrOperational, scope: aboutDatabase}, // input or output
	"72": {class: persistence.ErrDatabase, scope: passing},          // snapshot too old
	"F0": {class: persistence.ErrDatabase, scope: aboutDatabase},    // configuration file
	"HV": {class: persistence.ErrDatabase, scope: aboutDatabase},    // foreign data wrapper
	"XX": {class: persistence.ErrInternal, scope: aboutDatabase},    // internal, damaged
	// Codes that are unlike the rest of their class.
	"08007": {class: persistence.ErrOutcomeUnknown, scope: aboutDatabase},
	"2200H": {class: persistence.ErrOperational, scope: aboutDatabase,
		hint: "a sequence has reached its end; make it and its column a bigint"},
	"23505": {class: persistence.ErrIntegrity, scope: aboutEvent, unique: true},
	"25006": {class: persistence.ErrReadOnly, scope: aboutDatabase},
	"25P01": {class: persistence.ErrProgramming, scope: aboutDatabase, hint: hintEnded},
	"25P03": {class: persistence.ErrOperational, scope: aboutDatabase,
		hint: "the session was idle in the transaction for too long"},
	"25P04": {class: persistence.ErrOperational, scope: aboutDatabase,
		hint: "the transaction took longer than transaction_timeout"},
	"3F000": {class: persistence.ErrOperational, scope: aboutDatabase, missing: "a schema"},
	"40001": {class: persistence.ErrRetryTransaction, scope: passing,
		hint: "another transaction has changed what this one read; run the whole transaction again"},
	"40P01": {class: persistence.ErrRetryTransaction, scope: passing,
		hint: "two transactions waited for each other; run the whole transaction again, and save aggregates in the same order everywhere"},
	"40003": {class: persistence.ErrOutcomeUnknown, scope: aboutDatabase},
	"42501": {class: persistence.ErrOperational, scope: aboutDatabase,
		hint: "the database user lacks a privilege"},
	"42703": {class: persistence.ErrOperational, scope: aboutDatabase, missing: "a column"},
	"42P01": {class: persistence.ErrOperational, scope: aboutDatabase, missing: "a table"},
	"42P05": {class: persistence.ErrProgramming, scope: passing, hint: hintPooler},
	"42P18": {class: persistence.ErrProgramming, scope: passing, hint: hintPooler}, // not ours
	"53100": {class: persistence.ErrDiskFull, scope: aboutDatabase},
	"08001": {class: persistence.ErrUnavailable, scope: aboutDatabase}, // cannot connect
	"08004": {class: persistence.ErrUnavailable, scope: aboutDatabase}, // connection rejected
	"53300": {class: persistence.ErrUnavailable, scope: aboutDatabase}, // too many connections
	"57P01": {class: persistence.ErrUnavailable, scope: aboutDatabase}, // shutting down
	"57P02": {class: persistence.ErrUnavailable, scope: aboutDatabase}, // a process crashed
	"57P03": {class: persistence.ErrUnavailable, scope: aboutDatabase}, // starting up
	"55P03": {class: persistence.ErrLockTimeout, scope: passing, hint: hintLock},
}

// outOfRange is a whole number that does not fit its column. Those of this
// package fit a bigint, so for its statements that is an error of the schema:
// an integer column of ids that has come to its end.
const outOfRange = "22003"

// cachedPlan is how PostgreSQL refuses a prepared statement whose result has
// other columns since a migration. Its code has other meanings as well.
const cachedPlan = "cached plan must not change result type"

// sqlState is what errors of PostgreSQL's drivers have.
type sqlState interface {
	error
	SQLState() string
}

func (postgres) errorInfo(err error) errorInfo {
	coded, ok := errors.AsType[sqlState](err)
	if !ok || len(coded.SQLState()) < 2 { // trouble with the connection has no code
		if _, network := errors.AsType[*net.OpError](err); network || unsent(err) {
			return errorInfo{class: persistence.ErrUnavailable, scope: aboutDatabase}
		}
		return errorInfo{class: persistence.ErrOperational, scope: aboutDatabase}
	}
	code := coded.SQLState()
	if code == "0A000" && strings.Contains(coded.Error(), cachedPlan) {
		return errorInfo{class: persistence.ErrNotSupported, scope: passing, hint: hintPlan}
	}
	f, known := postgresFaults[code]
	if !known {
		if f, known = postgresFaults[code[:2]]; !known {
			f = errorInfo{class: persistence.ErrDatabase}
		}
	}
	if code == "42501" {
		f.hint += grantFor(coded.Error())
	}
	if name := quotedName(coded.Error()); f.missing != "" && name != "" {
		f.missing += " " + name
	}
	return f
}

// grantFor is the end of a hint that says what to grant, if the message names
// it.
func grantFor(message string) string {
	for _, grant := range []struct{ kind, privileges, keyword string }{
		{"table", "SELECT, INSERT, UPDATE, DELETE", "TABLE"}, {"sequence", "USAGE, SELECT", "SEQUENCE"}, {"schema", "USAGE", "SCHEMA"},
		{"view", "SELECT", "TABLE"}, {"function", "EXECUTE", "FUNCTION"},
	} {
		if _, rest, ok := strings.Cut(message, "permission denied for "+grant.kind+" "); ok {
			name, _, _ := strings.Cut(rest, " ")
			return ": GRANT " + grant.privileges + " ON " + grant.keyword + " " + name + " TO the user"
		}
	}
	return ""
}

// quotedName is the first name in quotes in a message, with its quotes.
func quotedName(message string) string {
	_, rest, _ := strings.Cut(message, `"`)
	name, _, ok := strings.Cut(rest, `"`)
	if !ok {
		return ""
	}
	return `"` + name + `"`
}

// sqliteFaults are the conditions of SQLite by their extended result code, or
// by their primary one, its lowest byte. A code that has no row is an
// ErrDatabase about the event, such as 1, an error of the statement.
var sqliteFaults = map[int]errorInfo{
	2:    {class: persistence.ErrInternal, scope: aboutDatabase},
	3:    {class: persistence.ErrOperational, scope: aboutDatabase}, // permission
	4:    {class: persistence.ErrOperational, scope: aboutDatabase}, // abort
	5:    {class: persistence.ErrLockTimeout, scope: passing, hint: hintConnection},
	6:    {class: persistence.ErrLockTimeout, scope: passing, hint: hintConnection},
	7:    {class: persistence.ErrOperational, scope: aboutDatabase}, // no memory
	8:    {class: persistence.ErrReadOnly, scope: aboutDatabase},
	9:    {class: persistence.ErrOperational, scope: aboutDatabase}, // interrupted
	10:   {class: persistence.ErrOperational, scope: aboutDatabase}, // input or output
	11:   {class: persistence.ErrDatabase, scope: aboutDatabase, hint: hintDamaged},
	13:   {class: persistence.ErrDiskFull, scope: aboutDatabase},
	14:   {class: persistence.ErrOperational, scope: aboutDatabase}, // cannot open
	15:   {class: persistence.ErrOperational, scope: aboutDatabase}, // lock protocol
	17:   {class: persistence.ErrOperational, scope: passing},       // schema has changed
	18:   {class: persistence.ErrData, scope: aboutEvent},           // too big
	19:   {class: persistence.ErrIntegrity, scope: aboutEvent},
	20:   {class: persistence.ErrData, scope: aboutEvent}, // mismatch
	21:   {class: persistence.ErrInterface, scope: aboutDatabase},
	22:   {class: persistence.ErrOperational, scope: aboutDatabase}, // file too large
	23:   {class: persistence.ErrOperational, scope: aboutDatabase}, // not authorised
	25:   {class: persistence.ErrProgramming, scope: aboutEvent},    // parameter out of range
	26:   {class: persistence.ErrDatabase, scope: aboutDatabase, hint: hintDamaged},
	517:  {class: persistence.ErrRetryTransaction, scope: passing, hint: hintDeferred},
	1555: {class: persistence.ErrIntegrity, scope: aboutEvent, unique: true},
	2067: {class: persistence.ErrIntegrity, scope: aboutEvent, unique: true},
}

// sqliteMissing are the messages of SQLite about what is not there; it has no
// code for them.
var sqliteMissing = map[string]string{
	"no such table: ":      "table ",
	"no such column: ":     "column ",
	"has no column named ": "column ",
}

func (sqlite) errorInfo(err error) errorInfo {
	for phrase, kind := range sqliteMissing {
		if _, name, ok := strings.Cut(err.Error(), phrase); ok {
			return errorInfo{class: persistence.ErrOperational, scope: aboutDatabase, missing: kind + name}
		}
	}
	code, ok := sqliteCode(err)
	if !ok {
		return errorInfo{class: persistence.ErrOperational, scope: aboutDatabase}
	}
	if f, known := sqliteFaults[code]; known {
		return f
	}
	if f, known := sqliteFaults[code&0xff]; known {
		return f
	}
	return errorInfo{class: persistence.ErrDatabase}
}

// sqliteCode finds the extended result code in an error of whatever driver,
// none of which is imported here: mattn's has it in a field, modernc's returns
// it from a method.
func sqliteCode(err error) (int, bool) {
	if coded, ok := errors.AsType[interface {
		error
		Code() int
	}](err); ok {
		return coded.Code(), true
	}
	for ; err != nil; err = unwrapFirst(err) {
		v := reflect.Indirect(reflect.ValueOf(err))
		if v.Kind() != reflect.Struct {
			continue
		}
		if field := v.FieldByName("ExtendedCode"); field.IsValid() && field.CanInt() {
			return int(field.Int()), true
		}
	}
	return 0, false
}

// unwrapFirst goes one step down; of joined errors it takes the last, which is
// the driver's.
func unwrapFirst(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if all := joined.Unwrap(); len(all) > 0 {
			return all[len(all)-1]
		}
		return nil
	}
	return errors.Unwrap(err)
}
