package mapper_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/compressor"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

// Dog is the aggregate whose events are stored.
type Dog struct {
	domain.Aggregate
	Name   string   `json:"name"`
	Tricks []string `json:"tricks"`
}

// Registered is the first event of a dog.
type Registered struct {
	Name string `json:"name"`
}

func (e Registered) Apply(d *Dog) { d.Name = e.Name }

// TrickAdded says that a dog has learned something.
type TrickAdded struct {
	Trick string `json:"trick"`
}

func (e TrickAdded) Apply(d *Dog) { d.Tricks = append(d.Tricks, e.Trick) }

var Dogs = domain.Define("Dog",
	domain.On("Registered", Registered{}),
	domain.On("TrickAdded", TrickAdded{}),
)

func DogID(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceURL, []byte("/dogs/"+name)) }

func RegisterDog(name string) *Dog { return Dogs.Create(DogID(name), Registered{Name: name}) }

func (d *Dog) AddTrick(trick string) { domain.Trigger(d, TrickAdded{Trick: trick}) }

// A mapper that compresses and encrypts.
func ExampleNew() {
	keys, err := cipher.ParseKeys("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		log.Fatal(err)
	}
	aes, err := cipher.NewAES(keys...)
	if err != nil {
		log.Fatal(err)
	}
	zstd, err := compressor.NewZstd()
	if err != nil {
		log.Fatal(err)
	}
	m := mapper.New(mapper.Config{Application: "TrainingSchool", Transcoder: jsontranscoder.New(python.Transcodings()...), Compressor: zstd, Cipher: aes})
	if err := m.Add(Dogs); err != nil {
		log.Fatal(err)
	}

	stored, err := m.ToStored(RegisterDog("Fido").PendingEvents()[0])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored as", stored.Topic, "version", stored.OriginatorVersion)
	fmt.Println("readable in the database:", bytes.Contains(stored.State, []byte("Fido")))

	event, err := m.ToDomain(stored)
	fmt.Println(event.Data, err)

	stored.OriginatorID = DogID("Rex") // the state is bound to its row
	_, err = m.ToDomain(stored)
	fmt.Println("opens in another row:", err == nil)
	// Output:
	// stored as Dog.Registered version 1
	// readable in the database: false
	// {Fido} <nil>
	// opens in another row: false
}

func ExampleEventStore() {
	ctx := context.Background()
	recorder, err := memory.New().ProcessRecorder("TrainingSchool")
	if err != nil {
		log.Fatal(err)
	}
	m := mapper.New(mapper.Config{Application: "TrainingSchool", Transcoder: jsontranscoder.New(python.Transcodings()...)})
	if err := m.Add(Dogs); err != nil {
		log.Fatal(err)
	}
	store := mapper.NewEventStore(m, recorder)

	fido := RegisterDog("Fido")
	fido.AddTrick("roll over")
	recordings, err := store.Put(ctx, fido.PendingEvents())
	if err != nil {
		log.Fatal(err)
	}
	for _, recording := range recordings {
		fmt.Println(recording.Notification.ID, recording.Event.Topic)
	}

	for event, err := range store.Get(ctx, DogID("Fido"), persistence.EventRange{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d %+v\n", event.OriginatorVersion, event.Data)
	}
	// Output:
	// 1 Dog.Registered
	// 2 Dog.TrickAdded
	// 1 {Name:Fido}
	// 2 {Trick:roll over}
}
