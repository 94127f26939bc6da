package pglisten_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/pglisten"
)

// A service that writes, and that hears of what others write.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dsn := os.Getenv("DATABASE_URL")

	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := pglisten.New(dsn, nil)
	if err != nil {
		log.Fatal(err)
	}
	store := gormstore.New(db, gormstore.WithListener(listener))
	dogs, err := school.New(application.WithStore(store))
	if err != nil {
		log.Fatal(err)
	}
	if err := dogs.Register(ctx, "Fido"); err != nil { // all listeners are told
		log.Fatal(err)
	}

	// A runner listens in the same way.
	for event, err := range dogs.Log().Subscribe(ctx, 0) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("recorded, by this process or another:", event.Topic)
	}
}
