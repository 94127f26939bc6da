package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/polling"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system/remotelog"
)

// unhurried keeps writers waiting on a machine that is busy with other tests:
// what these tests are about is what readers see.
var unhurried = gormstore.WithLockTimeout(5 * time.Minute)

func mustRecorder(s *gormstore.Store) persistence.ProcessRecorder {
	r, err := s.ProcessRecorder(schoolName)
	if err != nil {
		panic(err)
	}
	return r
}

// ways are all the ways to write of some writers.
func (c *concurrency) ways(writers ...writer) (ways []writing) {
	for _, w := range writers {
		ways = append(ways, mixed(w.db, w.r), c.held(w), c.held(w), c.undoneSavepoint(w), c.rolledBack(w), c.prepared(w, "COMMIT"), c.prepared(w, "ROLLBACK"))
	}
	return ways
}

func (c *concurrency) held(w writer) writing {
	return func(ctx context.Context, events []persistence.StoredEvent) error {
		return gormstore.Transaction(ctx, w.db, func(ctx context.Context, _ *gorm.DB) error {
			for _, event := range events { // several saves have one lock
				if _, err := w.r.InsertEvents(ctx, []persistence.StoredEvent{event}); err != nil {
					return err
				}
			}
			holdLong(ctx)
			return nil
		})
	}
}

func (c *concurrency) rolledBack(w writer) writing {
	return func(ctx context.Context, events []persistence.StoredEvent) error {
		return gormstore.Transaction(ctx, w.db, func(ctx context.Context, _ *gorm.DB) error {
			_, err := w.r.InsertEvents(ctx, events)
			holdLong(ctx)
			return errors.Join(err, errUndone)
		})
	}
}

// undoneSavepoint saves again after a savepoint in which the transaction took
// the lock was rolled back.
func (c *concurrency) undoneSavepoint(w writer) writing {
	return func(ctx context.Context, events []persistence.StoredEvent) error {
		return gormstore.Transaction(ctx, w.db, func(ctx context.Context, _ *gorm.DB) error {
			err := gormstore.Transaction(ctx, w.db, func(ctx context.Context, _ *gorm.DB) error {
				_, err := w.r.InsertEvents(ctx, history(uuid.New(), 1, 1))
				return errors.Join(err, errUndone)
			})
			if !errors.Is(err, errUndone) {
				return fmt.Errorf("savepoint that is undone: %w", err)
			}
			time.Sleep(rand.N(2 * time.Millisecond)) // nothing is held yet
			_, err = w.r.InsertEvents(ctx, events)
			holdLong(ctx)
			return err
		})
	}
}

// prepared ends a transaction that is kept by the server alone for a while.
func (c *concurrency) prepared(w writer, end string) writing {
	return func(ctx context.Context, events []persistence.StoredEvent) error {
		name := uuid.NewString()
		tx := w.db.WithContext(ctx).Begin()
		defer tx.Rollback() // ends nothing once it is prepared
		if _, err := w.r.InsertEvents(gormstore.WithTx(ctx, tx), events); err != nil {
			return err
		}
		if err := tx.Exec("PREPARE TRANSACTION '" + name + "'").Error; err != nil {
			return err
		}
		holdLong(ctx)
		err := w.db.WithContext(ctx).Exec(end + " PREPARED '" + name + "'").Error
		if end == "ROLLBACK" && err == nil {
			return errUndone
		}
		return err
	}
}

// tableLock writes as the Python library does.
func (c *concurrency) tableLock(ctx context.Context, events []persistence.StoredEvent) error {
	return c.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Exec("LOCK TABLE stored_events IN EXCLUSIVE MODE").Error; err != nil {
			return err
		}
		for _, e := range events {
			row := gormstore.StoredEvent{ApplicationName: schoolName, OriginatorID: gormstore.UUID(e.OriginatorID),
				OriginatorVersion: e.OriginatorVersion, Topic: e.Topic, State: e.State}
			if err := tx.Create(&row).Error; err != nil {
				return err
			}
		}
		hold(ctx)
		return nil
	})
}

// pages reads the log after the last id it has seen.
func (c *concurrency) pages(ctx context.Context, done <-chan struct{}, r *reader) error {
	return c.after(ctx, done, r, c.writer().r.SelectNotifications)
}

// otherProcess does the same on a second pool, which shares no memory with the
// writers.
func (c *concurrency) otherProcess(ctx context.Context, done <-chan struct{}, r *reader) error {
	db, err := gorm.Open(dialector("postgres", c.dsn), &gorm.Config{Logger: testdb.Quiet})
	if err != nil {
		return err
	}
	pool, err := db.DB()
	if err != nil {
		return err
	}
	defer pool.Close()
	return c.after(ctx, done, r, writer{db, mustRecorder(gormstore.New(db))}.r.SelectNotifications)
}

// remoteLog reads as another service does.
func (c *concurrency) remoteLog(ctx context.Context, done <-chan struct{}, r *reader) error {
	app, err := application.New(schoolName, application.WithStore(gormstore.New(c.db)),
		application.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	server := httptest.NewServer(remotelog.NewHandler(app, remotelog.HandlerConfig{}))
	defer server.Close()
	client, err := remotelog.NewClient(schoolName, server.URL, remotelog.ClientConfig{
		Application: []application.Option{application.WithDefinitions(school.Dogs)}, HTTPClient: server.Client()})
	if err != nil {
		return err
	}
	return c.after(ctx, done, r, client.Notifications)
}

// byID reads as a program does that knows nothing of this package.
func (c *concurrency) byID(ctx context.Context, done <-chan struct{}, r *reader) error {
	return c.after(ctx, done, r, c.rows("SELECT id FROM stored_events WHERE application_name = ? AND id > ? ORDER BY id LIMIT 100"))
}

// wholeTable reads the events of all applications by their ids.
func (c *concurrency) wholeTable(ctx context.Context, done <-chan struct{}, r *reader) error {
	return c.after(ctx, done, r, c.rows("SELECT id FROM stored_events WHERE ? <> '' AND id > ? ORDER BY id LIMIT 100"))
}

// oneStatement has the bound and the rows in one statement, whose snapshot is
// older than its look at the locks. Between the two it can be stopped.
func (c *concurrency) oneStatement(ctx context.Context, done <-chan struct{}, r *reader) error {
	return c.after(ctx, done, r, c.rows(`WITH rows AS MATERIALIZED (
			SELECT id FROM stored_events WHERE application_name = ? AND id > ? ORDER BY id LIMIT 100),
		h AS MATERIALIZED (SELECT COALESCE(max(id), 0) AS head FROM rows),
		s AS MATERIALIZED (SELECT h.head, pg_advisory_xact_lock_shared(`+strconv.Itoa(readerLock)+`)::text FROM h),
		b AS MATERIALIZED (SELECT LEAST(s.head, (SELECT min(objid::bigint) FROM pg_locks
			WHERE locktype = 'advisory' AND objsubid = 2 AND mode = 'ShareLock'
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))) AS bound FROM s)
		SELECT id FROM rows, b WHERE id <= b.bound ORDER BY id`))
}

func (c *concurrency) rows(query string) func(context.Context, persistence.NotificationRange) ([]persistence.Notification, error) {
	return func(ctx context.Context, wanted persistence.NotificationRange) (page []persistence.Notification, err error) {
		var ids []int64
		err = c.db.WithContext(ctx).Raw(query, schoolName, wanted.After).Scan(&ids).Error
		for _, id := range ids {
			page = append(page, persistence.Notification{ID: id})
		}
		return page, err
	}
}

// after reads page after page.
func (c *concurrency) after(ctx context.Context, done <-chan struct{}, r *reader,
	read func(context.Context, persistence.NotificationRange) ([]persistence.Notification, error)) error {
	for last, finished := int64(0), false; ; {
		page, err := read(ctx, persistence.NotificationRange{After: last, Limit: 100})
		if c.outlives(err) {
			continue
		}
		if err != nil {
			return err
		}
		for _, n := range page {
			r.see(n.ID)
			last = n.ID
		}
		r.readings.Add(1)
		if len(page) > 0 {
			continue
		}
		if finished {
			return nil
		}
		select {
		case <-done:
			finished = true // what was committed before is read by one more page
		case <-time.After(rand.N(2 * time.Millisecond)): // readers poll
		}
	}
}

// topics reads what followers of some topics read: the head, and the events of
// these topics up to it.
func (c *concurrency) topics(ctx context.Context, done <-chan struct{}, r *reader) error {
	log := c.writer().r
	for last, finished := int64(0), false; ; {
		head, err := log.MaxNotificationID(ctx)
		var page []persistence.Notification
		if err == nil && head > 0 { // a Stop of 0 would be no end
			wanted := persistence.NotificationRange{After: last, Stop: head, Limit: 100, Topics: []string{"Dog.TrickAdded"}}
			page, err = log.SelectNotifications(ctx, wanted)
		}
		if c.outlives(err) {
			continue
		}
		if err != nil {
			return err
		}
		for _, n := range page {
			r.see(n.ID)
		}
		r.readings.Add(1)
		switch {
		case len(page) == 100:
			last = page[99].ID
			continue
		case head > last:
			last = head
			continue
		case finished:
			return nil
		}
		select {
		case <-done:
			finished = true
		case <-time.After(rand.N(2 * time.Millisecond)):
		}
	}
}

// subscription reads as long as there are events to come.
func (c *concurrency) subscription(ctx context.Context, done <-chan struct{}, r *reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var seen atomic.Int64
	go func() {
		<-done
		for seen.Load() < c.written.Load() && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	patience := time.AfterFunc(20*time.Minute, cancel)
	defer patience.Stop()
	for last := int64(0); ctx.Err() == nil; {
		for n, err := range polling.Subscribe(ctx, countedLog{c.writer().r, &r.readings}, nil, last) {
			if c.outlives(err) {
				break
			}
			if err != nil {
				return err
			}
			r.see(n.ID)
			last = n.ID
			seen.Add(1)
		}
	}
	return nil
}

// outlives reports whether a reader goes on after an error, which it does after
// a pause.
func (c *concurrency) outlives(err error) bool {
	if err == nil || !c.outages || errors.Is(err, persistence.ErrPersistence) && !errors.Is(err, persistence.ErrOperational) {
		return false
	}
	time.Sleep(5 * time.Millisecond) // nothing signals that the server is back
	return true
}
