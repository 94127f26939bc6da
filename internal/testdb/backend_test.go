package testdb

import (
	"path"
	"testing"

	"gorm.io/gorm"
)

func TestEach(t *testing.T) {
	t.Parallel()
	limits := map[string]int{ // of connections; 0 is none
		"sqlite-memory":              1,
		"sqlite-file":                0,
		"postgres":                   0,
		"sqlite-file-one-connection": 1,
		"postgres-one-connection":    1,
	}
	if got := len(Backends()) + len(OneConnection()); got != len(limits) {
		t.Errorf("got %d backends, want %d", got, len(limits))
	}
	Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		t.Parallel()
		first, second := open(t), open(t)
		createTable(t, first)
		if !hasTable(first) || hasTable(second) {
			t.Error("two databases are not separate")
		}
		want, known := limits[path.Base(t.Name())]
		if got := pool(t, first).Stats().MaxOpenConnections; got != want || !known {
			t.Errorf("got a limit of %d connections, want %d", got, want)
		}
	}, OneConnection()...)
}
