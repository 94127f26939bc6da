package gormstore

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A program that does not take the lock of a position may move it after it was
// read. The write finds that out.
func TestPositionMovedWithoutItsLock(t *testing.T) {
	t.Parallel()
	const insert = "INSERT INTO notification_tracking (application_name, upstream_application_name, notification_id) " +
		"VALUES ('Watcher', 'School', ?)"
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		for name, foreign := range map[string]struct {
			rows      []int64
			statement string
			id        int64
			written   bool
		}{
			"the first row":         {statement: insert, id: 1},
			"a higher row":          {rows: []int64{1, 3}, statement: insert, id: 4},
			"a row above the batch": {rows: []int64{3}, statement: insert, id: 40},
			"an update":             {rows: []int64{3}, statement: "UPDATE notification_tracking SET notification_id = ?", id: 5},
			"a deletion":            {rows: []int64{3}, statement: "DELETE FROM notification_tracking WHERE notification_id = ?", id: 3},
			"a lower row":           {rows: []int64{3}, statement: insert, id: 2, written: true},
			"of another follower": {rows: []int64{3}, statement: "INSERT INTO notification_tracking " +
				"(application_name, upstream_application_name, notification_id) VALUES ('Other', 'School', ?)", id: 9, written: true},
		} {
			t.Run(name, func(t *testing.T) {
				db := open(t)
				if err := AutoMigrate(db); err != nil {
					t.Fatal(err)
				}
				s := New(db)
				r := newProcessRecorder(s, "Watcher")
				for _, id := range foreign.rows {
					if err := db.Exec(insert, id).Error; err != nil {
						t.Fatal(err)
					}
				}
				c := connection{s.pool, s}
				current, err := r.position(t.Context(), c, "School")
				if err != nil {
					t.Fatal(err)
				}
				if err := db.Exec(foreign.statement, foreign.id).Error; err != nil {
					t.Fatal(err)
				}
				to := persistence.Tracking{ApplicationName: "School", NotificationID: 7}
				written, err := r.writePosition(t.Context(), c, current, to)
				if err != nil || written != foreign.written {
					t.Errorf("the write returned %v, %v; want %v", written, err, foreign.written)
				}
			})
		}
	})
}

// The row that another program inserts may be the very one that is written.
func TestPositionAlreadyInserted(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		db := open(t)
		if err := AutoMigrate(db); err != nil {
			t.Fatal(err)
		}
		s := New(db)
		r := newProcessRecorder(s, "Watcher")
		to := persistence.Tracking{ApplicationName: "School", NotificationID: 7}
		if err := r.InsertTracking(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		_, err := r.writePosition(t.Context(), connection{s.pool, s}, sql.NullInt64{}, to)
		if err != nil {
			t.Errorf("a first row where one exists: %v", err)
		}
		err = r.MovePosition(t.Context(), 3, persistence.Tracking{ApplicationName: "School", NotificationID: 9})
		if !errors.Is(err, persistence.ErrPositionMoved) || !strings.Contains(err.Error(), "moved it to 7") {
			t.Errorf("got %v, want ErrPositionMoved with the position 7", err)
		}
	})
}
