package natsstore_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/eventsourcing-go/eventsourcing/natsstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A store for development: one server, in the process itself.
func Example() {
	ctx := context.Background()
	folder, err := os.MkdirTemp("", "natsstore")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	nats, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, JetStream: true, StoreDir: folder})
	if err != nil {
		log.Fatal(err)
	}
	nats.Start()
	defer nats.WaitForShutdown()
	defer nats.Shutdown()

	store, err := natsstore.Open(ctx, nats.ClientURL(), natsstore.Config{
		Replicas:      1,
		CreateStreams: true,
		Waive:         []natsstore.Waiver{natsstore.SingleReplica, natsstore.PeriodicSync, natsstore.SmallPayload},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	events, err := store.ProcessRecorder("TrainingSchool")
	if err != nil {
		log.Fatal(err)
	}
	fido := uuid.NewSHA1(uuid.NameSpaceURL, []byte("/dogs/Fido"))
	ids, err := events.InsertEvents(ctx, []persistence.StoredEvent{
		{OriginatorID: fido, OriginatorVersion: 1, Topic: "Dog.Registered", State: []byte(`{}`)},
		{OriginatorID: fido, OriginatorVersion: 2, Topic: "Dog.TrickAdded", State: []byte(`{}`)},
	})
	fmt.Println(ids, err)
	// Output: [1 2] <nil>
}
