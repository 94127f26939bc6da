package gormstore_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A save does not pass over what other transactions have not committed, such as
// an import that is going on: it would take the longer the more that is.
func TestSaveBesideManyUncommittedEvents(t *testing.T) {
	t.Parallel()
	const uncommitted = 2_000
	db := created(t, testdb.OpenPostgresSchema(t))
	recorder, err := gormstore.New(db).ProcessRecorder("School")
	if err != nil {
		t.Fatal(err)
	}

	imports := db.Begin()
	defer imports.Rollback()
	fill := "INSERT INTO stored_events (application_name, originator_id, originator_version, topic, state) " +
		"SELECT 'Import', md5(n::text)::uuid, 1, 'topic', '\\x00' FROM generate_series(1, ?) AS n"
	if err := imports.Exec(fill, uncommitted).Error; err != nil {
		t.Fatal(err)
	}

	read := func(tx *gorm.DB) (entries int64) { // entries of indexes, by this session
		t.Helper()
		const query = "SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid)) FROM pg_index WHERE indrelid = 'stored_events'::regclass"
		if err := tx.Raw(query).Scan(&entries).Error; err != nil {
			t.Fatal(err)
		}
		return entries
	}
	err = gormstore.Transaction(t.Context(), db, func(ctx context.Context, tx *gorm.DB) error {
		before := read(tx)
		event := persistence.StoredEvent{OriginatorID: uuid.New(), OriginatorVersion: 1, Topic: "topic", State: []byte{0}}
		if _, err := recorder.InsertEvents(ctx, []persistence.StoredEvent{event}); err != nil {
			return err
		}
		if got := read(tx) - before; got >= uncommitted {
			t.Errorf("the save read %d entries of indexes, want fewer than the %d that are not committed", got, uncommitted)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
