package testdb

import (
	"context"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

func TestSQLiteFileSettings(t *testing.T) {
	t.Parallel()
	db := SQLiteFile(t)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "busy_timeout": "10000"} {
		var got string
		if err := db.Raw("PRAGMA " + pragma).Scan(&got).Error; err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", pragma, got, err, want)
		}
	}
}

func TestSQLiteFileCanBeOpenedAgain(t *testing.T) {
	t.Parallel()
	dsn := SQLiteFileDSN(t)
	createTable(t, Open(t, sqlite.Open(dsn)))
	if !hasTable(Open(t, sqlite.Open(dsn))) {
		t.Error("a second handle does not see the table of the first")
	}
}

func TestSQLiteDSNOfAwkwardPath(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/50% of what? #1.db"
	createTable(t, Open(t, sqlite.Open(SQLiteDSN(path))))
	if !hasTable(Open(t, sqlite.Open(SQLiteDSN(path)))) {
		t.Error("the second handle opened another file")
	}
}

// A cancelled transaction costs the pool its connection. The database must
// survive that.
func TestSQLiteMemorySurvivesCancelledTransaction(t *testing.T) {
	t.Parallel()
	db := SQLiteMemory(t)
	createTable(t, db)

	ctx, cancel := context.WithCancel(t.Context())
	tx := db.WithContext(ctx).Begin()
	if tx.Error != nil {
		t.Fatal(tx.Error)
	}
	cancel()
	if err := tx.Commit().Error; err == nil {
		t.Error("the cancelled transaction was committed")
	}

	if !hasTable(db) {
		t.Error("the table is gone")
	}
}

// createTable creates the table that hasTable looks for.
func createTable(t *testing.T, db *gorm.DB) {
	t.Helper()
	if err := db.Exec("CREATE TABLE marker (id BIGINT PRIMARY KEY)").Error; err != nil {
		t.Fatal(err)
	}
}

func hasTable(db *gorm.DB) bool {
	return db.Exec("SELECT id FROM marker").Error == nil
}
