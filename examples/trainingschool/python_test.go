package main

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/pythontest"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// dictionary is EVENT_SOURCING_APPLICATION as the document of
// eventsourcing_django has it.
func dictionary() environment {
	return environment{
		"PERSISTENCE_MODULE":      "eventsourcing_django",
		"DJANGO_DB_ALIAS":         "postgres",
		"IS_SNAPSHOTTING_ENABLED": "y",
		"COMPRESSOR_TOPIC":        "eventsourcing.compressor:ZlibCompressor",
		"CIPHER_TOPIC":            "eventsourcing.cipher:AESCipher",
		"CIPHER_KEY":              key,
	}
}

// djangoEnvironment is the environment of a Django project whose database Django
// has made and migrated, and the stand-in for its Python program. The database
// has no events.
func djangoEnvironment(t *testing.T, file string, e environment) (environment, *gorm.DB, *pythontest.Library) {
	t.Helper()
	address := pythontest.Copy(t, filepath.Join("..", "..", "gormstore", "testdata", "python", file))
	var dialector gorm.Dialector
	if filepath.Ext(file) == ".sql" {
		e = e.with("POSTGRES_DSN", address, "SQLITE_PATH", filepath.Join(t.TempDir(), "absent.sqlite3"))
		dialector = postgres.Open(address)
	} else {
		e = e.with("SQLITE_PATH", address, "DJANGO_DB_ALIAS", "default")
		dialector = sqlite.Open(testdb.SQLiteDSN(address))
	}
	db := testdb.Open(t, dialector)
	for _, table := range []string{"stored_events", "snapshots", "notification_tracking"} {
		if err := db.Exec("DELETE FROM " + table).Error; err != nil {
			t.Fatal(err)
		}
	}
	compressor := ""
	if e["COMPRESSOR_TOPIC"] != "" {
		compressor = "zlib"
	}
	return e, db, pythontest.New(t, db, compressor, e["CIPHER_KEY"])
}

// The settings of a Django project are all that the program needs to go on with
// its database: it reads the dogs and the snapshots of the Python program, which
// reads what it writes. With a key alone as well, which means the same cipher
// there. No command but migrate changes the tables.
func TestDatabaseOfDjango(t *testing.T) {
	t.Parallel()
	keyAlone := dictionary()
	delete(keyAlone, "CIPHER_TOPIC")
	plain := environment{"PERSISTENCE_MODULE": "eventsourcing_django"}
	for name, test := range map[string]struct {
		file     string
		settings environment
	}{
		"postgres":             {"postgres-zlib-aes.sql", dictionary()},
		"sqlite":               {"zlib-aes.sqlite3", dictionary()},
		"sqlite, a key alone":  {"zlib-aes.sqlite3", keyAlone},
		"sqlite, module alone": {"plain.sqlite3", plain},
	} {
		if name == "sqlite" && !testdb.Exhaustive() {
			continue // the others have its settings, and its database
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, db, library := djangoEnvironment(t, test.file, test.settings)
			for _, words := range [][]string{{"register", "Fido"}, {"add_tricks", "Fido", "roll over", "play dead"}, {"snapshot", "Fido"}, {"follow"}} {
				library.Call(t, words[0], words[1:]...)
			}
			schema := testdb.Schema(t, db)

			e.start(t, "tricks", "Fido").want(t, "roll over\nplay dead\n")
			e.start(t, "add-trick", "Fido", "走る 🐕").want(t, "")
			e.start(t, "register", "Rex").want(t, "")
			snapshotting := e.with("SNAPSHOTTING_INTERVALS", "Dog=5")
			snapshotting.start(t, "add-trick", "Fido", "sit").want(t, "")
			e.wantReport(t, "contents", "training_school.domain:Dog.TrickAdded", "eventsourcing.domain:Snapshot")
			if got := e.start(t, "contents", "TrainingSchool"); strings.Contains(got.stdout, "NOTE") {
				t.Errorf("something is wrong with what is stored: %s", got.stdout)
			}
			e.wantReport(t, "check", "0 problems")
			e.wantReport(t, "events TrainingSchool", "training_school.domain:Dog.Registered")
			e.wantReport(t, "followers", "TrickCounts", "DogNames")
			e.wantReport(t, "reset_follower", "Known followers")
			e.wantReport(t, "migrate --plan --database "+e["DJANGO_DB_ALIAS"], "follower_settings")
			if testdb.Schema(t, db) != schema {
				t.Errorf("the tables were changed")
			}

			found := library.Read(t)
			if len(found.Events) != 6+4 || len(found.Snapshots) != 2 { // Counters has 4
				t.Errorf("the Python program reads %d events and %d snapshots, want 10 and 2", len(found.Events), len(found.Snapshots))
			}
			dogs := map[string]any{}
			for _, a := range found.Aggregates {
				if a.Class == "Dog" {
					dogs[a.Originator] = a.State["tricks"]
				}
			}
			if want := []any{"roll over", "play dead", "走る 🐕", "sit"}; !slices.Equal(asList(dogs[school.DogID("Fido").String()]), want) {
				t.Errorf("the Python program knows %v of Fido, want %v", dogs, want)
			}
			if got := slices.Collect(maps.Keys(dogs)); !slices.Contains(got, school.DogID("Rex").String()) {
				t.Errorf("the Python program knows %v, and not Rex", got)
			}

			e.wantReport(t, "migrate --database "+e["DJANGO_DB_ALIAS"], "The tables for events are in the database")
			library.Call(t, "add_tricks", "Rex", "sit")
			e.start(t, "sync_followers", "-v", "0").want(t, "")
			e.start(t, "dogs").want(t, "Fido\nRex\n")
			e.wantReport(t, "counts", "2 dogs know how to sit.")
			library.Call(t, "follow")
			e.wantReport(t, "check", "0 problems")

			if e["IS_SNAPSHOTTING_ENABLED"] == "y" { // what it has is read from the snapshot
				if err := db.Exec("UPDATE stored_events SET state = ? WHERE originator_version = 1", []byte{0}).Error; err != nil {
					t.Fatal(err)
				}
				e.start(t, "tricks", "Fido").want(t, "roll over\nplay dead\n走る 🐕\nsit\n")
				e.with("IS_SNAPSHOTTING_ENABLED", "n").start(t, "tricks", "Fido").wantFailure(t, "Dog.Registered version 1")
			}
		})
	}
}

func asList(value any) []any {
	list, _ := value.([]any)
	return list
}

// wantReport fails the test unless a command ends well and prints the texts.
func (e environment) wantReport(t *testing.T, command string, texts ...string) {
	t.Helper()
	got := e.start(t, strings.Fields(command)...)
	for _, text := range texts {
		if got.code != 0 || !strings.Contains(got.stdout, text) {
			t.Errorf("%s: exit code %d, %s%s, want %q", command, got.code, got.stdout, got.stderr, text)
		}
	}
}

// A class of the Python program that has an attribute more than the Go type is
// named by contents, and no snapshot takes the attribute away.
func TestDatabaseOfDjangoWithAnotherAttribute(t *testing.T) {
	t.Parallel()
	e, db, library := djangoEnvironment(t, "plain.sqlite3", environment{"PERSISTENCE_MODULE": "eventsourcing_django", "SNAPSHOTTING_INTERVALS": "Dog=2"})
	library.Call(t, "register", "Fido")
	library.Call(t, "snapshot", "Fido")
	const another = `UPDATE snapshots SET state = CAST(replace(CAST(state AS TEXT), '"name":', '"owner":"Ann","name":') AS BLOB)`
	if err := db.Exec(another).Error; err != nil {
		t.Fatal(err)
	}
	e.wantReport(t, "contents", "have fields that the program's state lacks, so it takes no snapshots: owner")
	got := e.start(t, "add-trick", "Fido", "sit")
	if got.code != 0 || !strings.Contains(got.stderr, "snapshot was not taken") || !strings.Contains(got.stderr, "owner") || strings.Contains(got.stderr, "Ann") {
		t.Errorf("%+v, want a warning that names the field", got)
	}
	e.wantReport(t, "tricks Fido", "sit")
	const renamed = `UPDATE stored_events SET state = CAST(replace(CAST(state AS TEXT), '"name":', '"title":') AS BLOB)`
	if err := db.Exec(renamed).Error; err != nil {
		t.Fatal(err)
	}
	e.wantReport(t, "contents", "have fields that the program passes over: title; some lack fields of the program: name")
	var snapshots int64
	if err := db.Raw("SELECT COUNT(*) FROM snapshots").Scan(&snapshots).Error; err != nil || snapshots != 1 {
		t.Errorf("%d snapshots are stored (%v), want that of the Python program", snapshots, err)
	}
}

// Without the settings of the Django project the program finds nothing, or says
// which setting would open it.
func TestDatabaseOfDjangoControl(t *testing.T) {
	t.Parallel()
	e, _, library := djangoEnvironment(t, "postgres-zlib-aes.sql", dictionary())
	library.Call(t, "register", "Fido")
	for _, test := range []struct{ key, value, want string }{
		{"DJANGO_DB_ALIAS", "default", "not migrated"},
		{"DJANGO_DB_ALIAS", "oracle", "default, postgres"},
		{"PERSISTENCE_MODULE", "django", "eventsourcing_django"},
		{"COMPRESSOR_TOPIC", "", "COMPRESSOR_TOPIC"},
		{"CIPHER_TOPIC", "aes", "CIPHER_TOPIC=eventsourcing.cipher:AESCipher"},
		{"CIPHER_KEY", otherKey, "it needs another CIPHER_KEY"},
	} {
		got := e.with(test.key, test.value).start(t, "tricks", "Fido")
		if got.wantFailure(t, test.want); strings.Contains(got.stderr, "Fido") {
			t.Errorf("the error has a payload: %s", got.stderr)
		}
	}
}
