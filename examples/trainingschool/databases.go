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
	var open []string
	closeAll = func() error { return closeDatabases(open) }
	register := func(alias string, db *gorm.DB, err error) error {
		if err != nil {
			return fmt.Errorf("database %q: %w", alias, err)
		}
		gormstore.RegisterDB(alias, db)
		open = append(open, alias)
		return nil
	}
	db, err := gormstore.OpenSQLite(sqlite.Open, cmp.Or(os.Getenv("SQLITE_PATH"), "trainingschool.sqlite3"), quiet())
	if err := register(gormstore.DefaultAlias, db, err); err != nil {
		return closeAll, err
	}
	if dsn := os.Getenv("POSTGRES_DSN"); dsn != "" {
		db, err := gorm.Open(postgres.Open(dsn), quiet())
		if err := register("postgres", db, err); err != nil {
			return closeAll, errors.Join(err, closeAll())
		}
	}
	return closeAll, nil
}

// quiet makes a new configuration for each database, because gorm.Open keeps the one that it is given.
func quiet() *gorm.Config { return &gorm.Config{Logger: logger.Discard} }

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
