// Package gormstore stores events through GORM, on SQLite and PostgreSQL.
//
// # Tables
//
// Create the tables when the service starts. AutoMigrate creates what is absent and never touches what exists; any number
// of processes may call it at once:
//
//	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{})
//	err = gormstore.AutoMigrate(db)
//
// The tables are those of the Python package eventsourcing_django: stored_events, snapshots and notification_tracking. A
// table prefix of GORM's naming strategy applies to them. Tables that Django made are used as they are. Schema has the
// statements as SQL, for migration tools; the command migrate of the package management calls AutoMigrate.
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
// Transaction runs a function in a transaction that saves take part in, together with statements of your own:
//
//	err = gormstore.Transaction(ctx, db, func(ctx context.Context, tx *gorm.DB) error {
//		if err := tx.Create(&Invoice{Dog: "Fido"}).Error; err != nil {
//			return err
//		}
//		return school.AddTrick(ctx, "Fido", "roll over")
//	})
//
// Tx finds the transaction in a context again, for code in between.
//
// # Order
//
// Before a save draws its first id it takes a lock of its application: an advisory lock on PostgreSQL, the write lock on
// SQLite. The lock lasts to the end of the transaction, so ids become visible in ascending order and followers miss
// nothing. The wait for it is bounded (WithLockTimeout). In a transaction of your own, save last.
//
// # Plugins and loggers
//
// Statements of the recorders go to GORM's connection pool and not through its callbacks, so plugins that work by callbacks
// do not see them. GORM's logger does, without their arguments: payloads never reach it.
//
// # SQLite
//
// Every commit of a save is synced to disk (synchronous=FULL), files are put into WAL mode, and a database in memory gets a
// pool of one connection, because a second one would be another database. For transactions of your own open the database
// with _txlock=immediate, or use Transaction.
package gormstore
