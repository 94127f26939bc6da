package gormstore_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The statements in docs/operations.md rename an application in every table,
// and it then reads what it has encrypted under its former name.
func TestRenamedApplication(t *testing.T) {
	statements := renameStatements(t)
	each(t, func(t *testing.T, db *gorm.DB) {
		const before, after = "TrainingSchool", "Academy"
		ctx := t.Context()
		school := func(name string, options ...application.Option) *application.Repository[school.Dog] {
			app, err := application.New(name, append(options, application.WithStore(gormstore.New(db)),
				application.WithEnv(map[string]string{"CIPHER_KEY": pythonKey, "IS_SNAPSHOTTING_ENABLED": "y"}))...)
			if err != nil {
				t.Fatal(err)
			}
			return expect.Must(application.NewRepository(app, school.Dogs))
		}
		dog, old := newDog("Fido", "roll over"), school(before)
		if err := old.Save(ctx, dog); err != nil {
			t.Fatal(err)
		}
		if err := old.TakeSnapshot(ctx, dog.ID()); err != nil {
			t.Fatal(err)
		}
		for _, names := range [][2]string{{before, "Other"}, {"Other", before}} {
			for _, row := range rowsOfFollowers(names[0], names[1]) {
				if err := db.Create(row).Error; err != nil {
					t.Fatal(err)
				}
			}
		}
		early := school(after, application.WithFormerNames(before))
		if err := early.Save(ctx, newDog("Rex")); !errors.Is(err, persistence.ErrOperational) {
			t.Errorf("a save before the rows are renamed: %v, want an error that is %v", err, persistence.ErrOperational)
		}
		// A program that was started too early has recorded these.
		for _, names := range [][2]string{{after, "Other"}, {"Other", after}} {
			for _, row := range []any{
				&gormstore.FollowerStatus{ApplicationName: names[0], UpstreamApplicationName: names[1], Heartbeat: time.Now()},
				&gormstore.FollowerSetting{ApplicationName: names[0], UpstreamApplicationName: names[1], PausedBy: "early", UpdatedAt: time.Now()},
			} {
				if err := db.Create(row).Error; err != nil {
					t.Fatal(err)
				}
			}
		}
		rename := func() {
			t.Helper()
			err := db.Transaction(func(tx *gorm.DB) error {
				for _, statement := range statements {
					if err := tx.Exec(statement).Error; err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		rename()
		for _, model := range gormstore.OwnModels() {
			for _, column := range []string{"application_name", "upstream_application_name"} {
				if !db.Migrator().HasColumn(model, column) {
					continue
				}
				var left, renamed int64
				if err := db.Model(model).Where(column+" = ?", before).Count(&left).Error; err != nil {
					t.Fatal(err)
				}
				if err := db.Model(model).Where(column+" = ?", after).Count(&renamed).Error; err != nil {
					t.Fatal(err)
				}
				if left > 0 || renamed == 0 {
					t.Errorf("%s of %T: %d rows have the old name, and %d the new one, want 0 and other than 0", column, model, left, renamed)
				}
			}
		}
		rename() // which a second time changes nothing that matters
		var settings []gormstore.FollowerSetting
		if err := db.Find(&settings).Error; err != nil || len(settings) != 2 || settings[0].PausedBy != "" || settings[1].PausedBy != "" {
			t.Errorf("got the settings %+v, %v, want the two of before", settings, err)
		}
		if err := early.Save(ctx, newDog("Rex")); err != nil {
			t.Errorf("a save after it: %v", err)
		}
		got, err := school(after, application.WithFormerNames(before)).Get(ctx, dog.ID())
		if err != nil || got.Name != "Fido" || len(got.Tricks) != 1 {
			t.Errorf("got %v, %v, want no error, Name %q and 1 Tricks", got, err, "Fido")
		}
		if _, err := school(after).Get(ctx, dog.ID()); err == nil {
			t.Error("states of the former name are read without WithFormerNames")
		}
	})
}

// rowsOfFollowers has a row of every table that names followers.
func rowsOfFollowers(name, upstream string) []any {
	now := time.Now()
	return []any{
		&gormstore.NotificationTracking{ApplicationName: name, UpstreamApplicationName: upstream, NotificationID: 1},
		&gormstore.FollowerStatus{ApplicationName: name, UpstreamApplicationName: upstream, Heartbeat: now},
		&gormstore.FollowerRunner{ApplicationName: name, UpstreamApplicationName: upstream, Heartbeat: now},
		&gormstore.FollowerSetting{ApplicationName: name, UpstreamApplicationName: upstream, UpdatedAt: now},
		&gormstore.FollowerPartition{ApplicationName: name, UpstreamApplicationName: upstream},
		&gormstore.ParkedEvent{ApplicationName: name, UpstreamApplicationName: upstream, NotificationID: 1,
			OriginatorID: gormstore.UUID(uuid.New()), ParkedAt: now},
	}
}

// renameStatements are the statements of docs/operations.md that rename an
// application.
func renameStatements(t *testing.T) (statements []string) {
	t.Helper()
	document, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(document), "   BEGIN;\n   DELETE FROM follower_status")
	text, _, _ = strings.Cut("DELETE FROM follower_status"+text, "   COMMIT;")
	for statement := range strings.SplitSeq(text, ";") {
		if statement = strings.TrimSpace(statement); statement != "" {
			statements = append(statements, statement)
		}
	}
	if len(statements) < len(gormstore.OwnModels()) {
		t.Fatalf("docs/operations.md has %d statements, want one for each of %d tables", len(statements), len(gormstore.OwnModels()))
	}
	return statements
}
