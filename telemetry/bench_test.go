package telemetry_test

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// observers are what a benchmark compares: no observer, which is to cost
// nothing, and one that has every function and does nothing.
var observers = map[string]*telemetry.Observer{
	"none": nil,
	"all": {
		SaveStart: func(ctx context.Context, _ telemetry.Save) context.Context { return ctx },
		SaveDone:  func(context.Context, telemetry.Save) {},
		LoadStart: func(ctx context.Context, _ telemetry.Load) context.Context { return ctx },
		LoadDone:  func(context.Context, telemetry.Load) {},
		Metadata:  func(context.Context) domain.Metadata { return nil },
	},
}

// benchmarked is an aggregate that is cheap to save and to load, so that what is
// around it shows.
type benchmarked struct {
	domain.Aggregate
	Sum int
}

type added struct{ N int }

func (a added) Apply(b *benchmarked) { b.Sum += a.N }

var benchmarkedDefinition = domain.Define("Benchmarked", domain.On("Added", added{}))

// BenchmarkObserver saves and loads with and without an observer: in memory,
// which is so fast that the cost of the observer shows, and on SQLite.
func BenchmarkObserver(b *testing.B) {
	for _, observer := range []string{"none", "all"} {
		for _, store := range []string{"memory", "sqlite"} {
			options := func(b *testing.B, more ...application.Option) []application.Option {
				options := append(more, application.WithObserver(observers[observer]))
				if store == "memory" {
					return append(options, application.WithStore(memory.New()))
				}
				db := testdb.SQLiteFile(b)
				if err := gormstore.AutoMigrate(db); err != nil {
					b.Fatal(err)
				}
				return append(options, application.WithStore(gormstore.New(db)))
			}
			name := "store=" + store + "/observer=" + observer
			b.Run("row=save/"+name, func(b *testing.B) { benchmarkSave(b, options(b)) })
			b.Run("row=load/"+name, func(b *testing.B) { benchmarkLoad(b, options(b)) })
			b.Run("row=cached/"+name, func(b *testing.B) {
				benchmarkLoad(b, options(b, application.WithEnv(map[string]string{"AGGREGATE_CACHE_MAXSIZE": "100", "AGGREGATE_CACHE_FASTFORWARD": "n"})))
			})
		}
	}
}

func newBenchmarked(b *testing.B, options []application.Option) *application.Repository[benchmarked] {
	b.Helper()
	app, err := application.New("Bench", options...)
	if err != nil {
		b.Fatal(err)
	}
	repository, err := application.NewRepository(app, benchmarkedDefinition)
	if err != nil {
		b.Fatal(err)
	}
	return repository
}

func benchmarkSave(b *testing.B, options []application.Option) {
	repository, ctx := newBenchmarked(b, options), context.Background()
	b.ReportAllocs()
	var aggregate *benchmarked
	for i := 0; b.Loop(); i++ {
		if i%100 == 0 {
			aggregate = benchmarkedDefinition.Create(uuid.New(), added{1})
		} else {
			domain.Trigger(aggregate, added{1})
		}
		if err := repository.Save(ctx, aggregate); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkLoad(b *testing.B, options []application.Option) {
	repository, ctx := newBenchmarked(b, options), context.Background()
	id := uuid.New()
	aggregate := benchmarkedDefinition.Create(id, added{1})
	for range 9 {
		domain.Trigger(aggregate, added{1})
	}
	if err := repository.Save(ctx, aggregate); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := repository.Get(ctx, id); err != nil {
			b.Fatal(err)
		}
	}
}
