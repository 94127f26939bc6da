package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
)

// openDatabases opens the databases of the program and registers them under their names. The function that it returns
// closes them.
func openDatabases() (closeAll func() error, err error) {
	dialectors := map[string]gorm.Dialector{
		gormstore.DefaultAlias: sqlite.Open(sqliteDSN(cmp.Or(os.Getenv("SQLITE_PATH"), "trainingschool.sqlite3"))),
	}
	if dsn := os.Getenv("POSTGRES_DSN"); dsn != "" {
		dialectors["postgres"] = postgres.Open(dsn)
	}
	var open []string
	closeAll = func() error { return closeDatabases(open) }
	for alias, dialector := range dialectors {
		db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
		if err != nil {
			return closeAll, errors.Join(fmt.Errorf("database %q: %w", alias, err), closeAll())
		}
		gormstore.RegisterDB(alias, db)
		open = append(open, alias)
	}
	return closeAll, nil
}

// sqliteDSN asks for what a service wants of SQLite: readers that do not wait for the writer, commits that survive a
// power failure, transactions that take the write lock when they begin, and patience with other processes.
func sqliteDSN(path string) string {
	return path + "?_journal_mode=WAL&_synchronous=FULL&_txlock=immediate&_busy_timeout=10000"
}

func closeDatabases(aliases []string) (err error) {
	for _, alias := range aliases {
		db, _ := gormstore.DB(alias)
		gormstore.UnregisterDB(alias)
		pool, poolErr := db.DB()
		if poolErr == nil {
			poolErr = pool.Close()
		}
		err = errors.Join(err, poolErr)
	}
	return err
}
