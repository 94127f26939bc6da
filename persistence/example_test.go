package persistence_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/compressor"
	"github.com/eventsourcing-go/eventsourcing/domain"
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

// newDogs makes a store of dogs in memory.
func newDogs() (*persistence.EventStore, persistence.ProcessRecorder) {
	recorder, err := memory.New().ProcessRecorder("TrainingSchool")
	if err != nil {
		log.Fatal(err)
	}
	mapper := persistence.NewMapper(persistence.MapperConfig{Application: "TrainingSchool", Transcoder: jsontranscoder.New(python.Transcodings()...)})
	if err := mapper.Add(Dogs.Schema); err != nil {
		log.Fatal(err)
	}
	return persistence.NewEventStore(mapper, recorder), recorder
}

// A mapper that compresses and encrypts.
func ExampleNewMapper() {
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
	mapper := persistence.NewMapper(persistence.MapperConfig{Application: "TrainingSchool", Transcoder: jsontranscoder.New(python.Transcodings()...), Compressor: zstd, Cipher: aes})
	if err := mapper.Add(Dogs.Schema); err != nil {
		log.Fatal(err)
	}

	stored, err := mapper.ToStored(RegisterDog("Fido").PendingEvents()[0])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored as", stored.Topic, "version", stored.OriginatorVersion)
	fmt.Println("readable in the database:", bytes.Contains(stored.State, []byte("Fido")))

	event, err := mapper.ToDomain(stored)
	fmt.Println(event.Data, err)

	stored.OriginatorID = DogID("Rex") // the state is bound to its row
	_, err = mapper.ToDomain(stored)
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
	mapper := persistence.NewMapper(persistence.MapperConfig{Application: "TrainingSchool", Transcoder: jsontranscoder.New(python.Transcodings()...)})
	if err := mapper.Add(Dogs.Schema); err != nil {
		log.Fatal(err)
	}
	store := persistence.NewEventStore(mapper, recorder)

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

// Two programs have loaded a dog and both save it. The second one is told.
func ExampleIsConflict() {
	ctx := context.Background()
	store, _ := newDogs()

	_, err := store.Put(ctx, RegisterDog("Fido").PendingEvents())
	fmt.Println(err)
	_, err = store.Put(ctx, RegisterDog("Fido").PendingEvents())
	fmt.Println(persistence.IsConflict(err), errors.Is(err, persistence.ErrIntegrity))
	fmt.Println(err)
	// Output:
	// <nil>
	// true true
	// TrainingSchool: originator 1e1d7398-8986-57af-bb01-11a89b2f8b02 exists: it already has version 1; load it instead of creating it, or give the new one another id
}

// A caller that has saved an event waits until a follower has seen it.
func ExampleWaitFor() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	counters, err := memory.New().ProcessRecorder("Counters")
	if err != nil {
		log.Fatal(err)
	}
	go func() { // the follower, usually in another process
		err := counters.InsertTracking(ctx, persistence.Tracking{ApplicationName: "TrainingSchool", NotificationID: 3})
		if err != nil {
			log.Fatal(err)
		}
	}()

	err = persistence.WaitFor(ctx, counters, "TrainingSchool", 3)
	fmt.Println(err)

	cancel()
	err = persistence.WaitFor(ctx, counters, "TrainingSchool", 4)
	fmt.Println(err)
	// Output:
	// <nil>
	// timed out waiting for notification 4 from application "TrainingSchool" to be processed: context canceled
}

// The loop sees what is recorded already, and then what is recorded later. It
// runs until it is left.
func ExampleSubscribe() {
	ctx := context.Background()
	store, recorder := newDogs()
	put := func(dog *Dog) {
		if _, err := store.Put(ctx, dog.PendingEvents()); err != nil {
			log.Fatal(err)
		}
	}
	put(RegisterDog("Fido"))

	for notification, err := range persistence.Subscribe(ctx, recorder, 0, "Dog.Registered") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(notification.ID, notification.Topic)
		if notification.ID == 2 {
			break
		}
		put(RegisterDog("Rex"))
	}
	// Output:
	// 1 Dog.Registered
	// 2 Dog.Registered
}

// A check of a log after somebody has deleted a row from the middle of it.
func ExampleCheck() {
	ctx := context.Background()
	_, recorder := newDogs()
	kennel, err := memory.New().ProcessRecorder("Kennel") // restored from a backup: empty
	if err != nil {
		log.Fatal(err)
	}
	if err := recorder.InsertTracking(ctx, persistence.Tracking{ApplicationName: "Kennel", NotificationID: 7}); err != nil {
		log.Fatal(err)
	}

	problems, err := persistence.Check(ctx, persistence.Checked{
		Application: "TrainingSchool",
		Recorder:    recorder,
		Upstreams:   map[string]persistence.ApplicationRecorder{"Kennel": kennel},
	})
	for _, problem := range problems {
		fmt.Println(problem.NotificationID, problem.Text)
	}
	fmt.Println(err)
	// Output:
	// 7 position in Kennel is ahead of its log, which ends at 0; the log was restored from a backup, or the position was edited
	// <nil>
}

// The package of a store registers it once, when the program starts.
func init() { persistence.Register("kennel", openKennel) }

func openKennel(env *persistence.Environment) (persistence.Factory, error) {
	fmt.Println("a store for", env.Name())
	return memory.New(), nil
}

// A store makes itself known under a name, in an init function of its package:
//
//	func init() { persistence.Register("kennel", openKennel) }
//
// PERSISTENCE_MODULE then selects it.
func ExampleRegister() {
	env := persistence.NewEnvironment("TrainingSchool", map[string]string{"PERSISTENCE_MODULE": "kennel"}, nil)
	factory, err := persistence.Open(env, "memory")
	if err != nil {
		log.Fatal(err)
	}
	defer factory.Close()
	fmt.Printf("%T\n", factory)
	// Output:
	// a store for TrainingSchool
	// *memory.Store
}

func ExampleOpen() {
	env := persistence.NewEnvironment("TrainingSchool", map[string]string{"TRAININGSCHOOL_PERSISTENCE_MODULE": "memry"}, nil)
	_, err := persistence.Open(env, "memory")

	problem, ok := errors.AsType[*persistence.SettingError](err)
	fmt.Println(ok, problem.Key, problem.Value)
	// Output:
	// true TRAININGSCHOOL_PERSISTENCE_MODULE memry
}

func ExampleNewEnvironment() {
	process := map[string]string{"CACHE_SIZE": "10", "MY_APP_CACHE_SIZE": "20", "VERBOSE": "maybe"}
	env := persistence.NewEnvironment("My App", map[string]string{"CACHE_SIZE": "30"}, func(key string) (string, bool) {
		value, ok := process[key]
		return value, ok
	})

	size, err := env.Int(0, 0, 1000, "CACHE_SIZE")
	fmt.Println(env.Prefix(), size, err)
	_, err = env.Bool(false, "VERBOSE")
	fmt.Println(err)
	// Output:
	// MY_APP_ 30 <nil>
	// VERBOSE: "maybe" is not a truth value; use y or n
}

// A mail must not be sent for an order that is rolled back.
func ExampleOnCommit() {
	ctx := context.Background()
	order := func(ctx context.Context) {
		persistence.OnCommit(ctx, func(context.Context) { fmt.Println("mail sent") })
		fmt.Println("ordered")
	}

	inside, transaction := persistence.NewTransaction(ctx) // a store does this
	order(inside)
	transaction.Committed(ctx)

	inside, transaction = persistence.NewTransaction(ctx)
	order(inside)
	transaction.RolledBack(ctx)

	order(ctx) // outside of a transaction the mail is sent at once
	// Output:
	// ordered
	// mail sent
	// ordered
	// mail sent
	// ordered
}

func ExampleMappingError() {
	mapper := persistence.NewMapper(persistence.MapperConfig{Application: "TrainingSchool", Transcoder: jsontranscoder.New(python.Transcodings()...)})
	if err := mapper.Add(Dogs.Schema); err != nil {
		log.Fatal(err)
	}

	_, err := mapper.ToDomain(persistence.StoredEvent{
		OriginatorID: DogID("Fido"), OriginatorVersion: 7, Topic: "Dog.TrickAdded", State: []byte(`{"trick":`),
	})
	if failure, ok := errors.AsType[*persistence.MappingError](err); ok {
		fmt.Println(failure.Stage, failure.Topic, failure.OriginatorVersion)
	}
	// Output:
	// decode Dog.TrickAdded 7
}
