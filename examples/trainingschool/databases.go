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
	var open []database
	register := func(alias string, db *gorm.DB, err error) error {
		if err != nil {
			err = fmt.Errorf("database %q cannot be opened: %s", alias, reasonOf(err))
			return errors.Join(err, closeDatabases(open))
		}
		open = append(open, database{db, gormstore.RegisterDB(alias, db)})
		return nil
	}
	db, err := gormstore.OpenSQLite(sqlite.Open, cmp.Or(os.Getenv("SQLITE_PATH"), "trainingschool.sqlite3"), quiet())
	if err := register("default", db, err); err != nil {
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

// database is one that is open and has a name.
type database struct {
	db         *gorm.DB
	unregister func()
}

func closeDatabases(open []database) (err error) {
	for _, d := range open {
		d.unregister()
		pool, poolErr := d.db.DB()
		if poolErr == nil {
			poolErr = pool.Close()
		}
		err = errors.Join(err, poolErr)
	}
	return err
}
