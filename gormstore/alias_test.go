package gormstore_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// An empty GORM_DB_ALIAS is an error, and not the default database: the
// variable was to name another one. The Python library takes an empty
// DJANGO_DB_ALIAS for it.
func TestEmptyAlias(t *testing.T) {
	t.Cleanup(gormstore.RegisterDB("default", migrated(t, testdb.SQLiteMemory(t))))
	for _, test := range []struct {
		settings map[string]string
		wrong    string // the key of the error, or ""
	}{
		{map[string]string{}, ""},
		{map[string]string{"GORM_DB_ALIAS": ""}, "GORM_DB_ALIAS"},
		{map[string]string{"SCHOOL_GORM_DB_ALIAS": "", "GORM_DB_ALIAS": "default"}, "SCHOOL_GORM_DB_ALIAS"},
		{map[string]string{"GORM_DB_ALIAS": "", "DJANGO_DB_ALIAS": "default"}, "GORM_DB_ALIAS"},
		{map[string]string{"DJANGO_DB_ALIAS": ""}, ""},
		{map[string]string{"SCHOOL_DJANGO_DB_ALIAS": "", "DJANGO_DB_ALIAS": "absent"}, ""},
		{map[string]string{"DJANGO_DB_ALIAS": "absent"}, "DJANGO_DB_ALIAS"},
	} {
		app, err := application.New("School", application.WithLookup(func(string) (string, bool) { return "", false }),
			application.WithEnv(map[string]string{"PERSISTENCE_MODULE": "gormstore"}), application.WithEnv(test.settings))
		if err == nil {
			err = app.Close()
		}
		key := ""
		if wrong, ok := errors.AsType[*invalid.Error](err); ok {
			key, _, _ = strings.Cut(wrong.What, ":")
		} else if err != nil {
			t.Errorf("%v: %v", test.settings, err)
		}
		if key != test.wrong {
			t.Errorf("%v: got an error for %q (%v), want one for %q", test.settings, key, err, test.wrong)
		}
	}
}

// An application that keeps events in memory by default says so if the program
// has registered a database.
func TestMemoryByDefaultIsReported(t *testing.T) {
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	open := func(settings map[string]string) string {
		log.Reset()
		app, err := application.New("School", application.WithLogger(logger), application.WithEnv(settings),
			application.WithLookup(func(string) (string, bool) { return "", false }))
		if err != nil {
			t.Fatal(err)
		}
		defer app.Close()
		return log.String()
	}
	const alias = "memory by default"
	unset := map[string]string{"GORM_DB_ALIAS": alias}
	if got := open(unset); got != "" {
		t.Errorf("no database: got log %q", got)
	}
	db := testdb.SQLiteMemory(t)
	defer gormstore.RegisterDB(alias, db)()
	if got := open(unset); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "PERSISTENCE_MODULE") {
		t.Errorf("database registered: got log %q, want a warning", got)
	}
	if got := open(map[string]string{"GORM_DB_ALIAS": alias, "PERSISTENCE_MODULE": "memory"}); got != "" {
		t.Errorf("memory by setting: got log %q", got)
	}
}

// The options of a registered database are those of the stores that are made of
// it.
func TestOptionsOfRegisteredDatabase(t *testing.T) {
	defer gormstore.RegisterDB("hasty", testdb.SQLiteMemory(t), gormstore.WithLockTimeout(-1))()
	_, err := application.New("School", application.WithEnv(map[string]string{"PERSISTENCE_MODULE": "gormstore", "GORM_DB_ALIAS": "hasty"}))
	if err == nil || !strings.Contains(err.Error(), "lock timeout must be above zero") {
		t.Errorf("got %v, want the error of the option", err)
	}
}

// The function that RegisterDB returns does not take back a later registration
// of the same handle.
func TestUnregisterKeepsALaterRegistration(t *testing.T) {
	const alias = "registered again"
	db := testdb.SQLiteMemory(t)
	first := gormstore.RegisterDB(alias, db)
	second := gormstore.RegisterDB(alias, db)
	first()
	if got, err := gormstore.DB(alias); got != db || err != nil {
		t.Errorf("after the first was taken back: %v, %v, want the database", got, err)
	}
	second()
	if _, err := gormstore.DB(alias); err == nil {
		t.Error("after both were taken back the name is still registered")
	}
}
