package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
)

// openDatabases opens the databases of the program and registers them under
// their names. The function that it returns closes them. If it returns an
// error, none is open.
func openDatabases() (closeAll func() error, err error) {
	var open []string
	register := func(alias string, db *gorm.DB, err error) error {
		if err != nil {
			err = fmt.Errorf("database %q cannot be opened: %s", alias, reasonOf(err))
			return errors.Join(err, closeDatabases(open))
		}
		gormstore.RegisterDB(alias, db)
		open = append(open, alias)
		return nil
	}
	db, err := gormstore.OpenSQLite(sqlite.Open, cmp.Or(os.Getenv("SQLITE_PATH"), "trainingschool.sqlite3"), quiet())
	if err := register(gormstore.DefaultAlias, db, err); err != nil {
		return nil, err
	}
	if dsn := os.Getenv("POSTGRES_DSN"); dsn != "" {
		db, err := gorm.Open(postgres.Open(dsn), quiet())
		if err := register("postgres", db, err); err != nil {
			return nil, err
		}
	}
	return func() error { return closeDatabases(open) }, nil
}

// reasonOf returns in one line why a database could not be opened. A DSN that
// cannot be parsed may show its password in the driver's text, which is left
// out then.
func reasonOf(err error) string {
	if _, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
		return `POSTGRES_DSN cannot be parsed; write "host=… port=… user=… password=… dbname=…", or a URL with its special characters escaped`
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// quiet makes a new configuration for each database, because gorm.Open keeps
// the one that it is given.
func quiet() *gorm.Config { return &gorm.Config{Logger: logger.Discard} }

func closeDatabases(aliases []string) (err error) {
	for _, alias := range aliases {
		db, ok := gormstore.DB(alias)
		if !ok {
			continue // it was closed elsewhere
		}
		gormstore.UnregisterDB(alias)
		pool, poolErr := db.DB()
		if poolErr == nil {
			poolErr = pool.Close()
		}
		err = errors.Join(err, poolErr)
	}
	return err
}
