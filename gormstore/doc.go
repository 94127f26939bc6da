// Package gormstore stores events through GORM, on SQLite and PostgreSQL.
//
// # Tables
//
// Create the tables when the service starts. AutoMigrate creates what is absent
// and never touches what exists; any number of processes may call it at once:
//
//	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{})
//	err = gormstore.AutoMigrate(db)
//
// The tables are those of the Python package eventsourcing_django:
// stored_events, snapshots and notification_tracking. A table prefix of GORM's
// naming strategy applies to them. Tables that Django made are used as they
// are. Schema has the statements as SQL, for migration tools; the command
// migrate of the package management calls AutoMigrate.
//
// # Applications
//
// Give an application the database explicitly, or by name:
//
//	school, err := school.New(application.WithStore(gormstore.New(db)))
//
//	gormstore.RegisterDB("default", db) // PERSISTENCE_MODULE=gormstore, GORM_DB_ALIAS=default
//
// # Transactions
//
// Transaction runs a function in a transaction that saves take part in,
// together with your own statements:
//
//	err = gormstore.Transaction(ctx, db, func(ctx context.Context, tx *gorm.DB) error {
//		if err := tx.Create(&Invoice{Dog: "Fido"}).Error; err != nil {
//			return err
//		}
//		return school.AddTrick(ctx, "Fido", "roll over")
//	})
//
// Tx returns the transaction in a context, for code that gets only the context.
//
// # Order
//
// Before a save draws its first id it takes a lock of its application that
// lasts to the end of the transaction. On SQLite it is the write lock, so one
// transaction writes at a time. On PostgreSQL it is an advisory lock that
// writers share: it says from which id on they write, and readers of this
// package read up to the lowest of these ids, so followers miss nothing.
// WithStrictOrder makes PostgreSQL's writers exclude each other, for programs
// that read by id alone. The wait for a lock is bounded (WithLockTimeout).
//
// # Other processes
//
// Followers find the events of other processes by polling. On PostgreSQL they
// can hear of them at once: a Store with WithNotify sends a NOTIFY with every
// save, in the same statement and in your transactions alike, and one with
// WithListener hears it (package gormstore/pglisten has the listener, because
// it needs a driver):
//
//	listener, err := pglisten.New(dsn, nil)
//	store := gormstore.New(db, gormstore.WithListener(listener)) // which sends as well
//
// PostgreSQL commits one transaction with a NOTIFY at a time, on a whole
// server, which is why this is an option. A listener has its own connection;
// with pgbouncer in transaction mode it needs a DSN that leads to the server
// directly.
//
// # Plugins and loggers
//
// Statements of the recorders go to GORM's connection pool and not through its
// callbacks, so plugins that work by callbacks do not see them. GORM's logger
// does, without their arguments: payloads never reach it.
//
// # SQLite
//
// Every commit of a save is synced to disk (synchronous=FULL), files are put
// into WAL mode, and a database in memory gets a pool of one connection,
// because a second one would be another database. For your own transactions
// open the database with _txlock=immediate, or use Transaction.
package gormstore
