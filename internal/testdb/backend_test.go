package testdb

import (
	"path"
	"slices"
	"testing"

	"gorm.io/gorm"
)

func TestEach(t *testing.T) {
	limits := map[string]int{} // of connections, by backend
	var names []string
	Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		first, second := open(t), open(t)
		createTable(t, first)
		if !hasTable(first) || hasTable(second) {
			t.Error("two databases are not separate")
		}
		name := path.Base(t.Name())
		names = append(names, name)
		limits[name] = pool(t, first).Stats().MaxOpenConnections
	}, OneConnection()...)

	want := []string{"sqlite-memory", "sqlite-file", "postgres", "sqlite-file-one-connection", "postgres-one-connection"}
	if !slices.Equal(names, want) {
		t.Errorf("backends: got %q, want %q", names, want)
	}
	for name, want := range map[string]int{
		"sqlite-memory":              1,
		"sqlite-file":                0,
		"postgres":                   0,
		"sqlite-file-one-connection": 1,
		"postgres-one-connection":    1,
	} {
		if got := limits[name]; got != want {
			t.Errorf("%s: got a limit of %d connections, want %d", name, got, want)
		}
	}
}
