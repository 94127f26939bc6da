package system_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// Trick is an aggregate: how many dogs know a trick.
type Trick struct {
	domain.Aggregate
	Dogs int
}

// Learned says that one more dog knows the trick.
type Learned struct{}

// Apply counts the dog.
func (Learned) Apply(t *Trick) { t.Dogs++ }

// Tricks gives the aggregate and its event their stored names.
var Tricks = domain.Define("Trick", domain.On("Learned", Learned{}))

// TrickID makes the id of a trick out of its name.
func TrickID(name string) domain.ID { return domain.NewIDv5("/tricks/" + name) }

// Popularity is a follower of the training school that makes events of its own.
type Popularity struct {
	*application.Application
	tricks *application.Repository[Trick]
}

// NewPopularity makes the application.
func NewPopularity(options ...application.Option) (*Popularity, error) {
	app, err := application.New("Popularity", options...)
	if err != nil {
		return nil, err
	}
	return &Popularity{Application: app, tricks: application.NewRepository(app, Tricks)}, nil
}

// Policy counts the dogs that learn a trick.
func (p *Popularity) Policy(ctx context.Context, event domain.Event, processing *application.ProcessingEvent) error {
	added, ok := event.Data.(school.TrickAdded)
	if !ok {
		return nil
	}
	trick, err := p.tricks.Get(ctx, TrickID(added.Trick))
	switch {
	case errors.Is(err, application.ErrAggregateNotFound):
		trick = Tricks.Create(TrickID(added.Trick), Learned{})
	case err != nil:
		return err
	default:
		domain.Trigger(trick, Learned{})
	}
	processing.Collect(trick)
	return nil
}

// Dogs returns how many dogs know a trick.
func (p *Popularity) Dogs(ctx context.Context, trick string) (int, error) {
	found, err := p.tricks.Get(ctx, TrickID(trick))
	if err != nil {
		return 0, err
	}
	return found.Dogs, nil
}

// For tests and commands: what a save recorded is processed when the save returns.
func ExampleNewSingleThreadedRunner() {
	ctx := context.Background()
	sys, err := system.New(system.Pipe(
		system.App("TrainingSchool", school.New),
		system.App("Popularity", NewPopularity),
	))
	if err != nil {
		log.Fatal(err)
	}
	runner, err := system.NewSingleThreadedRunner(sys)
	if err != nil {
		log.Fatal(err)
	}
	defer runner.Close()
	dogs, err := system.Get[*school.TrainingSchool](runner)
	if err != nil {
		log.Fatal(err)
	}
	popularity, err := system.Get[*Popularity](runner)
	if err != nil {
		log.Fatal(err)
	}

	if err := runner.Start(ctx); err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"Fido", "Rex"} {
		if err := errors.Join(dogs.Register(ctx, name), dogs.AddTrick(ctx, name, "roll over")); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(popularity.Dogs(ctx, "roll over"))
	// Output: 2 <nil>
}

// For services: followers run in the background until ctx ends. Whoever has saved can wait for a follower to get there,
// here in the way that works in every process.
func ExampleNewRunner() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	sys, err := system.New(system.Pipe(
		system.App("TrainingSchool", school.New),
		system.App("Popularity", NewPopularity),
	))
	if err != nil {
		log.Fatal(err)
	}
	runner, err := system.NewRunner(sys)
	if err != nil {
		log.Fatal(err)
	}
	dogs, err := system.Get[*school.TrainingSchool](runner)
	if err != nil {
		log.Fatal(err)
	}
	popularity, err := system.Get[*Popularity](runner)
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- runner.Run(ctx) }()

	dog := school.RegisterDog("Fido")
	dog.AddTrick("roll over")
	recordings, err := dogs.Save(ctx, dog)
	if err != nil {
		log.Fatal(err)
	}
	last := recordings[len(recordings)-1].Notification.ID
	if err := persistence.WaitFor(ctx, popularity.Recorder(), "TrainingSchool", last); err != nil {
		log.Fatal(err)
	}
	fmt.Println(popularity.Dogs(ctx, "roll over"))

	cancel()
	fmt.Println("ended:", <-ended)
	// Output:
	// 1 <nil>
	// ended: <nil>
}

// The applications are found by their type.
func ExampleGet() {
	sys, err := system.New(system.Pipe(
		system.App("TrainingSchool", school.New),
		system.App("Popularity", NewPopularity),
	))
	if err != nil {
		log.Fatal(err)
	}
	runner, err := system.NewSingleThreadedRunner(sys)
	if err != nil {
		log.Fatal(err)
	}
	defer runner.Close()

	popularity, err := system.Get[*Popularity](runner)
	fmt.Println(popularity.Name(), err)
	_, err = system.Get[*TrickCounts](runner)
	fmt.Println(err)
	// Output:
	// Popularity <nil>
	// system: the runner has 0 applications of type *system_test.TrickCounts, where one was asked for
}

// TrickCount is a row of the service's own table.
type TrickCount struct {
	Trick string `gorm:"primaryKey"`
	N     int
}

// TrickCounts is a follower whose view is that table.
type TrickCounts struct{ *application.Application }

// What a follower can do beside its policy is optional, and a method with a wrong signature would be overlooked.
var _ system.TopicFilter = (*TrickCounts)(nil)

// NewTrickCounts makes the application.
func NewTrickCounts(options ...application.Option) (*TrickCounts, error) {
	app, err := application.New("TrickCounts", options...)
	return &TrickCounts{Application: app}, err
}

// Topics has the policy called for tricks only.
func (*TrickCounts) Topics() []string { return []string{"Dog.TrickAdded"} }

// Policy counts a trick, in the transaction that moves the follower's position.
func (*TrickCounts) Policy(ctx context.Context, event domain.Event, _ *application.ProcessingEvent) error {
	tx, err := gormstore.Tx(ctx)
	if err != nil {
		return err
	}
	oneMore := clause.OnConflict{
		Columns:   []clause.Column{{Name: "trick"}},
		DoUpdates: clause.Assignments(map[string]any{"n": gorm.Expr("trick_counts.n + 1")}),
	}
	return tx.Clauses(oneMore).Create(&TrickCount{Trick: event.Data.(school.TrickAdded).Trick, N: 1}).Error
}

// A save and a read of what a follower has made of it, from one end to the other.
func ExampleRunner_WaitFor() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	folder, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	db, err := gormstore.OpenSQLite(sqlite.Open, filepath.Join(folder, "example.sqlite3"))
	if err != nil {
		log.Fatal(err)
	}
	if pool, err := db.DB(); err == nil {
		defer pool.Close()
	}
	if err := errors.Join(gormstore.AutoMigrate(db), db.AutoMigrate(&TrickCount{})); err != nil {
		log.Fatal(err)
	}
	sys, err := system.New(system.Pipe(
		system.App("TrainingSchool", school.New),
		system.App("TrickCounts", NewTrickCounts),
	))
	if err != nil {
		log.Fatal(err)
	}
	runner, err := system.NewRunner(sys, application.WithStore(gormstore.New(db)))
	if err != nil {
		log.Fatal(err)
	}
	defer runner.Close()
	dogs, err := system.Get[*school.TrainingSchool](runner)
	if err != nil {
		log.Fatal(err)
	}
	if err := runner.Start(ctx); err != nil {
		log.Fatal(err)
	}

	dog := school.RegisterDog("Fido")
	dog.AddTrick("roll over")
	recordings, err := dogs.Save(ctx, dog)
	if err != nil {
		log.Fatal(err)
	}
	last := recordings[len(recordings)-1].Notification.ID
	if err := runner.WaitFor(ctx, "TrickCounts", "TrainingSchool", last); err != nil {
		log.Fatal(err)
	}
	var counts []TrickCount
	if err := db.Find(&counts).Error; err != nil {
		log.Fatal(err)
	}
	fmt.Println(counts)
	// Output: [{roll over 1}]
}

// TestTrickCounts is the test that the documentation of the package shows.
func TestTrickCounts(t *testing.T) {
	db, err := gormstore.OpenSQLite(sqlite.Open, filepath.Join(t.TempDir(), "test.sqlite3"))
	if err != nil {
		t.Fatal(err)
	}
	if pool, err := db.DB(); err == nil {
		defer pool.Close()
	}
	if err := errors.Join(gormstore.AutoMigrate(db), db.AutoMigrate(&TrickCount{})); err != nil {
		t.Fatal(err)
	}
	sys, err := system.New(system.Pipe(
		system.App("TrainingSchool", school.New),
		system.App("TrickCounts", NewTrickCounts),
	))
	if err != nil {
		t.Fatal(err)
	}
	runner, err := system.NewSingleThreadedRunner(sys, application.WithStore(gormstore.New(db)))
	if err != nil {
		t.Fatal(err)
	}
	defer runner.Close()
	dogs, err := system.Get[*school.TrainingSchool](runner)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(runner.Start(t.Context()), dogs.Register(t.Context(), "Fido"), dogs.AddTrick(t.Context(), "Fido", "sit"))
	if err := errors.Join(err, runner.Err()); err != nil { // the saves do not fail when the follower does
		t.Fatal(err)
	}
	var count TrickCount
	if err := db.Take(&count, "trick = ?", "sit").Error; err != nil || count.N != 1 {
		t.Errorf("got %+v, %v", count, err)
	}
}

// A projection: the follower's view is a table of the service's own, which has each event's effect exactly once.
func Example_projection() {
	ctx := context.Background()
	folder, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	db, err := gormstore.OpenSQLite(sqlite.Open, filepath.Join(folder, "example.sqlite3"))
	if err != nil {
		log.Fatal(err)
	}
	if pool, err := db.DB(); err == nil {
		defer pool.Close()
	}
	if err := errors.Join(gormstore.AutoMigrate(db), db.AutoMigrate(&TrickCount{})); err != nil {
		log.Fatal(err)
	}

	sys, err := system.New(system.Pipe(
		system.App("TrainingSchool", school.New),
		system.App("TrickCounts", NewTrickCounts),
	))
	if err != nil {
		log.Fatal(err)
	}
	runner, err := system.NewSingleThreadedRunner(sys, application.WithStore(gormstore.New(db)))
	if err != nil {
		log.Fatal(err)
	}
	defer runner.Close()
	dogs, err := system.Get[*school.TrainingSchool](runner)
	if err != nil {
		log.Fatal(err)
	}

	if err := runner.Start(ctx); err != nil {
		log.Fatal(err)
	}
	err = errors.Join(
		dogs.Register(ctx, "Fido"), dogs.AddTrick(ctx, "Fido", "roll over"),
		dogs.Register(ctx, "Rex"), dogs.AddTrick(ctx, "Rex", "roll over"), dogs.AddTrick(ctx, "Rex", "fetch ball"),
	)
	if err != nil {
		log.Fatal(err)
	}
	var counts []TrickCount
	if err := db.Order("trick").Find(&counts).Error; err != nil {
		log.Fatal(err)
	}
	fmt.Println(counts, runner.Err())
	// Output: [{fetch ball 1} {roll over 2}] <nil>
}
