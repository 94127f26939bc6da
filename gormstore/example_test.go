package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
)

// temporary opens a database that is removed again.
func temporary() (db *gorm.DB, remove func()) {
	folder, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	if db, err = gormstore.OpenSQLite(sqlite.Open, filepath.Join(folder, "example.sqlite3")); err != nil {
		log.Fatal(err)
	}
	return db, func() {
		if pool, err := db.DB(); err == nil {
			_ = pool.Close()
		}
		_ = os.RemoveAll(folder)
	}
}

// An application that stores its events in the service's own database.
func Example() {
	ctx := context.Background()
	db, remove := temporary()
	defer remove()

	if err := gormstore.AutoMigrate(db); err != nil {
		log.Fatal(err)
	}
	dogs, err := school.New(application.WithStore(gormstore.New(db)))
	if err != nil {
		log.Fatal(err)
	}
	if err := dogs.Register(ctx, "Fido"); err != nil {
		log.Fatal(err)
	}
	if err := dogs.AddTrick(ctx, "Fido", "roll over"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(dogs.Tricks(ctx, "Fido"))
	// Output: [roll over] <nil>
}

// The same, with the database found by its name in the environment.
func ExampleRegisterDB() {
	db, remove := temporary()
	defer remove()
	unregister := gormstore.RegisterDB("kennel", db)
	defer unregister()

	dogs, err := school.New(application.WithEnv(map[string]string{
		"PERSISTENCE_MODULE": "gormstore",
		"GORM_DB_ALIAS":      "kennel",
	}))
	fmt.Println(dogs.Name(), err)
	// Output: TrainingSchool <nil>
}

// Invoice is a table of the service's own.
type Invoice struct {
	ID  uint
	Dog string
}

// An invoice and the events of two dogs commit together, or not at all.
func ExampleTransaction() {
	ctx := context.Background()
	db, remove := temporary()
	defer remove()
	if err := errors.Join(gormstore.AutoMigrate(db), db.AutoMigrate(&Invoice{})); err != nil {
		log.Fatal(err)
	}
	dogs, err := school.New(application.WithStore(gormstore.New(db)))
	if err != nil {
		log.Fatal(err)
	}

	enrol := func(first, second string) error {
		return gormstore.Transaction(ctx, db, func(ctx context.Context, tx *gorm.DB) error {
			if err := tx.Create(&Invoice{Dog: first + " and " + second}).Error; err != nil {
				return err
			}
			if err := dogs.Register(ctx, first); err != nil {
				return err
			}
			return dogs.Register(ctx, second)
		})
	}

	fmt.Println("first:", enrol("Fido", "Rex"))
	fmt.Println("second fails:", enrol("Bella", "Fido") != nil) // Fido is registered already

	var invoices []Invoice
	db.Find(&invoices)
	_, err = dogs.Tricks(ctx, "Bella")
	fmt.Println("invoices:", len(invoices), "- Bella unknown:", errors.Is(err, application.ErrAggregateNotFound))
	// Output:
	// first: <nil>
	// second fails: true
	// invoices: 1 - Bella unknown: true
}

// Transactions that change the same dog at the same time are repeated until all
// are committed.
func ExampleRetry() {
	ctx := context.Background()
	db, remove := temporary()
	defer remove()
	if err := errors.Join(gormstore.AutoMigrate(db), db.AutoMigrate(&Invoice{})); err != nil {
		log.Fatal(err)
	}
	dogs, err := school.New(application.WithStore(gormstore.New(db)))
	if err != nil {
		log.Fatal(err)
	}
	if err := dogs.Register(ctx, "Fido"); err != nil {
		log.Fatal(err)
	}

	lesson := func(trick string) error {
		return gormstore.Retry(ctx, db, 5, func(ctx context.Context, tx *gorm.DB) error {
			if err := tx.Create(&Invoice{Dog: "Fido"}).Error; err != nil {
				return err
			}
			return dogs.AddTrick(ctx, "Fido", trick)
		})
	}
	var lessons sync.WaitGroup
	for _, trick := range []string{"sit", "roll over", "fetch"} {
		lessons.Go(func() {
			if err := lesson(trick); err != nil {
				log.Print(err)
			}
		})
	}
	lessons.Wait()

	var invoices []Invoice
	db.Find(&invoices)
	tricks, _ := dogs.Tricks(ctx, "Fido")
	fmt.Println(len(invoices), "invoices,", len(tricks), "tricks")
	// Output: 3 invoices, 3 tricks
}

// A transaction that was begun without this package, on a database with the
// plugin.
func ExampleWithTx() {
	ctx := context.Background()
	db, remove := temporary()
	defer remove()
	if err := errors.Join(db.Use(gormstore.Plugin()), gormstore.AutoMigrate(db)); err != nil {
		log.Fatal(err)
	}
	dogs, err := school.New(application.WithStore(gormstore.New(db)))
	if err != nil {
		log.Fatal(err)
	}

	err = db.Transaction(func(tx *gorm.DB) error {
		return dogs.Register(gormstore.WithTx(ctx, tx), "Fido")
	})
	tricks, missing := dogs.Tricks(ctx, "Fido")
	fmt.Println(err, tricks, missing)
	// Output: <nil> [] <nil>
}
