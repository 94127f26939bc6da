package gormstore_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// lastStatement keeps the last statement that GORM's logger is shown.
type lastStatement struct {
	logger.Interface
	text string
}

func (l *lastStatement) Trace(_ context.Context, _ time.Time, statement func() (sql string, rows int64), _ error) {
	l.text, _ = statement()
}

// The head of an application's log is found without reading what others have
// recorded since, also if the table was not vacuumed after that.
func TestHeadOfQuietApplication(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgresSchema(t))
	fill := "INSERT INTO stored_events (application_name, originator_id, originator_version, topic, state) " +
		"SELECT ?, md5(n::text)::uuid, 1, 'topic', '\\x00' FROM generate_series(1, ?) AS n"
	for _, err := range []error{
		db.Exec(fill, "Quiet", 5_000).Error, db.Exec(fill, "Loud", 10_000).Error, db.Exec("ANALYZE stored_events").Error,
	} {
		if err != nil {
			t.Fatal(err)
		}
	}

	seen := &lastStatement{Interface: logger.Discard}
	recorder, err := gormstore.New(db.Session(&gorm.Session{Logger: seen})).ProcessRecorder("Quiet")
	if err != nil {
		t.Fatal(err)
	}
	if head, err := recorder.MaxNotificationID(t.Context()); err != nil || head != 5_000 {
		t.Errorf("got %d, %v, want no error and 5_000", head, err)
	}

	var plan []string
	query := strings.NewReplacer("$1", "'Quiet'", "$2", "1", "$3", "'stored_events'::regclass::oid").Replace(seen.text)
	if err := db.Raw("EXPLAIN " + query).Scan(&plan).Error; err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(plan, "\n"); !strings.Contains(got, "idx_stored_events_position") {
		t.Errorf("%s\nis planned as\n%s\nwant idx_stored_events_position to be used", seen.text, got)
	}
}
