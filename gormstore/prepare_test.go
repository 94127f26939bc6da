package gormstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/driver/sqlite"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// hangingConnector opens connections, unless hangs is set: then it says so and
// waits.
type hangingConnector struct {
	driver.Connector
	hangs   atomic.Bool
	hanging chan struct{}
	release chan struct{}
}

func (c *hangingConnector) Connect(ctx context.Context) (driver.Conn, error) {
	if c.hangs.Load() {
		c.hanging <- struct{}{}
		select {
		case <-c.release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return c.Connector.Connect(ctx)
}

// TestFirstUseEndsWithItsCallersDeadline has one caller prepare a database that
// does not answer, and another whose context ends meanwhile.
func TestFirstUseEndsWithItsCallersDeadline(t *testing.T) {
	truth := testdb.SQLiteFile(t)
	c := &hangingConnector{Connector: driverConnector(t, truth), hanging: make(chan struct{}, 2), release: make(chan struct{})}
	pool := sql.OpenDB(c)
	pool.SetMaxIdleConns(0)
	db := testdb.Open(t, sqlite.New(sqlite.Config{Conn: pool}))
	recorder, err := gormstore.New(db).ProcessRecorder("A")
	if err != nil {
		t.Fatal(err)
	}
	c.hangs.Store(true)
	first := make(chan error, 1)
	go func() {
		_, err := recorder.MaxNotificationID(context.Background())
		first <- err
	}()
	<-c.hanging
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	second := make(chan error, 1)
	go func() {
		_, err := recorder.MaxNotificationID(ctx)
		second <- err
	}()
	select {
	case err := <-second:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that the context has ended", err)
		}
	case <-time.After(patience):
		t.Error("a caller waits for another one's use of the database, although its context has ended")
	}
	c.hangs.Store(false)
	close(c.release)
	<-first // the tables are absent, which is its error
}
