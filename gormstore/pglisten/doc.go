// Package pglisten hears at once, through PostgreSQL, of events that other
// processes have recorded.
//
// Followers find such events by polling. With a listener they need not wait for
// the next poll:
//
//	listener, err := pglisten.New(dsn, nil)
//	store := gormstore.New(db, gormstore.WithListener(listener))
//	school, err := school.New(application.WithStore(store))
//
// Every save then sends a NOTIFY when it is committed, and a process that runs
// followers lets the store listen (see gormstore.WithListener). Processes that
// only write do not need this package: gormstore.WithNotify is enough for them.
//
// # The connection
//
// A listener has one connection for each call of Listen, beside the pool of the
// database. If it is lost, a new one is made, however long that takes; until
// then nothing is heard. All followers are woken when the new connection
// listens. A signal is therefore never more than a reason to look, and polling
// goes on.
//
// The DSN names the same database as the pool's, on a server that accepts
// writes. It must lead to PostgreSQL itself: a pgbouncer in transaction mode
// gives each statement another connection, so LISTEN has no effect. The pool
// may well go through it.
//
// # The price
//
// One transaction at a time can commit with a NOTIFY, on a whole server; see
// gormstore.WithNotify.
//
// This is the one package of the module that imports a driver, so that programs
// without it do not link one.
package pglisten
