package gormstore

import (
	"database/sql"
	"path/filepath"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/google/uuid"
	sqlitedriver "gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// What is known of a pool must not keep it alive: programs open databases and
// close them again.
func TestHandleDoesNotKeepThePoolAlive(t *testing.T) {
	key := useAndClose(t)
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		poolStates.Lock()
		_, kept := poolStates.byPool[key]
		poolStates.Unlock()
		if !kept {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the handle of a closed pool is kept")
		}
	}
}

//go:noinline
func useAndClose(t *testing.T) weak.Pointer[sql.DB] {
	t.Helper()
	db, err := OpenSQLite(sqlitedriver.Open, filepath.Join(t.TempDir(), "test.db"), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if err := AutoMigrate(db); err != nil {
		t.Fatal(err)
	}
	r, err := New(db).ProcessRecorder("TrainingSchool")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first one of a pool may take another way than the next
		event := persistence.StoredEvent{OriginatorID: uuid.New(), OriginatorVersion: 1, Topic: "Dog.Registered", State: []byte("{}")}
		if _, err := r.InsertEvents(t.Context(), []persistence.StoredEvent{event}); err != nil {
			t.Fatal(err)
		}
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	if err := pool.Close(); err != nil {
		t.Fatal(err)
	}
	return weak.Make(pool)
}
