package gormstore_test

import (
	"errors"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// An empty GORM_DB_ALIAS is an error, and not the default database: the variable
// was to name another one. The original takes an empty DJANGO_DB_ALIAS for it.
func TestEmptyAlias(t *testing.T) {
	gormstore.RegisterDB(gormstore.DefaultAlias, migrated(t, testdb.SQLiteMemory(t)))
	t.Cleanup(func() { gormstore.UnregisterDB(gormstore.DefaultAlias) })
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
		if wrong, ok := errors.AsType[*persistence.SettingError](err); ok {
			key = wrong.Key
		} else if err != nil {
			t.Errorf("%v: %v", test.settings, err)
		}
		if key != test.wrong {
			t.Errorf("%v: got an error for %q (%v), want one for %q", test.settings, key, err, test.wrong)
		}
	}
}
