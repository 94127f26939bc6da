package gormstore

import (
	"database/sql"
	"time"

	"gorm.io/gorm"
)

// WaitingSaves counts the saves that wait in the queues of a database for their
// batch; led says that some queue has a leader. It is for tests that make
// batches of a certain content.
func WaitingSaves(db *gorm.DB) (waiting int, led bool) {
	h := handleOfDB(db)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, q := range h.queues {
		n, leads := q.State()
		waiting, led = waiting+n, led || leads
	}
	return waiting, led
}

// LookLong gives a database that is not used yet all the time that it needs to
// find out who holds a lock: on a busy machine that may take long.
func LookLong(db *gorm.DB) { handleOfDB(db).lookTime = time.Hour }

// ReadersOf is the pool for reads of a database that OpenSQLite opened.
func ReadersOf(db *gorm.DB) *sql.DB {
	h := handleOfDB(db)
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.readers
}

func handleOfDB(db *gorm.DB) *poolState {
	pool, err := db.DB()
	if err != nil {
		panic(err)
	}
	return poolStateOf(pool)
}

// TxStatusOf is the state of a transaction's session, or "" if it is not known.
func TxStatusOf(tx *gorm.DB) string {
	pool, ok := unhooked(tx.Statement.ConnPool).(*sql.Tx)
	if !ok {
		return ""
	}
	status, known := txStatus(pool)
	if !known {
		return ""
	}
	return string(status)
}

// CommandsOf are the commands of transactions in a query, and how many
// statements it has.
func CommandsOf(query string, isSQLite bool) (found []string, statements int) {
	commands, statements := transactionCommands(query, isSQLite)
	for _, c := range commands {
		kind := map[commandKind]string{setSavepoint: "set ", releaseSavepoint: "release ", returnToSavepoint: "return "}[c.kind]
		if c.kind == endTransaction {
			kind = "end by " + c.verb
		}
		found = append(found, kind+c.name)
	}
	return found, statements
}
