package gormstore

import (
	"database/sql"
	"database/sql/driver"
	"reflect"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A statement of the caller's own may end a transaction that database/sql
// believes to be open. A save after it would commit on its own. pgx knows the
// state of its session, but database/sql does not hand out the connection of a
// transaction. So the state is read through unexported fields, which is free;
// if one of them is not found, as with a driver that wraps pgx, nothing is
// known.

// whileOpen is an argument whose value cannot be had once the transaction has
// ended: the statement is not sent then. The driver asks for it when it has the
// connection for itself.
type whileOpen struct {
	value string
	tx    *sql.Tx
	ended bool // the value was asked for in vain
}

// Value implements driver.Valuer.
func (w *whileOpen) Value() (driver.Value, error) {
	if status, known := txStatus(w.tx); known && status == 'I' {
		w.ended = true
		return nil, errEnded
	}
	return w.value, nil
}

// errEnded is the error of a save in a transaction that has ended without the
// knowledge of database/sql.
var errEnded = &persistence.Error{Class: persistence.ErrProgramming, Op: "transaction", Hint: hintEnded}

const hintEnded = "a statement has ended the transaction, and what follows would not be part of it; nothing was saved; " +
	"use Commit and Rollback of *gorm.DB, and gormstore.Plugin, which refuses such statements"

// onlyWhileOpen returns the argument for a statement of a transaction that the
// caller has begun, or the value itself for one that is looked after otherwise.
func onlyWhileOpen(pool gorm.ConnPool, value string) (argument any, ended func() bool) {
	if tx, ok := unhooked(pool).(*sql.Tx); ok {
		w := &whileOpen{value: value, tx: tx}
		return w, func() bool { return w.ended }
	}
	return value, func() bool { return false }
}

// txStatus is what the server has said last of the session of a transaction:
// 'I' outside of one, 'T' inside, 'E' in one that has failed.
func txStatus(tx *sql.Tx) (status byte, known bool) {
	v := txField(tx, "txStatus")
	if v.Kind() != reflect.Uint8 {
		return 0, false
	}
	return byte(v.Uint()), true
}

// txBackend is the number of the server's process that serves a transaction, or
// 0 if it is not known.
func txBackend(tx *sql.Tx) int64 {
	v := txField(tx, "pid")
	if v.Kind() != reflect.Uint32 {
		return 0
	}
	return int64(v.Uint())
}

// txField is a field of the connection of pgx that a transaction has, or the
// zero Value.
func txField(tx *sql.Tx, name string) reflect.Value {
	v := reflect.ValueOf(tx)
	for _, field := range []string{"dc", "ci", "conn", "pgConn", name} {
		for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return reflect.Value{}
		}
		v = v.FieldByName(field)
	}
	return v
}
