package gormstore_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

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
			testdb.EachDatabase(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
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
	if !errors.Is(err, gormstore.ErrSchema) || !slices.Equal(inventory.Differences(err), want) || !errors.Is(err, persistence.ErrOperational) {
		t.Errorf("%s: %v, want ErrSchema with %q", what, err, want)
	}
}
