package persistence_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// Two programs have loaded a dog and both save it. The second one is told.
func ExampleIsConflict() {
	recorder, err := memory.New().ProcessRecorder("TrainingSchool")
	if err != nil {
		log.Fatal(err)
	}
	fido := uuid.NewSHA1(uuid.NameSpaceURL, []byte("/dogs/Fido"))
	events := []persistence.StoredEvent{{OriginatorID: fido, OriginatorVersion: 1, Topic: "Dog.Registered", State: []byte("{}")}}

	_, err = recorder.InsertEvents(context.Background(), events)
	fmt.Println(err)
	_, err = recorder.InsertEvents(context.Background(), events)
	fmt.Println(persistence.IsConflict(err), errors.Is(err, persistence.ErrIntegrity))
	fmt.Println(err)
	// Output:
	// <nil>
	// true true
	// TrainingSchool: originator 1e1d7398-8986-57af-bb01-11a89b2f8b02 already has version 1; load it again and repeat the command
}

// A mail must not be sent for an order that is rolled back.
func ExampleOnCommit() {
	ctx := context.Background()
	order := func(ctx context.Context) {
		persistence.OnCommit(ctx, func(context.Context) { fmt.Println("mail sent") })
		fmt.Println("ordered")
	}

	inside, end := persistence.NewTransaction(ctx) // a store does this
	order(inside)
	end(true)

	inside, end = persistence.NewTransaction(ctx)
	order(inside)
	end(false)

	order(ctx) // outside of a transaction the mail is sent at once
	// Output:
	// ordered
	// mail sent
	// ordered
	// mail sent
	// ordered
}
