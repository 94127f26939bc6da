package memory_test

import (
	"context"
	"fmt"
	"log"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

func Example() {
	ctx := context.Background()
	store := memory.New()
	defer store.Close()

	recorder, err := store.ProcessRecorder("TrainingSchool")
	if err != nil {
		log.Fatal(err)
	}
	fido := uuid.NewSHA1(uuid.NameSpaceURL, []byte("/dogs/Fido"))
	ids, err := recorder.InsertEvents(ctx, []persistence.StoredEvent{
		{OriginatorID: fido, OriginatorVersion: 1, Topic: "Dog.Registered", State: []byte(`{"name":"Fido"}`)},
		{OriginatorID: fido, OriginatorVersion: 2, Topic: "Dog.TrickAdded", State: []byte(`{"trick":"roll over"}`)},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored as", ids)

	for event, err := range recorder.SelectEvents(ctx, fido, persistence.EventRange{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(event.OriginatorVersion, event.Topic, string(event.State))
	}

	_, err = recorder.InsertEvents(ctx, []persistence.StoredEvent{
		{OriginatorID: fido, OriginatorVersion: 2, Topic: "Dog.TrickAdded", State: []byte(`{"trick":"fetch ball"}`)},
	})
	fmt.Println("a conflict:", persistence.IsConflict(err))
	// Output:
	// stored as [1 2]
	// 1 Dog.Registered {"name":"Fido"}
	// 2 Dog.TrickAdded {"trick":"roll over"}
	// a conflict: true
}
