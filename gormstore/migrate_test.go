package gormstore_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Any number of processes may create the tables at once, as services do that
// start together.
func TestMigrateByManyProcesses(t *testing.T) {
	const processes = 20
	t.Parallel()
	for name, open := range map[string]func(testing.TB) string{"sqlite": testdb.SQLiteFileDSN, "postgres": testdb.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := open(t)
			var running [processes]*exec.Cmd
			var stderr [processes]bytes.Buffer
			for i := range running {
				running[i] = startChild(t, "migrate", name, address, &stderr[i])
			}
			for i, cmd := range running {
				if err := cmd.Wait(); err != nil {
					t.Errorf("process %d: %v: %s", i, err, &stderr[i])
				}
			}
			db := testdb.Open(t, dialector(name, address))
			if err := gormstore.Validate(t.Context(), db); err != nil {
				t.Errorf("Validate: %v", err)
			}
			insert(t, recorder(t, db, schoolName), history(uuid.New(), 1, 2)...)
		})
	}
}

// statements is a logger of GORM's that keeps the statements.
type statements struct {
	logger.Interface
	mu  sync.Mutex // protects all
	all []string
}

func (s *statements) LogMode(logger.LogLevel) logger.Interface { return s }

func (s *statements) Trace(_ context.Context, _ time.Time, fc func() (string, int64), _ error) {
	statement, _ := fc()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, statement)
}

// changing recognises statements that change tables.
var changing = regexp.MustCompile(`(?i)^\s*(CREATE|ALTER|DROP|INSERT|UPDATE|DELETE|TRUNCATE)`)

// Tables that exist are left alone: the second run sends no statement that
// changes anything.
func TestMigrateAgain(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		insert(t, recorder(t, db, schoolName), history(uuid.New(), 1, 2)...)
		schema, content := schemaDump(t, db), contentDump(t, db)
		log := &statements{Interface: logger.Discard}
		if err := gormstore.AutoMigrate(db.Session(&gorm.Session{Logger: log})); err != nil {
			t.Fatalf("AutoMigrate: %v", err)
		}
		if len(log.all) == 0 {
			t.Error("no statement was seen: the test proves nothing")
		}
		for _, statement := range log.all {
			if changing.MatchString(statement) {
				t.Errorf("the second run sent %q", statement)
			}
		}
		wantSame(t, "the schema", schema, schemaDump(t, db))
		wantSame(t, "the content", content, contentDump(t, db))
	})
}

// Whatever a table lacks is reported, by AutoMigrate and by Validate, and not
// mended.
func TestMigrateReportsDifferences(t *testing.T) {
	dropKey := func(t *testing.T, db *gorm.DB) {
		indexes, err := db.Migrator().GetIndexes(&gormstore.StoredEvent{})
		if err != nil {
			t.Fatal(err)
		}
		for _, index := range indexes {
			if slices.Contains(index.Columns(), "originator_version") {
				run(t, db, "DROP INDEX "+index.Name())
			}
		}
	}
	for name, test := range map[string]struct {
		backends []string // none means all
		damage   func(t *testing.T, db *gorm.DB)
		want     []string // what AutoMigrate and Validate say
	}{
		"no unique key": {
			damage: dropKey,
			want:   []string{"table stored_events has no unique key over application_name, originator_id, originator_version"},
		},
		"a unique key over part of the rows": {
			damage: func(t *testing.T, db *gorm.DB) {
				dropKey(t, db)
				run(t, db, "CREATE UNIQUE INDEX partial ON stored_events (application_name, originator_id, originator_version) WHERE id > 5")
			},
			want: []string{"table stored_events has no unique key over application_name, originator_id, originator_version"},
		},
		"a key that is not unique": {
			damage: func(t *testing.T, db *gorm.DB) {
				dropKey(t, db)
				run(t, db, "CREATE INDEX plain ON stored_events (application_name, originator_id, originator_version)")
			},
			want: []string{"table stored_events has no unique key over application_name, originator_id, originator_version"},
		},
		"no column": {
			damage: func(t *testing.T, db *gorm.DB) { run(t, db, "ALTER TABLE snapshots DROP COLUMN topic") },
			want:   []string{"table snapshots has no column topic"},
		},
		"several": {
			damage: func(t *testing.T, db *gorm.DB) {
				dropKey(t, db)
				run(t, db, "ALTER TABLE stored_events DROP COLUMN state")
				run(t, db, "ALTER TABLE snapshots DROP COLUMN state")
			},
			want: []string{
				"table stored_events has no column state",
				"table stored_events has no unique key over application_name, originator_id, originator_version",
				"table snapshots has no column state",
			},
		},
		"a column of type uuid, which is numeric on SQLite": {
			backends: []string{"sqlite-memory", "sqlite-file"},
			damage: func(t *testing.T, db *gorm.DB) {
				run(t, db, "DROP TABLE stored_events")
				run(t, db, `CREATE TABLE stored_events (id integer PRIMARY KEY AUTOINCREMENT, application_name varchar(32) NOT NULL,
					originator_id uuid NOT NULL, originator_version bigint NOT NULL, topic text NOT NULL, state blob NOT NULL,
					UNIQUE (application_name, originator_id, originator_version))`)
			},
			want: []string{"column stored_events.originator_id has type uuid, which cannot keep every UUID"},
		},
		"a column of characters on PostgreSQL": {
			backends: []string{"postgres"},
			damage: func(t *testing.T, db *gorm.DB) {
				run(t, db, "ALTER TABLE snapshots ALTER COLUMN originator_id TYPE text")
			},
			want: []string{"column snapshots.originator_id has type text, which cannot keep every UUID"},
		},
		"a sequence with a cache": {
			backends: []string{"postgres"},
			damage:   func(t *testing.T, db *gorm.DB) { run(t, db, `ALTER SEQUENCE public.stored_events_id_seq CACHE 50`) },
			want:     []string{`table stored_events: sequence public.stored_events_id_seq has CACHE 50, so that ids of two connections are out of order and followers pass over events: ALTER SEQUENCE public.stored_events_id_seq CACHE 1`},
		},
		"a sequence that cycles": {
			backends: []string{"postgres"},
			damage:   func(t *testing.T, db *gorm.DB) { run(t, db, `ALTER SEQUENCE public.stored_events_id_seq CYCLE`) },
			want:     []string{`table stored_events: sequence public.stored_events_id_seq has CYCLE, so that it hands out old ids at its end: ALTER SEQUENCE public.stored_events_id_seq NO CYCLE`},
		},
		"a sequence that descends": {
			backends: []string{"postgres"},
			damage:   func(t *testing.T, db *gorm.DB) { run(t, db, `ALTER SEQUENCE public.stored_events_id_seq INCREMENT -1`) },
			want:     []string{`table stored_events: sequence public.stored_events_id_seq has INCREMENT -1, so that ids descend: ALTER SEQUENCE public.stored_events_id_seq INCREMENT 1`},
		},
		"a sequence of integers": {
			backends: []string{"postgres"},
			damage:   func(t *testing.T, db *gorm.DB) { run(t, db, `ALTER SEQUENCE public.stored_events_id_seq AS integer`) },
			want:     []string{`column stored_events.id is a bigint, and its sequence public.stored_events_id_seq ends as a integer: ALTER SEQUENCE public.stored_events_id_seq AS bigint`},
		},
		"a sequence below the log": {
			backends: []string{"postgres"},
			damage: func(t *testing.T, db *gorm.DB) {
				run(t, db, `INSERT INTO stored_events (id, application_name, originator_id, originator_version, topic, state) VALUES (101, 'a', '00000000-0000-0000-0000-000000000001', 1, 't', '')`)
				run(t, db, `SELECT setval('public.stored_events_id_seq', 50)`)
			},
			want: []string{`table stored_events: sequence public.stored_events_id_seq is at 50, and the highest id is 101, so that new ids are among the old ones: SELECT setval('public.stored_events_id_seq', 101)`},
		},
		"a sequence that would repeat the highest id": {
			backends: []string{"postgres"},
			damage: func(t *testing.T, db *gorm.DB) {
				run(t, db, `INSERT INTO stored_events (id, application_name, originator_id, originator_version, topic, state) VALUES (101, 'a', '00000000-0000-0000-0000-000000000001', 1, 't', '')`)
				run(t, db, `SELECT setval('public.stored_events_id_seq', 101, false)`)
			},
			want: []string{`table stored_events: sequence public.stored_events_id_seq is at 101, and the highest id is 101, so that new ids are among the old ones: SELECT setval('public.stored_events_id_seq', 101)`},
		},
		"an integer key near its end": {
			backends: []string{"postgres"},
			damage: func(t *testing.T, db *gorm.DB) {
				run(t, db, `ALTER TABLE stored_events ALTER COLUMN id TYPE integer`)
				run(t, db, `ALTER SEQUENCE public.stored_events_id_seq AS integer`)
				run(t, db, `SELECT setval('public.stored_events_id_seq', 2100000000)`)
			},
			want: []string{`column stored_events.id has used 2100000000 of 2147483647 ids; make the column and its sequence public.stored_events_id_seq a bigint, with a higher MAXVALUE, before they run out`},
		},
		"an integer key whose sequence is a bigint": {
			backends: []string{"postgres"},
			damage: func(t *testing.T, db *gorm.DB) {
				run(t, db, `ALTER TABLE stored_events ALTER COLUMN id TYPE integer`)
				run(t, db, `SELECT setval('public.stored_events_id_seq', 2100000000)`)
			},
			want: []string{`column stored_events.id has used 2100000000 of 2147483647 ids; make the column and its sequence public.stored_events_id_seq a bigint, with a higher MAXVALUE, before they run out`},
		},
		"an id without a default": {
			backends: []string{"postgres"},
			damage:   func(t *testing.T, db *gorm.DB) { run(t, db, `ALTER TABLE stored_events ALTER COLUMN id DROP DEFAULT`) },
			want:     []string{`column stored_events.id has neither a sequence nor an identity, so no row gets an id`},
		},
		"types and lengths": {
			backends: []string{"postgres"},
			damage: func(t *testing.T, db *gorm.DB) {
				run(t, db, `ALTER TABLE stored_events ALTER COLUMN application_name TYPE varchar(8), ALTER COLUMN topic TYPE varchar(20), ALTER COLUMN originator_version TYPE integer, ALTER COLUMN state DROP NOT NULL`)
				run(t, db, `ALTER TABLE stored_events ALTER COLUMN state TYPE text USING encode(state, 'hex')`)
			},
			want: []string{`column stored_events.application_name has type character varying(8), which is too short`, `column stored_events.originator_version has type integer, and needs bigint`, `column stored_events.topic has type character varying(20), which is too short`, `column stored_events.state has type text, and needs bytea`, `column stored_events.state allows NULL`},
		},
		"a column more that an insert does not name": {
			backends: []string{"postgres"},
			damage:   func(t *testing.T, db *gorm.DB) { run(t, db, `ALTER TABLE snapshots ADD COLUMN tenant text NOT NULL`) },
			want:     []string{`table snapshots has the column tenant, which is NOT NULL and has no default, so no row can be added`},
		},
		"a column more of SQLite": {
			backends: []string{"sqlite-memory", "sqlite-file"},
			damage: func(t *testing.T, db *gorm.DB) {
				run(t, db, `DROP TABLE stored_events`)
				run(t, db, `CREATE TABLE stored_events (id integer PRIMARY KEY AUTOINCREMENT, application_name varchar(32) NOT NULL, originator_id char(32) NOT NULL, originator_version bigint NOT NULL, topic text NOT NULL, state blob NOT NULL, tenant text NOT NULL, UNIQUE (application_name, originator_id, originator_version))`)
			},
			want: []string{`table stored_events has the column tenant, which is NOT NULL and has no default, so no row can be added`},
		},
		"no AUTOINCREMENT": {
			backends: []string{"sqlite-memory", "sqlite-file"},
			damage: func(t *testing.T, db *gorm.DB) {
				run(t, db, `DROP TABLE stored_events`)
				run(t, db, `CREATE TABLE stored_events (id integer PRIMARY KEY, application_name varchar(32) NOT NULL, originator_id char(32) NOT NULL, originator_version bigint NOT NULL, topic text NOT NULL, state blob NOT NULL, UNIQUE (application_name, originator_id, originator_version))`)
			},
			want: []string{`table stored_events has no AUTOINCREMENT, so that the id of a deleted event is given to another one, which followers pass over`},
		},
		"AUTOINCREMENT in a comment": {
			backends: []string{"sqlite-memory", "sqlite-file"},
			damage: func(t *testing.T, db *gorm.DB) {
				run(t, db, `DROP TABLE stored_events`)
				run(t, db, `CREATE TABLE stored_events (id integer PRIMARY KEY /* AUTOINCREMENT */, application_name varchar(32) NOT NULL, originator_id char(32) NOT NULL, originator_version bigint NOT NULL, topic text NOT NULL, state blob NOT NULL, UNIQUE (application_name, originator_id, originator_version))`)
			},
			want: []string{`table stored_events has no AUTOINCREMENT, so that the id of a deleted event is given to another one, which followers pass over`},
		},
		"types of SQLite": {
			backends: []string{"sqlite-memory", "sqlite-file"},
			damage: func(t *testing.T, db *gorm.DB) {
				run(t, db, `DROP TABLE stored_events`)
				run(t, db, `CREATE TABLE stored_events (id integer PRIMARY KEY AUTOINCREMENT, application_name varchar(32) NOT NULL, originator_id char(32) NOT NULL, originator_version text NOT NULL, topic text, state numeric NOT NULL, UNIQUE (application_name, originator_id, originator_version))`)
			},
			want: []string{`column stored_events.originator_version has type text, which does not keep whole numbers`, `column stored_events.topic allows NULL`, `column stored_events.state has type numeric, which turns texts into numbers`},
		},
		"a number below the log of SQLite": {
			backends: []string{"sqlite-memory", "sqlite-file"},
			damage: func(t *testing.T, db *gorm.DB) {
				run(t, db, `INSERT INTO stored_events (id, application_name, originator_id, originator_version, topic, state) VALUES (101, 'a', '0', 1, 't', x'')`)
				run(t, db, `UPDATE sqlite_sequence SET seq = 50 WHERE name = 'stored_events'`)
			},
			want: []string{`table stored_events: sqlite_sequence is at 50, and the highest id is 101: UPDATE sqlite_sequence SET seq = 101 WHERE name = 'stored_events'`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
				if test.backends != nil && !slices.ContainsFunc(test.backends, func(b string) bool { return strings.HasSuffix(t.Name(), "/"+b) }) {
					return
				}
				db := migrated(t, open(t))
				test.damage(t, db)
				before := schemaDump(t, db)
				wantDifferences(t, "AutoMigrate", gormstore.AutoMigrate(db), test.want)
				wantDifferences(t, "Validate", gormstore.Validate(t.Context(), db), test.want)
				wantSame(t, "the schema", before, schemaDump(t, db))
			})
		})
	}
}

func wantDifferences(t *testing.T, what string, err error, want []string) {
	t.Helper()
	different, ok := errors.AsType[*gormstore.SchemaError](err)
	if !ok || !slices.Equal(different.Differences, want) || !errors.Is(err, persistence.ErrOperational) {
		t.Errorf("%s: %v, want a *SchemaError with %q", what, err, want)
	}
}

func run(t testing.TB, db *gorm.DB, statement string) {
	t.Helper()
	if err := db.Exec(statement).Error; err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// A table that was made by hand is as good as one that was made here, however
// its key was written down.
func TestMigrateAcceptsTablesMadeByHand(t *testing.T) {
	t.Parallel()
	columns := map[string]string{
		"sqlite":   "integer PRIMARY KEY AUTOINCREMENT, application_name varchar(32) NOT NULL, originator_id TEXT NOT NULL, originator_version bigint NOT NULL, topic text NOT NULL, state blob NOT NULL",
		"postgres": "bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, application_name varchar(32) NOT NULL, originator_id uuid NOT NULL, originator_version bigint NOT NULL, topic text NOT NULL, state bytea NOT NULL",
	}
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		db := open(t)
		run(t, db, "CREATE TABLE stored_events (id "+columns[db.Name()]+", UNIQUE (originator_id, application_name, originator_version))")
		run(t, db, "CREATE TABLE snapshots (uid "+columns[db.Name()]+")")
		run(t, db, "CREATE UNIQUE INDEX key_of_snapshots ON snapshots (originator_version, application_name, originator_id)")
		before := schemaDump(t, db)
		migrated(t, db)
		if after := schemaDump(t, db); !strings.Contains(after, "notification_tracking") || strings.Contains(before, "notification_tracking") {
			t.Errorf("the missing table was not created: %s", after)
		}
		if err := gormstore.Validate(t.Context(), db); err != nil {
			t.Errorf("Validate: %v", err)
		}
		r := recorder(t, db, schoolName)
		dog := uuid.New()
		insert(t, r, history(dog, 1, 2)...)
		if _, err := r.InsertEvents(t.Context(), history(dog, 2, 1)); !persistence.IsConflict(err) {
			t.Errorf("InsertEvents of a stored version: %v, want a conflict", err)
		}
	})
}

// Validate names every table that is missing.
func TestValidateEmptyDatabase(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		wantDifferences(t, "Validate", gormstore.Validate(t.Context(), open(t)), []string{
			"table stored_events is missing", "table snapshots is missing", "table notification_tracking is missing",
		})
	})
}

// A table prefix of GORM's naming strategy applies, and on PostgreSQL a schema
// in it: applications with different prefixes have nothing to do with each
// other.
func TestMigrateTablePrefix(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, prefix, table string
		open                func(testing.TB) string
	}{
		{"sqlite", "es_", "es_stored_events", testdb.SQLiteFileDSN},
		{"postgres", "es_", "es_stored_events", testdb.Postgres},
		{"postgres", "es.", "es.stored_events", testdb.Postgres},
	} {
		t.Run(test.name+" "+test.prefix, func(t *testing.T) {
			t.Parallel()
			address := test.open(t)
			plain := migrated(t, testdb.Open(t, dialector(test.name, address)))
			if strings.HasSuffix(test.prefix, ".") {
				run(t, plain, "CREATE SCHEMA "+strings.TrimSuffix(test.prefix, "."))
			}
			prefixed := openWith(t, dialector(test.name, address), &gorm.Config{
				Logger: logger.Discard, NamingStrategy: schema.NamingStrategy{TablePrefix: test.prefix},
			})
			if err := gormstore.Validate(t.Context(), prefixed); err == nil {
				t.Error("Validate finds the tables without the prefix")
			}
			migrated(t, prefixed)
			migrated(t, prefixed)
			dog := uuid.New()
			r := recorder(t, prefixed, schoolName)
			insert(t, r, history(dog, 1, 3)...)
			if _, err := r.InsertProcessed(t.Context(), history(dog, 4, 1), persistence.Tracking{ApplicationName: kennels, NotificationID: 1}); err != nil {
				t.Errorf("InsertProcessed: %v", err)
			}
			insert(t, snapshots(t, prefixed, schoolName), history(dog, 4, 1)...)
			if got := count(t, plain, test.table); got != 4 {
				t.Errorf("%s has %d rows, want 4", test.table, got)
			}
			wantVersions(t, r, dog, 1, 2, 3, 4)
			wantVersions(t, recorder(t, plain, schoolName), dog)
			if _, err := r.InsertEvents(t.Context(), history(dog, 4, 1)); !persistence.IsConflict(err) {
				t.Errorf("InsertEvents of a stored version: %v, want a conflict", err)
			}
		})
	}
}

// openWith opens a database with settings of GORM's.
func openWith(t testing.TB, d gorm.Dialector, config *gorm.Config) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(d, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if pool, err := db.DB(); err == nil {
			_ = pool.Close()
		}
	})
	return db
}

// A UUID without a letter is a number to SQLite if the column's type lets it be
// one. It must come back as it was.
func TestUUIDOfDigits(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		for _, id := range []string{
			"12345678-9012-3456-7890-123456789012",
			"00000000-0000-0000-0000-000000000001",
			"00000000-0000-4000-8000-00000000e001", // 4.0e…, in the eyes of SQLite
			"ffffffff-ffff-ffff-ffff-ffffffffffff",
		} {
			dog, r := uuid.MustParse(id), recorder(t, db, schoolName)
			insert(t, r, history(dog, 1, 1)...)
			wantVersions(t, r, dog, 1)
			if log := wholeLog(t, r); log[len(log)-1].OriginatorID != dog {
				t.Errorf("stored %s, read %s", dog, log[len(log)-1].OriginatorID)
			}
			var row gormstore.StoredEvent
			if err := db.Where("originator_id = ?", gormstore.UUID(dog)).Take(&row).Error; err != nil || uuid.UUID(row.OriginatorID) != dog {
				t.Errorf("GORM reads %s (%v), want %s", row.OriginatorID, err, dog)
			}
			want := id
			if db.Name() == "sqlite" {
				want = hex.EncodeToString(dog[:])
			}
			var text string
			if err := db.Raw("SELECT CAST(originator_id AS text) FROM stored_events WHERE id = ?", row.ID).Scan(&text).Error; err != nil || text != want {
				t.Errorf("stored as %q (%v), want %q", text, err, want)
			}
		}
	})
}

// A database in memory has one connection, whatever its pool was allowed: a
// second one would be another database.
func TestMemoryDatabaseHasOneConnection(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.Open(t, sqlite.Open(":memory:")))
	r := recorder(t, db, schoolName)
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 20 {
				if _, err := r.InsertEvents(t.Context(), history(uuid.New(), 1, 2)); err != nil {
					t.Errorf("InsertEvents: %v", err)
				}
			}
		})
	}
	writers.Wait()
	if got := len(wholeLog(t, r)); got != 8*20*2 {
		t.Errorf("%d events are stored, want %d", got, 8*20*2)
	}
}

// A file is put into WAL mode, and every commit is synced, however it was
// opened.
func TestSQLiteModes(t *testing.T) {
	t.Parallel()
	path := strings.TrimPrefix(strings.SplitN(testdb.SQLiteFileDSN(t), "?", 2)[0], "file:")
	db := migrated(t, testdb.Open(t, sqlite.Open(path))) // the driver's defaults
	insert(t, recorder(t, db, schoolName), history(uuid.New(), 1, 1)...)
	var mode string
	if err := again(t, db).Raw("PRAGMA journal_mode").Scan(&mode).Error; err != nil || mode != "wal" {
		t.Errorf("the journal mode is %q (%v), want wal", mode, err)
	}
	transaction(t, db, func(_ context.Context, tx *gorm.DB) error {
		var level int
		if err := tx.Raw("PRAGMA synchronous").Scan(&level).Error; err != nil || level < 2 {
			t.Errorf("a transaction has synchronous=%d (%v), want at least 2, FULL", level, err)
		}
		return nil
	})
}

// Names of tables are part of statements, so only plain ones are taken.
func TestTablePrefixes(t *testing.T) {
	for prefix, want := range map[string]string{
		"app_":                  "",
		"tenant.":               "",
		"tenant.app_":           "",
		"a?":                    `"a?stored_events"`,
		`a"; DROP TABLE b; --`:  "letters",
		"two words_":            "letters",
		"a.b.":                  `"a.b.stored_events"`,
		"1st_":                  "letters",
		strings.Repeat("a", 60): "longer than 63",
	} {
		db := openWith(t, dialector("sqlite", testdb.SQLiteFileDSN(t)), &gorm.Config{
			Logger: logger.Discard, NamingStrategy: schema.NamingStrategy{TablePrefix: prefix},
		})
		_, err := gormstore.New(db).ProcessRecorder(schoolName)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", prefix, err, want)
		}
	}
}
