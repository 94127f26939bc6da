package gormstore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb/pgproxy"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// sentStatements records what is sent to a server of PostgreSQL. Nothing is
// pipelined, so each statement is a round trip.
type sentStatements struct {
	mu   sync.Mutex // protects sent
	sent []string
}

func (s *sentStatements) rule(statement string) pgproxy.Action {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, strings.Join(strings.Fields(statement), " "))
	return pgproxy.Forward
}

// of returns what an operation sends. It runs twice: the first run prepares
// statements and finds tables.
func (s *sentStatements) of(t *testing.T, operation func() error) []string {
	t.Helper()
	for range 2 {
		s.mu.Lock()
		s.sent = nil
		s.mu.Unlock()
		if err := operation(); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// The latency of an operation over a network is that of its round trips, so
// there are no more of them than it needs.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	truth := testdb.OpenPostgresSchema(t)
	var s sentStatements
	proxy := pgproxy.New(t, dsn(t, truth))
	db := testdb.Open(t, dialector("postgres", proxy.DSN()))
	if pool, err := db.DB(); err != nil {
		t.Fatal(err)
	} else {
		pool.SetMaxIdleConns(4)
	}
	store := gormstore.New(db)
	snapshotting := application.WithSnapshotting(map[string]int{"": 3})
	dogs, snapshots := expect.Must(school.New(application.WithStore(store))), expect.Must(application.New("Kennel", application.WithStore(store), snapshotting))
	pets := expect.Must(application.NewRepository(snapshots, school.Dogs))
	none := func(context.Context, *gorm.DB, domain.Recorded[school.TrickAdded]) error { return nil }
	projection := expect.Must(gormstore.NewProjection("P", store, gormstore.On(none)))
	runner := expect.Must(system.NewSingleThreadedRunner(expect.Must(system.New(system.Pipe(dogs, projection)))))
	defer runner.Close()
	if err := gormstore.AutoMigrate(db); err != nil {
		t.Fatal(err)
	}
	proxy.Use(s.rule)
	ctx := t.Context()
	register := func(ctx context.Context) error { return dogs.Register(ctx, uuid.NewString()) }
	if err := register(ctx); err != nil {
		t.Fatal(err)
	}
	pet := school.RegisterDog("Fido")
	for range 4 {
		pet.AddTrick("sit")
	}
	if err := pets.Save(ctx, pet); err != nil {
		t.Fatal(err)
	}
	if err := dogs.Register(ctx, "Rex"); err != nil {
		t.Fatal(err)
	}
	check := func(name string, most int, operation func() error) {
		t.Helper()
		if sent := s.of(t, operation); len(sent) > most {
			t.Errorf("%s: %d round trips, want at most %d:\n%s", name, len(sent), most, strings.Join(sent, "\n"))
		}
	}
	check("a save", 1, func() error { return register(ctx) })
	check("a save in a transaction", 3, func() error {
		return gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error { return register(ctx) })
	})
	check("a load", 1, func() error { _, err := dogs.Tricks(ctx, "Rex"); return err })
	check("a load with a snapshot", 1, func() error { _, err := pets.Get(ctx, school.DogID("Fido")); return err })
	check("a save and its snapshot", 5, func() error {
		pet := school.RegisterDog(uuid.NewString())
		pet.AddTrick("a")
		pet.AddTrick("b")
		return pets.Save(ctx, pet)
	})
	if err := runner.Start(ctx); err != nil {
		t.Fatal(err)
	}
	check("a load, a save, a batch and a look for more", 2+8+2, func() error { return dogs.AddTrick(ctx, "Rex", "sit") })
}

// A follower that is behind needs seven round trips for a batch in which its
// handlers send nothing: the end of the log, the events, BEGIN, the lock, what
// it protects, the new position, COMMIT.
func TestRoundTripsOfABacklog(t *testing.T) {
	t.Parallel()
	truth := testdb.OpenPostgresSchema(t)
	var s sentStatements
	proxy := pgproxy.New(t, dsn(t, truth))
	db := testdb.Open(t, dialector("postgres", proxy.DSN()))
	if err := gormstore.AutoMigrate(db); err != nil {
		t.Fatal(err)
	}
	store := gormstore.New(db)
	dogs := expect.Must(school.New(application.WithStore(store)))
	const batches, measured, others = 40, 30, 10 // others are for statuses
	for range batches {
		if err := dogs.Register(t.Context(), uuid.NewString()); err != nil {
			t.Fatal(err)
		}
	}
	handled := func(context.Context, *gorm.DB, domain.Recorded[school.Registered]) error { return nil }
	projection := expect.Must(gormstore.NewProjection("P", store, gormstore.On(handled)))
	runner := expect.Must(system.NewRunner(expect.Must(system.New(system.Pipe(dogs, projection))), system.Config{BatchEvents: 1}))
	proxy.Use(s.rule)
	defer runner.Close()
	if err := errors.Join(runner.Start(t.Context()), runner.WaitFor(t.Context(), projection)); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	sent := s.sent
	s.mu.Unlock()
	var begins []int
	for i, statement := range sent {
		if strings.HasPrefix(statement, "begin") {
			begins = append(begins, i)
		}
	}
	if len(begins) < batches {
		t.Fatalf("%d transactions for %d batches, want one or more for each", len(begins), batches)
	}
	last := sent[begins[len(begins)-1-measured]:begins[len(begins)-1]]
	if most := 7*measured + others; len(last) > most {
		t.Errorf("%d batches took %d round trips, want at most %d:\n%s", measured, len(last), most, strings.Join(last, "\n"))
	}
}
