package gormstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"reflect"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// fault is what an error of a driver means.
type fault struct {
	class error
	// unique says that a unique key was violated.
	unique bool
	// missing names what the database lacks, where it was not migrated.
	missing string
	// hint says what to do about it.
	hint string
}

// Hints for faults that have a usual cause.
const (
	hintLock = "another transaction kept the order lock for too long; the likeliest cause is a Save inside a transaction " +
		"whose context lacks it: pass on the context that gormstore.Transaction gives"
	hintDeferred = "the transaction read before another one wrote; open the database with _txlock=immediate, " +
		"or use gormstore.Transaction"
	hintPooler = "a connection pooler in transaction mode needs default_query_exec_mode=exec in the DSN, and no PrepareStmt"
	hintFix    = "create the tables with gormstore.AutoMigrate(db), or with the migrate command"
)

// translate turns an error of a driver into one of the persistence package. Errors that are translated already stay as
// they are. Where ctx has ended its error is part of the result.
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
	f := s.faultOf(err)
	if f.missing != "" {
		return &persistence.NotMigratedError{Missing: f.missing, Fix: hintFix, Err: err}
	}
	return &persistence.Error{Class: f.class, Op: op, Hint: f.hint, Err: err}
}

// faultOf says what an error is, first as far as no database is needed for it.
func (s *Store) faultOf(err error) fault {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone):
		return fault{class: persistence.ErrOperational}
	case errors.Is(err, sql.ErrTxDone):
		return fault{class: persistence.ErrInterface, hint: "the transaction in the context has ended"}
	case strings.HasSuffix(err.Error(), "sql: database is closed"):
		return fault{class: persistence.ErrClosed}
	}
	return s.dialect.fault(err)
}

// postgresFaults are the conditions of PostgreSQL by their code or its class, the first two characters.
var postgresFaults = map[string]fault{
	"08":    {class: persistence.ErrOperational},
	"0A":    {class: persistence.ErrNotSupported},
	"22":    {class: persistence.ErrData},
	"23":    {class: persistence.ErrIntegrity},
	"25":    {class: persistence.ErrInternal},
	"26":    {class: persistence.ErrProgramming, hint: hintPooler},
	"28":    {class: persistence.ErrOperational},
	"3D":    {class: persistence.ErrOperational},
	"40":    {class: persistence.ErrRetryTransaction},
	"42":    {class: persistence.ErrProgramming},
	"53":    {class: persistence.ErrOperational},
	"54":    {class: persistence.ErrOperational},
	"55":    {class: persistence.ErrOperational},
	"57":    {class: persistence.ErrOperational},
	"58":    {class: persistence.ErrOperational},
	"XX":    {class: persistence.ErrInternal},
	"08007": {class: persistence.ErrOutcomeUnknown},
	"23505": {class: persistence.ErrIntegrity, unique: true},
	"25006": {class: persistence.ErrReadOnly},
	"25P03": {class: persistence.ErrOperational, hint: "the session was idle in the transaction for too long"},
	"3F000": {class: persistence.ErrOperational, missing: "a schema"},
	"40003": {class: persistence.ErrOutcomeUnknown},
	"42501": {class: persistence.ErrOperational, hint: "the database user lacks a privilege"},
	"42703": {class: persistence.ErrOperational, missing: "a column"},
	"42P01": {class: persistence.ErrOperational, missing: "a table"},
	"42P05": {class: persistence.ErrProgramming, hint: hintPooler},
	"53100": {class: persistence.ErrDiskFull},
	"55P03": {class: persistence.ErrLockTimeout, hint: hintLock},
}

// sqlState is what errors of PostgreSQL's drivers have.
type sqlState interface {
	error
	SQLState() string
}

func (postgres) fault(err error) fault {
	coded, ok := errors.AsType[sqlState](err)
	if !ok || len(coded.SQLState()) < 2 { // trouble with the connection has no code
		return fault{class: persistence.ErrOperational}
	}
	code := coded.SQLState()
	f, known := postgresFaults[code]
	if !known {
		if f, known = postgresFaults[code[:2]]; !known {
			f = fault{class: persistence.ErrDatabase}
		}
	}
	if name := quotedName(coded.Error()); f.missing != "" && name != "" {
		f.missing += " " + name
	}
	return f
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

// sqliteFaults are the conditions of SQLite by their extended result code, or by their primary one, its lowest byte.
var sqliteFaults = map[int]fault{
	2:    {class: persistence.ErrInternal},
	4:    {class: persistence.ErrOperational}, // abort
	5:    {class: persistence.ErrLockTimeout, hint: hintLock},
	6:    {class: persistence.ErrLockTimeout, hint: hintLock},
	7:    {class: persistence.ErrOperational}, // no memory
	8:    {class: persistence.ErrReadOnly},
	9:    {class: persistence.ErrOperational}, // interrupted
	10:   {class: persistence.ErrOperational}, // input or output
	11:   {class: persistence.ErrNotADatabase},
	13:   {class: persistence.ErrDiskFull},
	14:   {class: persistence.ErrOperational}, // cannot open
	18:   {class: persistence.ErrData},        // too big
	19:   {class: persistence.ErrIntegrity},
	20:   {class: persistence.ErrData}, // mismatch
	21:   {class: persistence.ErrInterface},
	23:   {class: persistence.ErrOperational}, // not authorised
	25:   {class: persistence.ErrProgramming}, // parameter out of range
	26:   {class: persistence.ErrNotADatabase},
	517:  {class: persistence.ErrRetryTransaction, hint: hintDeferred},
	1555: {class: persistence.ErrIntegrity, unique: true},
	2067: {class: persistence.ErrIntegrity, unique: true},
}

// sqliteMissing are the messages of SQLite about what is not there; it has no code of its own for them.
var sqliteMissing = map[string]string{
	"no such table: ":      "table ",
	"no such column: ":     "column ",
	"has no column named ": "column ",
}

func (sqlite) fault(err error) fault {
	for phrase, kind := range sqliteMissing {
		if _, name, ok := strings.Cut(err.Error(), phrase); ok {
			return fault{class: persistence.ErrOperational, missing: kind + name}
		}
	}
	code, ok := sqliteCode(err)
	if !ok {
		return fault{class: persistence.ErrOperational}
	}
	if f, known := sqliteFaults[code]; known {
		return f
	}
	if f, known := sqliteFaults[code&0xff]; known {
		return f
	}
	return fault{class: persistence.ErrDatabase}
}

// sqliteCode finds the extended result code in an error of whatever driver, none of which is imported here: mattn's has
// it in a field, modernc's returns it from a method.
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

// unwrapFirst goes one step down; of joined errors it takes the last, which is the driver's.
func unwrapFirst(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if all := joined.Unwrap(); len(all) > 0 {
			return all[len(all)-1]
		}
		return nil
	}
	return errors.Unwrap(err)
}
