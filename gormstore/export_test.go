package gormstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"maps"
	"slices"
	"strconv"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// OwnModels are the models of the tables of this module.
var OwnModels = ownModels

// Sleep is the wait between the tries of Retry.
var Sleep = sleep

// WithoutOrderLock makes a Store whose saves in transactions take no lock, for
// the controls of the tests that the lock exists for: without it they must
// fail.
func WithoutOrderLock(s *Store) { s.dialect = unlocked{s.dialect} }

type unlocked struct{ dialect }

func (unlocked) lock(context.Context, connection, locking, ...int64) error { return nil }

func (unlocked) lockIn(context.Context, connection, locking, table, location, ...int64) (bool, error) {
	return true, nil
}

func (unlocked) appendsWhole(*save) bool { return false }

func (u unlocked) append(ctx context.Context, c connection, _ locking, l *eventLog, events []persistence.StoredEvent) ([]int64, error) {
	return u.insert(ctx, c, l.table, l.key, l.application, events)
}

// OrderKeyOf is the key of the order lock of an application, once its Store has
// been used.
func OrderKeyOf(s *Store, application string) int64 {
	r := newProcessRecorder(s, application)
	at, err := r.logKey(context.Background(), connection{s.pool, s})
	if err != nil {
		panic(err)
	}
	return at.orderKey()
}

// ChannelOf is the channel on which the saves of a Store are notified.
func ChannelOf(s *Store) string {
	name, err := s.channel(context.Background())
	if err != nil {
		panic(err)
	}
	return name
}

// FaultsOf are the rows of the table of a Store's database.
func FaultsOf(s *Store) (rows []string) {
	if _, ok := s.dialect.(postgres); ok {
		return slices.Collect(maps.Keys(postgresFaults))
	}
	for code := range sqliteFaults {
		rows = append(rows, strconv.Itoa(code))
	}
	return rows
}

// ClassOf is the class that a Store gives to an error of its database.
func ClassOf(s *Store, err error) error { return s.infoOf(err).class }

// ReadAfterLoss takes a connection for a read, closes it below database/sql,
// and reads with another context.
func ReadAfterLoss(ctx, reading context.Context, s *Store) error {
	c, done, err := s.reader(ctx, "read")
	if err != nil {
		return err
	}
	defer done()
	lose := func(raw any) error { return raw.(driver.Conn).Close() }
	if err := c.pool.(*watchedPool).conn.Raw(lose); err != nil {
		return err
	}
	rows, err := c.query(reading, "SELECT 1")
	if err == nil {
		err = rows.Close()
	}
	return err
}

// IsExpected reports whether a Store keeps an error from GORM's logger.
func IsExpected(ctx context.Context, s *Store, err error) bool { return s.isExpected(ctx, err) }

// TakesRequests reports whether statements on a pool can be canceled by
// request, as those of pgx can.
func TakesRequests(pool *sql.DB) (takes bool, err error) {
	conn, err := pool.Conn(context.Background())
	if err != nil {
		return false, err
	}
	defer conn.Close() // an error of giving back a connection has no consequence
	err = conn.Raw(func(raw any) error {
		takes = poolStateOf(pool).takesRequests(raw)
		return nil
	})
	return takes, err
}
