package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// roleOf creates a role and opens the database of a DSN as it.
func roleOf(t *testing.T, admin *gorm.DB) (role string, db *gorm.DB) {
	t.Helper()
	role = "es_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	run(t, admin, "CREATE ROLE "+role)
	t.Cleanup(func() {
		run(t, admin, "DROP OWNED BY "+role)
		run(t, admin, "DROP ROLE "+role)
	})
	return role, testdb.Open(t, postgres.Open(withParameter(t, dsn(t, admin), "role", role)))
}

// grantTables grants the use of tables, and of their sequences.
func grantTables(t *testing.T, admin *gorm.DB, role string, tables ...string) {
	t.Helper()
	run(t, admin, "GRANT SELECT, INSERT, UPDATE, DELETE ON "+strings.Join(tables, ", ")+" TO "+role)
	run(t, admin, "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO "+role)
}

var classicTables = []string{"stored_events", "snapshots", "notification_tracking"}

// schemasOf are the schemas that have a table.
func schemasOf(t *testing.T, db *gorm.DB, table string) (names string) {
	t.Helper()
	query := "SELECT COALESCE(string_agg(schemaname, ',' ORDER BY schemaname), '') FROM pg_tables WHERE tablename = ?"
	if err := db.Raw(query, table).Scan(&names).Error; err != nil {
		t.Fatal(err)
	}
	return names
}

// Tables that a connection finds later on its search path are its tables: no
// empty ones are made in a schema that comes first.
func TestMigrateFindsTablesOnSearchPath(t *testing.T) {
	t.Parallel()
	admin := created(t, testdb.OpenPostgres(t))
	dog := uuid.New()
	insert(t, recorder(t, admin, schoolName), history(dog, 1, 2)...)
	run(t, admin, "CREATE SCHEMA first")
	run(t, admin, "DROP TABLE follower_settings")
	db := testdb.Open(t, postgres.Open(withParameter(t, dsn(t, admin), "search_path", "first,public")))
	if err := gormstore.Validate(t.Context(), db); err != nil {
		t.Errorf("Validate: %v", err)
	}
	if missing, err := gormstore.Missing(t.Context(), db); err != nil || fmt.Sprint(missing) != "[follower_settings]" {
		t.Errorf("missing are %q (%v), want no error and %q", missing, err, "[follower_settings]")
	}
	migrated(t, db)
	migrated(t, db)
	for _, table := range []string{"stored_events", "follower_status", "follower_settings"} {
		if got := schemasOf(t, admin, table); got != "public" {
			t.Errorf("%s is in %s, want public", table, got)
		}
	}
	wantVersions(t, recorder(t, again(t, db), schoolName), dog, 1, 2)
}

// Two sets of tables on the search path are an error, also for a service that
// neither migrates nor validates.
func TestTablesInTwoSchemas(t *testing.T) {
	t.Parallel()
	admin := created(t, testdb.OpenPostgres(t))
	run(t, admin, "CREATE SCHEMA first")
	first := testdb.Open(t, postgres.Open(withParameter(t, dsn(t, admin), "search_path", "first")))
	migrated(t, first)
	// One schema of the path is no ambiguity.
	insert(t, recorder(t, first, schoolName), history(uuid.New(), 1, 1)...)
	db := testdb.Open(t, postgres.Open(withParameter(t, dsn(t, admin), "search_path", "first,public")))
	want := []string{"the schemas first and public of the search path have tables for events; " +
		"set a search_path that has one of them, or a table prefix with the schema"}
	wantDifferences(t, "AutoMigrate", gormstore.AutoMigrate(db), want)
	wantDifferences(t, "Validate", gormstore.Validate(t.Context(), db), want)
	_, err := recorder(t, db, schoolName).InsertEvents(t.Context(), history(uuid.New(), 1, 1))
	wantDifferences(t, "InsertEvents", err, want)
	run(t, admin, "DROP TABLE first.stored_events, first.snapshots, first.notification_tracking")
	run(t, admin, "DROP TABLE public.follower_settings")
	wantDifferences(t, "AutoMigrate with the rest of a second set", gormstore.AutoMigrate(db), want)
}

// warnings is a logger that keeps warnings.
type warnings struct {
	logger.Interface
	mu  sync.Mutex // protects all
	all []string
}

func (w *warnings) LogMode(logger.LogLevel) logger.Interface { return w }

func (w *warnings) Warn(_ context.Context, format string, arguments ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, fmt.Sprintf(format, arguments...))
}

// migrateWarned migrates and returns the warnings.
func migrateWarned(db *gorm.DB) (string, error) {
	heard := &warnings{Interface: logger.Discard}
	err := gormstore.AutoMigrate(db.Session(&gorm.Session{Logger: heard}))
	return strings.Join(heard.all, "\n"), err
}

// A role without CREATE can use a database made by Django, and is told what it
// does without. Without those tables it is an error that says what to grant.
func TestMigrateWithoutCreate(t *testing.T) {
	t.Parallel()
	admin := created(t, testdb.OpenPostgres(t))
	run(t, admin, "DROP TABLE follower_status, parked_events, follower_runners, follower_settings, follower_partitions")
	run(t, admin, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	role, db := roleOf(t, admin)
	grantTables(t, admin, role, classicTables...)
	warned, err := migrateWarned(db)
	for _, part := range []string{"follower_status", "parked_events", "follower_settings", "park events", "GRANT CREATE ON SCHEMA public TO " + role} {
		if !strings.Contains(warned, part) {
			t.Errorf("the warning is %q, want %q in it", warned, part)
		}
	}
	if err = errors.Join(err, gormstore.Validate(t.Context(), db)); err != nil {
		t.Error(err)
	}
	wantWorking(t, db)
	run(t, admin, "DROP TABLE snapshots")
	if _, err := migrateWarned(db); err == nil || !strings.Contains(err.Error(), "table snapshots is missing, and the role "+role+" may not create it") ||
		!errors.Is(err, persistence.ErrOperational) {
		t.Errorf("AutoMigrate: %v", err)
	}
}

// Tables that exist and are not granted are not missing.
func TestUngrantedTables(t *testing.T) {
	t.Parallel()
	admin := created(t, testdb.OpenPostgres(t))
	role, db := roleOf(t, admin)
	grantTables(t, admin, role, classicTables...)
	missing, err := gormstore.Missing(t.Context(), db)
	grant := "table parked_events exists, and the role " + role +
		" may not use it: GRANT SELECT, INSERT, UPDATE, DELETE ON parked_events TO " + role
	if len(missing) > 0 || err == nil || !strings.Contains(err.Error(), grant) || strings.Contains(err.Error(), "snapshots") {
		t.Errorf("missing are %q (%v), want 0 of them and an error that contains %q", missing, err, grant)
	}
	r := recorder(t, db, schoolName).(capability.ParkingRecorder)
	_, err = r.ParkedEvents(t.Context(), kennels)
	if !errors.Is(err, persistence.ErrOperational) || !strings.Contains(err.Error(), "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE parked_events") {
		t.Errorf("ParkedEvents: %v, want an error that is %v and that contains %q", err, persistence.ErrOperational, "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE parked_events")
	}
}

// Row level security that may hide rows is an error, and not an empty log.
func TestRowLevelSecurity(t *testing.T) {
	t.Parallel()
	admin := created(t, testdb.OpenPostgres(t))
	insert(t, recorder(t, admin, schoolName), history(uuid.New(), 1, 2)...)
	role, db := roleOf(t, admin)
	grantTables(t, admin, role, append(classicTables, "follower_status", "parked_events", "follower_runners", "follower_settings", "follower_partitions")...)
	run(t, admin, "ALTER TABLE stored_events ENABLE ROW LEVEL SECURITY")
	run(t, admin, "CREATE POLICY tenant ON stored_events USING (application_name LIKE nullif(current_setting('app.tenant', true), '') || '%')")
	want := []string{"row level security of table stored_events may hide rows from the role " + role + ": give the role BYPASSRLS, " +
		"make it the owner without FORCE ROW LEVEL SECURITY, or give it a policy FOR ALL with USING (true)"}
	wantDifferences(t, "Validate", gormstore.Validate(t.Context(), db), want)
	wantDifferences(t, "AutoMigrate", gormstore.AutoMigrate(db), want)
	r := recorder(t, db, schoolName)
	_, err := r.MaxNotificationID(t.Context())
	wantDifferences(t, "MaxNotificationID", err, want)
	_, err = r.InsertEvents(t.Context(), history(uuid.New(), 1, 1))
	wantDifferences(t, "InsertEvents", err, want)
	// The policy is not for the superuser.
	insert(t, recorder(t, admin, schoolName), history(uuid.New(), 1, 1)...)
	run(t, admin, "CREATE POLICY whole ON stored_events TO "+role+" USING (true)")
	if err := gormstore.Validate(t.Context(), db); err != nil {
		t.Errorf("Validate with a policy that hides nothing: %v", err)
	}
	if log := wholeLog(t, r); len(log) != 3 {
		t.Errorf("%d events, want 3", len(log))
	}
	run(t, admin, "CREATE POLICY late ON stored_events AS RESTRICTIVE USING (id > 1)")
	wantDifferences(t, "Validate with a restrictive policy", gormstore.Validate(t.Context(), db), want)
}

// A service that neither migrates nor validates is not left to a sequence whose
// ids are out of order.
func TestSequenceAtFirstUse(t *testing.T) {
	t.Parallel()
	for flaw, want := range map[string]string{"CACHE 50": "CACHE 50", "CYCLE": "CYCLE", "INCREMENT -1": "INCREMENT -1"} {
		db := created(t, testdb.OpenPostgres(t))
		run(t, db, "ALTER SEQUENCE stored_events_id_seq "+flaw)
		r := recorder(t, again(t, db), schoolName)
		_, err := r.InsertEvents(t.Context(), history(uuid.New(), 1, 1))
		if !errors.Is(err, gormstore.ErrSchema) || !strings.Contains(err.Error(), want) {
			t.Errorf("InsertEvents with %s: %v, want an error that contains %q", flaw, err, want)
		}
		run(t, db, "ALTER SEQUENCE stored_events_id_seq CACHE 1 NO CYCLE INCREMENT 1")
		insert(t, r, history(uuid.New(), 1, 1)...)
	}
}

// Integer keys, as old versions of Django made them, are used as long as there
// are ids, with a warning from one half on.
func TestIntegerKeys(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	for table, key := range map[string]string{"stored_events": "id", "snapshots": "uid", "notification_tracking": "uid"} {
		run(t, db, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE integer", table, key))
		run(t, db, fmt.Sprintf("ALTER SEQUENCE %s_%s_seq AS integer", table, key))
	}
	if warned, err := migrateWarned(db); err != nil || warned != "" {
		t.Errorf("AutoMigrate: %v, %q", err, warned)
	}
	wantWorking(t, db)
	beyond := persistence.NotificationRange{After: math.MaxInt32 + 1, Limit: 1}
	if _, err := recorder(t, db, "Dogs").SelectNotifications(t.Context(), beyond); err != nil {
		t.Errorf("read after an id that no integer can be: %v", err)
	}
	run(t, db, "SELECT setval('stored_events_id_seq', 1200000000)")
	if warned, err := migrateWarned(db); err != nil || !strings.Contains(warned, "1200000000 of 2147483647 ids") {
		t.Errorf("AutoMigrate: %v, %q, want no error and it to contain %q", err, warned, "1200000000 of 2147483647 ids")
	}
}

// Tables that lose their rows, and ids whose source cannot be looked at, are
// refused at the first use and by Validate.
func TestUnreliableTables(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ statement, want string }{
		"unlogged":  {"ALTER TABLE stored_events SET UNLOGGED", "UNLOGGED"},
		"temporary": {"CREATE TEMPORARY TABLE stored_events (LIKE stored_events INCLUDING ALL)", "temporary table"},
		"function": {"CREATE SEQUENCE hidden CACHE 20; CREATE FUNCTION next_id() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('hidden') $$; " +
			"ALTER TABLE stored_events ALTER COLUMN id SET DEFAULT next_id()", "function or a trigger"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := created(t, testdb.OpenPostgres(t))
			limit(t, db, 1)
			run(t, db, test.statement)
			_, err := recorder(t, db, "Dogs").InsertEvents(t.Context(), history(uuid.New(), 1, 1))
			for _, err := range []error{err, gormstore.Validate(t.Context(), db)} {
				if !errors.Is(err, gormstore.ErrSchema) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want ErrSchema with %q", err, test.want)
				}
			}
		})
	}
}

// A database in another encoding starts every time.
func TestEncodings(t *testing.T) {
	t.Parallel()
	admin := testdb.OpenPostgres(t)
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		name := "es_" + strings.ReplaceAll(uuid.NewString(), "-", "")
		run(t, admin, "CREATE DATABASE "+name+" TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' ENCODING '"+encoding+"'")
		t.Cleanup(func() { run(t, admin, "DROP DATABASE "+name+" WITH (FORCE)") })
		address := dsn(t, admin)
		if u, err := url.Parse(address); err == nil && u.Scheme != "" {
			u.Path = "/" + name
			address = u.String()
		} else {
			address += " dbname=" + name
		}
		for range 2 {
			db := testdb.Open(t, postgres.Open(address))
			if err := errors.Join(gormstore.AutoMigrate(db), gormstore.Validate(t.Context(), db)); err != nil {
				t.Errorf("%s: %v", encoding, err)
			}
		}
		wantWorking(t, testdb.Open(t, postgres.Open(address)))
	}
}
