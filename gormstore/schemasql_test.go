package gormstore_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

var update = flag.Bool("update", false, "write the files that tests compare with")

// statementLog is a logger that keeps the statements which create something.
type statementLog struct {
	logger.Interface
	statements []string
}

func (r *statementLog) LogMode(logger.LogLevel) logger.Interface { return r }

func (r *statementLog) Trace(_ context.Context, _ time.Time, fc func() (string, int64), _ error) {
	if query, _ := fc(); strings.HasPrefix(query, "CREATE ") {
		r.statements = append(r.statements, strings.TrimSpace(query)+";\n")
	}
}

// What Schema returns is what AutoMigrate does: the same statements, and the
// same tables by them.
func TestSchema(t *testing.T) {
	for _, backend := range []testdb.Backend{{Name: "sqlite-file", Open: testdb.SQLiteFile}, {Name: "postgres", Open: testdb.OpenPostgres}} {
		t.Run(backend.Name, func(t *testing.T) {
			db := backend.Open(t)
			heard := &statementLog{Interface: logger.Discard}
			if err := gormstore.AutoMigrate(db.Session(&gorm.Session{Logger: heard})); err != nil {
				t.Fatal(err)
			}
			want := strings.Join(heard.statements, "\n")
			if *update {
				if err := os.WriteFile("schema/"+db.Name()+".sql", []byte(want), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			script, err := gormstore.Schema(db.Name())
			if err != nil || script != want {
				t.Fatalf("the file is %q (%v), want %q; write it with go test ./gormstore -run TestSchema -update", script, err, want)
			}
			byHand := backend.Open(t)
			if err := byHand.Exec(script).Error; err != nil {
				t.Fatal(err)
			}
			wantSame(t, "the schema", schemaDump(t, db), schemaDump(t, byHand))
			if err := errors.Join(gormstore.Validate(t.Context(), byHand), gormstore.AutoMigrate(byHand)); err != nil {
				t.Error(err)
			}
		})
	}
	_, err := gormstore.Schema("oracle")
	if !errors.Is(err, persistence.ErrProgramming) || !strings.Contains(err.Error(), "postgres and sqlite") {
		t.Errorf("the error of an unknown dialect is %v, want an error that contains %q", err, "postgres and sqlite")
	}
}

// Missing names what AutoMigrate would create.
func TestMissing(t *testing.T) {
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		db := open(t)
		names, err := gormstore.Missing(t.Context(), db)
		if err != nil || !slices.Contains(names, "stored_events") || len(names) != len(gormstore.OwnModels()) {
			t.Errorf("missing are %q (%v), want all %d tables", names, err, len(gormstore.OwnModels()))
		}
		if names, err = gormstore.Missing(t.Context(), migrated(t, db)); err != nil || len(names) != 0 {
			t.Errorf("missing are %q (%v) after the migration, want no error and 0 names", names, err)
		}
	})
}
