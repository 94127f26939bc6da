package gormstore

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"
)

// lib/pq is refused by the path of its package, and pgx is not.
func TestRefusedDriver(t *testing.T) {
	t.Parallel()
	if got, want := packageOf(stdlib.GetDefaultDriver()), "github.com/jackc/pgx/v5/stdlib"; got != want {
		t.Errorf("the driver of pgx is of package %q, want %q", got, want)
	}
	if got := packageOf(nil); got != "" {
		t.Errorf("no driver is of package %q", got)
	}
	for path, want := range map[string]string{"": "", "github.com/jackc/pgx/v5/stdlib": "", "github.com/lib/pq": "driver, pgx"} {
		err := refusedDriver(path)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", path, err, want)
		}
	}
}
