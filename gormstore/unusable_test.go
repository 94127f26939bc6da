package gormstore_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// unknown is the dialector of a database that is not supported.
type unknown struct{ gorm.Dialector }

func (unknown) Name() string { return "oracle" }

// A handle that cannot be used is refused when an application is made with it,
// by name.
func TestUnusableHandles(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		db := migrated(t, open(t))
		tx := db.Begin()
		defer tx.Rollback()
		foreign := *db.Config
		foreign.Dialector = unknown{db.Dialector}
		for name, test := range map[string]struct {
			db   *gorm.DB
			want string
		}{
			"nil":             {nil, "nil"},
			"empty":           {&gorm.DB{}, "nil"},
			"dry run":         {db.Session(&gorm.Session{DryRun: true}), "dry run"},
			"transaction":     {tx, "transaction"},
			"error":           {func() *gorm.DB { d := db.Session(&gorm.Session{}); _ = d.AddError(errNoCredit); return d }(), errNoCredit.Error()},
			"unknown dialect": {&gorm.DB{Config: &foreign, Statement: db.Statement}, `"oracle"`},
		} {
			store := gormstore.New(test.db)
			_, errProcess := store.ProcessRecorder(schoolName)
			_, errSnapshot := store.SnapshotRecorder(schoolName)
			for what, err := range map[string]error{
				"ProcessRecorder":  errProcess,
				"SnapshotRecorder": errSnapshot,
				"AutoMigrate":      gormstore.AutoMigrate(test.db),
				"Validate":         gormstore.Validate(t.Context(), test.db),
				"Transaction":      gormstore.Transaction(t.Context(), test.db, func(context.Context, *gorm.DB) error { return nil }),
			} {
				if !errors.Is(err, persistence.ErrInterface) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%s, %s: %v, want an ErrInterface that says %s", name, what, err, test.want)
				}
			}
		}
	})
}

// A lock timeout that would mean waiting for ever is refused.
func TestUnusableLockTimeout(t *testing.T) {
	t.Parallel()
	db := testdb.SQLiteMemory(t)
	for _, timeout := range []time.Duration{0, -time.Second} {
		if _, err := gormstore.New(db, gormstore.WithLockTimeout(timeout)).ProcessRecorder(schoolName); !errors.Is(err, persistence.ErrInterface) {
			t.Errorf("%v: %v, want an ErrInterface", timeout, err)
		}
	}
}

// Names that some database cannot keep are refused by all.
func TestUnusableNames(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		for _, name := range []string{"", strings.Repeat("ü", 33), "a\x00b", "\xff", " School"} {
			if _, err := gormstore.New(db).ProcessRecorder(name); !errors.Is(err, persistence.ErrData) {
				t.Errorf("%q: %v, want an ErrData", name, err)
			}
		}
		recorder(t, db, strings.Repeat("ü", 32))
	})
}

// A database that cannot be written to can be read, and a write says what is
// wrong.
func TestReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T, db *gorm.DB) *gorm.DB{
		"sqlite-file": func(t *testing.T, db *gorm.DB) *gorm.DB {
			return testdb.Open(t, sqlite.Open(dsn(t, db)+"&mode=ro"))
		},
		"postgres": func(t *testing.T, db *gorm.DB) *gorm.DB {
			return testdb.Open(t, postgres.Open(withParameter(t, dsn(t, db), "default_transaction_read_only", "on")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			truth := migrated(t, map[string]func(testing.TB) *gorm.DB{"sqlite-file": testdb.SQLiteFile, "postgres": testdb.OpenPostgresSchema}[name](t))
			dog := uuid.New()
			insert(t, recorder(t, truth, schoolName), history(dog, 1, 1)...)
			db := open(t, truth)
			r, s := recorder(t, db, schoolName), snapshots(t, db, schoolName)
			wantVersions(t, r, dog, 1)
			for name, use := range methods(r, s, uuid.New()) {
				err := use(t.Context())
				if writes := strings.Contains(name, "Insert"); writes != errors.Is(err, persistence.ErrReadOnly) || !writes && err != nil {
					t.Errorf("%s: %v, want ErrReadOnly of inserts alone", name, err)
				}
			}
		})
	}
}

// A database in SQLite's older journal mode that cannot be written to can be
// read as well: it is not put into WAL mode.
func TestReadOnlyDatabaseWithoutWAL(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join("testdata", "python", "plain.sqlite3"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "plain.sqlite3")
	if err := os.WriteFile(path, content, 0o400); err != nil {
		t.Fatal(err)
	}
	db := testdb.Open(t, sqlite.Open("file:"+path+"?mode=ro"))
	if got := len(wholeLog(t, recorder(t, db, schoolName))); got == 0 {
		t.Error("nothing was read")
	}
	if _, err := recorder(t, db, schoolName).InsertEvents(t.Context(), history(uuid.New(), 1, 1)); !errors.Is(err, persistence.ErrReadOnly) {
		t.Errorf("InsertEvents: %v, want ErrReadOnly", err)
	}
}

// A file that is no database is reported as that.
func TestNotADatabase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "holiday.jpg")
	db := testdb.Open(t, sqlite.Open(path)) // which refuses a file that is there and is none
	if err := os.WriteFile(path, bytes.Repeat([]byte("this is no database. "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	uses := methods(recorder(t, db, schoolName), snapshots(t, db, schoolName), uuid.New())
	uses["AutoMigrate"] = func(context.Context) error { return gormstore.AutoMigrate(db) }
	for name, use := range uses {
		err := use(t.Context())
		if !errors.Is(err, persistence.ErrDatabase) || errors.Is(err, persistence.ErrOperational) || !strings.Contains(err.Error(), "or it is damaged") {
			t.Errorf("%s: %v, want ErrDatabase, not ErrOperational, that says it", name, err)
		}
	}
}
