package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
)

// The kinds of databases.
const (
	postgresKind = "postgres"
	sqliteKind   = "sqlite"
)

// applicationName is the application whose events are saved.
const applicationName = "Benchmark"

// A database is one that a cell has for itself, with the framework's tables.
type database struct {
	kind  string
	dsn   string
	admin *sql.DB // for what is not measured

	// The rows that reset has filled the log with, and the highest of their
	// ids.
	filled  int
	highest int64
}

// newDatabase makes a database with empty tables.
func newDatabase(p *place) (*database, error) {
	dsn, err := p.create()
	if err != nil {
		return nil, err
	}
	d := &database{kind: p.kind, dsn: dsn}
	db, err := d.gorm(1)
	if err != nil {
		return nil, err
	}
	if d.admin, err = db.DB(); err == nil {
		err = gormstore.AutoMigrate(db)
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *database) close() error { return d.admin.Close() }

// gorm opens a handle as a user would, with a connection kept for each of the
// callers.
func (d *database) gorm(connections int) (*gorm.DB, error) {
	dialector := postgres.Open(d.dsn)
	if d.kind == sqliteKind {
		dialector = sqlite.Open(d.dsn)
	}
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	return db, d.connect(pool, connections)
}

// pool opens the driver without GORM.
func (d *database) pool(connections int) (*sql.DB, error) {
	driver := "pgx"
	if d.kind == sqliteKind {
		driver = sqlite.DriverName
	}
	pool, err := sql.Open(driver, d.dsn)
	if err != nil {
		return nil, err
	}
	return pool, d.connect(pool, connections)
}

// connect opens all connections of a pool, so that none has to be opened while
// something is measured. A SQLite file has one writer at a time, and
// connections that would only wait for each other make it slower.
func (d *database) connect(pool *sql.DB, connections int) error {
	if d.kind == sqliteKind {
		connections = 1
	}
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	held := make([]*sql.Conn, 0, connections)
	var err error
	for range connections {
		conn, failure := pool.Conn(ctx)
		if failure != nil {
			err = errors.Join(failure, pool.Close())
			break
		}
		held = append(held, conn)
	}
	for _, conn := range held {
		err = errors.Join(err, conn.Close())
	}
	return err
}

// reset makes the log a number of rows again, and has the database look at
// them. A log of that many rows is kept, without what was added since: to fill
// in millions of rows takes longer than a turn.
func (d *database) reset(ctx context.Context, rows int) error {
	if rows == 0 || rows != d.filled {
		if err := d.refill(ctx, rows); err != nil {
			return err
		}
	} else if err := d.deleteAdded(ctx); err != nil {
		return err
	}
	if d.kind == sqliteKind {
		return d.execute(ctx, "ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)")
	}
	return d.execute(ctx, "VACUUM (ANALYZE) stored_events")
}

// refill empties the tables and fills the log with a number of rows.
func (d *database) refill(ctx context.Context, rows int) error {
	empty := []string{"TRUNCATE stored_events, snapshots"}
	if d.kind == sqliteKind {
		empty = []string{"DELETE FROM stored_events", "DELETE FROM snapshots"}
	}
	d.filled, d.highest = 0, 0
	if err := d.execute(ctx, empty...); err != nil {
		return err
	}
	if err := d.fill(ctx, applicationName, rows, sampleTopic, sampleState); err != nil {
		return err
	}
	err := d.admin.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM stored_events").Scan(&d.highest)
	if err != nil {
		return fmt.Errorf("read the highest id: %w", err)
	}
	d.filled = rows
	return nil
}

// deleteAdded deletes what was added to the log since it was filled.
func (d *database) deleteAdded(ctx context.Context) error {
	empty := "TRUNCATE snapshots"
	if d.kind == sqliteKind {
		empty = "DELETE FROM snapshots"
	}
	if _, err := d.admin.ExecContext(ctx, "DELETE FROM stored_events WHERE id > $1", d.highest); err != nil {
		return fmt.Errorf("delete what was added: %w", err)
	}
	return d.execute(ctx, empty)
}

func (d *database) execute(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if _, err := d.admin.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// fill adds rows to the log of an application.
func (d *database) fill(ctx context.Context, application string, rows int, topic string, state []byte) error {
	statement := fillPostgres
	if d.kind == sqliteKind {
		statement = fillSQLite
	}
	if _, err := d.admin.ExecContext(ctx, statement, application, rows, topic, state); err != nil {
		return fmt.Errorf("fill the log of %s: %w", application, err)
	}
	return nil
}

// The statements that fill a log: aggregates of 100 events under random ids.
const (
	fillPostgres = `INSERT INTO stored_events (application_name, originator_id, originator_version, topic, state)
SELECT $1, md5((n / 100)::text)::uuid, n % 100 + 1, $3::text, $4::bytea
FROM generate_series(0, $2::bigint - 1) AS n`
	fillSQLite = `INSERT INTO stored_events (application_name, originator_id, originator_version, topic, state)
WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers)
SELECT ?1, printf('%08x%024x', (n / 100 * 2654435761) % 4294967296, n / 100), n % 100 + 1,
	?3, ?4 FROM numbers LIMIT ?2`
)

// verify checks that exactly so many rows were added since reset filled the
// log, and that the versions of the aggregates in them have no gap.
func (d *database) verify(ctx context.Context, added int64) error {
	var stored, broken int64
	const count = "SELECT count(*) FROM stored_events WHERE id > $1"
	const gaps = `SELECT count(*) FROM (SELECT originator_id FROM stored_events WHERE id > $1
GROUP BY application_name, originator_id
HAVING min(originator_version) <> 1 OR max(originator_version) <> count(*)) AS broken`
	err := errors.Join(
		d.admin.QueryRowContext(ctx, count, d.highest).Scan(&stored),
		d.admin.QueryRowContext(ctx, gaps, d.highest).Scan(&broken),
	)
	switch {
	case err != nil:
		return fmt.Errorf("verify: %w", err)
	case stored != added:
		return fmt.Errorf("void: %d rows were added, %d were acknowledged", stored, added)
	case broken > 0:
		return fmt.Errorf("void: the versions of %d aggregates are not contiguous", broken)
	}
	return nil
}

// version is what the database says of itself.
func (d *database) version(ctx context.Context) (version string, err error) {
	query := "SELECT 'PostgreSQL ' || current_setting('server_version') || ', fsync ' || current_setting('fsync')"
	if d.kind == sqliteKind {
		query = "SELECT 'SQLite ' || sqlite_version()"
	}
	return version, d.admin.QueryRowContext(ctx, query).Scan(&version)
}

// programs is the folder of the server's programs.
func (d *database) programs(ctx context.Context) (folder string, err error) {
	err = d.admin.QueryRowContext(ctx, "SELECT setting FROM pg_config WHERE name = 'BINDIR'").Scan(&folder)
	return folder, err
}

// meter reads the processor time that this process and the processes of the
// server, as they are now, have used.
func (d *database) meter(ctx context.Context) (func() time.Duration, error) {
	if d.kind == sqliteKind {
		return processorTime, nil
	}
	var backend int
	if err := d.admin.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&backend); err != nil {
		return nil, err
	}
	server, used := siblings(backend), usage{}
	return func() time.Duration { return processorTime() + used.read(server) }, nil
}
