package management_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/trickcounts"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/management"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// openSchool opens the databases of a service, as management.Config wants it.
func openSchool(path string) func(context.Context) (func() error, error) {
	return func(context.Context) (func() error, error) {
		db, err := gormstore.OpenSQLite(sqlite.Open, path)
		if err != nil {
			return nil, err
		}
		unregister := gormstore.RegisterDB("default", db)
		return func() error {
			unregister()
			pool, err := db.DB()
			if err != nil {
				return err
			}
			return pool.Close()
		}, nil
	}
}

// newSchool makes the runner of the service on the registered database.
func newSchool(context.Context) (management.Runner, error) {
	db, err := gormstore.DB("default")
	if err != nil {
		return nil, err
	}
	store := gormstore.New(db)
	dogs, err := school.New(application.WithStore(store))
	if err != nil {
		return nil, err
	}
	counts, err := trickcounts.New(store)
	if err != nil {
		return nil, err
	}
	sys, err := system.New(system.Pipe(dogs, counts))
	if err != nil {
		return nil, err
	}
	return system.NewSingleThreadedRunner(sys)
}

// A service gives its own root the commands, and runs them. As a whole main it
// would be os.Exit(management.Main(config)).
func Example() {
	folder, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	config := management.Config{
		Open:    openSchool(filepath.Join(folder, "school.sqlite3")),
		Runners: map[string]management.RunnerFunc{"school.runner": newSchool},
	}

	for _, arguments := range [][]string{{"migrate"}, {"sync_followers", "-v", "2"}} {
		root := &cobra.Command{Use: "school"}
		management.AddCommands(root, config)
		root.SetOut(os.Stdout)
		root.SetArgs(arguments)
		if err := root.Execute(); err != nil {
			os.Exit(management.ExitCode(err))
		}
	}
	// Output:
	// The tables for events are in the database "default".
	// All followers selected for synchronization.
	// [1/1] Synchronizing TrickCounts... OK
	// 	 0 events from TrainingSchool processed
}

// taught makes a school with a dog that knows a trick, which the counts have
// not heard of yet.
func taught(ctx context.Context, db *gorm.DB) (*system.SingleThreadedRunner, *trickcounts.TrickCounts) {
	store := gormstore.New(db)
	dogs, err := school.New(application.WithStore(store))
	if err != nil {
		log.Fatal(err)
	}
	counts, err := trickcounts.New(store)
	if err != nil {
		log.Fatal(err)
	}
	if err := gormstore.AutoMigrate(db); err != nil {
		log.Fatal(err)
	}
	sys, err := system.New(system.Pipe(dogs, counts))
	if err != nil {
		log.Fatal(err)
	}
	runner, err := system.NewSingleThreadedRunner(sys)
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"Fido", "Rex"} {
		if err := dogs.Register(ctx, name); err != nil {
			log.Fatal(err)
		}
		if err := dogs.AddTrick(ctx, name, "roll over"); err != nil {
			log.Fatal(err)
		}
	}
	return runner, counts
}

// A follower with a table is reset: the table is emptied together with the
// position, and filled again. A dry run shows what would happen.
func ExampleRun() {
	ctx := context.Background()
	db, remove := temporary()
	defer remove()
	runner, counts := taught(ctx, db)
	defer runner.Close()

	config := management.Config{Runners: map[string]management.RunnerFunc{"school.runner": management.Given(runner)}}
	for _, arguments := range [][]string{
		{"sync_followers", "--dry-run"},
		{"sync_followers"},
		{"reset_follower", "TrickCounts", "--yes"},
	} {
		if code := management.Run(ctx, config, arguments, os.Stdout, os.Stderr); code != 0 {
			log.Fatalf("%v ends with code %d", arguments, code)
		}
		fmt.Println(counts.Counts(ctx))
	}
	// Output:
	// Dry-run mode, the events will be processed but the changes will be rolled back.
	// All followers selected for synchronization.
	// [1/1] Synchronizing TrickCounts... OK (dry-run)
	// [] <nil>
	// All followers selected for synchronization.
	// [1/1] Synchronizing TrickCounts... OK
	// [{roll over 2}] <nil>
	// The tracking states of TrickCounts will be reset (1 upstream app).
	// TrickCounts will replay 4 events.
	// 1 upstream app has been un-tracked.
	// [] <nil>
}

// temporary opens a database that is removed again.
func temporary() (db *gorm.DB, remove func()) {
	folder, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	if db, err = gormstore.OpenSQLite(sqlite.Open, filepath.Join(folder, "school.sqlite3")); err != nil {
		log.Fatal(err)
	}
	return db, func() {
		if pool, err := db.DB(); err == nil {
			_ = pool.Close()
		}
		_ = os.RemoveAll(folder)
	}
}
