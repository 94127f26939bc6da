package gormstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/pythontest"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// library is the stand-in for the Python library with the settings of a
// database.
func (f pythonFixture) library(t *testing.T, db *gorm.DB) *pythontest.Library {
	t.Helper()
	key := ""
	if f.cipher != "" {
		key = pythonKey
	}
	return pythontest.New(t, db, f.compressor, key)
}

// pyService is the Python program's service in Go: its two applications, in the
// Python layout.
type pyService struct {
	school   *application.Application
	dogs     *application.Repository[pyDog]
	visits   *application.Repository[pyVisit]
	counting *system.Follower
	counters *application.Repository[pyCounter]
}

func newPyService(t *testing.T, f pythonFixture, db *gorm.DB, options ...application.Option) *pyService {
	t.Helper()
	options = append([]application.Option{application.WithPythonLayout(), application.WithLogger(slog.New(slog.DiscardHandler)),
		application.WithSnapshotting(map[string]int{"Dog": 5})}, options...)
	school, counters := pyApplication(t, schoolName, f, db, options...), pyApplication(t, countersName, f, db, options...)
	s := &pyService{school: school, dogs: expect.Must(application.NewRepository(school, pyDogs)),
		visits: expect.Must(application.NewRepository(school, pyVisits)), counters: expect.Must(application.NewRepository(counters, pyCounters))}
	s.counting = expect.Must(system.NewFollower(counters, system.On(s.count)))
	return s
}

func (s *pyService) count(ctx context.Context, e domain.Recorded[pyTrickAdded]) error {
	id := domain.NewIDv5("/counters/" + e.Data.Trick)
	counter, err := s.counters.Get(ctx, id)
	if errors.Is(err, application.ErrAggregateNotFound) {
		counter, err = pyCounters.Create(id, pyCreated(e.Data)), nil
	}
	if err != nil {
		return err
	}
	domain.Trigger(counter, pyIncremented{})
	return s.counters.Save(ctx, counter)
}

func (s *pyService) system() *system.System {
	return expect.Must(system.New(system.Pipe(s.school, s.counting)))
}

// follow processes what there is to process.
func (s *pyService) follow(t *testing.T) {
	t.Helper()
	runner := expect.Must(system.NewSingleThreadedRunner(s.system()))
	defer runner.Close()
	if err := runner.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (s *pyService) addTricks(t *testing.T, name string, tricks ...string) {
	t.Helper()
	for _, trick := range tricks {
		err := s.dogs.Update(t.Context(), domain.NewIDv5("/dogs/"+name), func(d *pyDog) error {
			domain.Trigger(d, pyTrickAdded{trick})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// wantCounts fails the test unless each trick was counted so many times as it
// was added.
func (s *pyService) wantCounts(t *testing.T) {
	t.Helper()
	counts := map[string]int{}
	for _, n := range wholeLog(t, bridge.Of(s.school).Recorder()) {
		if added, ok := expect.Must(bridge.Of(s.school).Mapper().ToDomain(n.StoredEvent)).Data.(pyTrickAdded); ok {
			counts[added.Trick]++
		}
	}
	for trick, want := range counts {
		if counter, err := s.counters.Get(t.Context(), domain.NewIDv5("/counters/"+trick)); err != nil || counter.Count != want {
			t.Errorf("%q was counted %+v (%v), want %d", trick, counter, err, want)
		}
	}
}

// Rows that are written in the Python layout are read by the library, which
// rebuilds each aggregate at each version with snapshots and without, with the
// same values and types.
func TestPythonLibraryReads(t *testing.T) {
	eachPythonLibrary(t, func(t *testing.T, f pythonFixture, db *gorm.DB) {
		library, s := f.library(t, db), newPyService(t, f, db)
		before := library.Read(t)
		luna := pyDogs.Create(domain.NewIDv5("/dogs/Luna"), pyRegistered{"Luna"})
		if err := s.dogs.Save(t.Context(), luna); err != nil {
			t.Fatal(err)
		}
		s.addTricks(t, "Luna", "heel", "走れ 🐕", "it's \"both\" \\", "<&>\u2028", "")
		at := time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)
		visit := pyVisits.Create(uuid.New(), pyBooked{DogID: luna.ID(), At: at, Fee: "10.00", Notes: []string{"a", "b"}})
		domain.Trigger(visit, pyFeeChanged{"1E+3"})
		if err := s.visits.Save(t.Context(), visit); err != nil {
			t.Fatal(err)
		}
		s.follow(t)
		after := library.Read(t)
		if len(after.Events) != len(before.Events)+8+10 || len(after.Snapshots) != len(before.Snapshots)+1 {
			t.Errorf("%d events and %d snapshots were added, want 18 and 1", len(after.Events)-len(before.Events), len(after.Snapshots)-len(before.Snapshots))
		}
		want := map[string]string{
			luna.ID().String(): "Dog map[name:Luna tricks:[heel 走れ 🐕 it's \"both\" \\ <&>\u2028 ]]",
			visit.ID().String(): "Visit map[at:datetime 2024-02-29T23:59:59.123456+00:00 dog_id:UUID " + luna.ID().String() +
				" fee:Decimal Decimal('1E+3') notes:[a b]]",
			domain.NewIDv5("/counters/heel").String(): "Counter map[count:int 1 trick:heel]",
		}
		for _, a := range after.Aggregates {
			delete(a.State, "_created_on")
			delete(a.State, "_modified_on")
			if text := fmt.Sprint(a.Class, " ", a.State); want[a.Originator] == text {
				delete(want, a.Originator)
			} else if want[a.Originator] != "" {
				t.Errorf("the library has %s, want %s", text, want[a.Originator])
			}
		}
		if len(want) > 0 {
			t.Errorf("the library does not have %v", want)
		}
		position := after.Tracking[0]
		schools := 0
		for _, e := range after.Events {
			if e.Application == schoolName {
				schools++
			}
		}
		if position.Rows != int64(schools) {
			t.Errorf("the position has %d rows, want one for each of the %d notifications", position.Rows, schools)
		}
	})
}

// pyNamed is a dog in a program that lacks an attribute of the class in Python.
type pyNamed struct {
	domain.Aggregate
	Name string `json:"name"`
}

type pyNameGiven struct {
	Name string `json:"name"`
}

func (e pyNameGiven) Apply(d *pyNamed) { d.Name = e.Name }

type pyTrickIgnored struct {
	Trick string `json:"trick"`
}

func (pyTrickIgnored) Apply(*pyNamed) {}

var pyNamedDogs = domain.Define("Dog", domain.FormerName[pyNamed](pythonModule+"Dog"),
	domain.On("Registered", pyNameGiven{}), domain.On("TrickAdded", pyTrickIgnored{}))

// A state that lacks an attribute which the library's snapshots have is not
// written as a snapshot, of no dog: the library, which reads no events before
// it, would lose the attribute. It is said once. Without the library's snapshots
// it is written, and the library cannot use it.
func TestPythonSnapshotsKeepTheirFields(t *testing.T) {
	eachPythonLibrary(t, func(t *testing.T, f pythonFixture, db *gorm.DB) {
		library := f.library(t, db)
		open := func() (*application.Repository[pyNamed], *bytes.Buffer) {
			log := &bytes.Buffer{}
			app := pyApplication(t, schoolName, f, db, application.WithPythonLayout(), application.WithSnapshotting(map[string]int{"Dog": 2}),
				application.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
			return expect.Must(application.NewRepository(app, pyNamedDogs)), log
		}
		save := func(dogs *application.Repository[pyNamed], name string) {
			err := dogs.Update(t.Context(), domain.NewIDv5("/dogs/"+name), func(d *pyNamed) error {
				domain.Trigger(d, pyTrickIgnored{"sit"})
				domain.Trigger(d, pyTrickIgnored{"roll"})
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		dogs, log := open()
		before := count(t, db, "snapshots")
		save(dogs, "Bella") // who has snapshots of the library
		save(dogs, "Fido")
		if err := dogs.TakeSnapshot(t.Context(), domain.NewIDv5("/dogs/Rex")); err == nil || !strings.Contains(err.Error(), "tricks") {
			t.Errorf("got %v, want an error that names the field", err)
		}
		if got := count(t, db, "snapshots"); got != before {
			t.Errorf("%d snapshots were taken, want 0", got-before)
		}
		if got := strings.Count(log.String(), "the fields tricks, which the program's state lacks"); got != 1 {
			t.Errorf("the log has the field %d times, want once: %s", got, log)
		}
		library.Read(t)
		if err := db.Exec("DELETE FROM snapshots").Error; err != nil {
			t.Fatal(err)
		}
		dogs, _ = open()
		save(dogs, "Fido")
		if output, err := library.Run(t.Context(), "read"); err == nil || !strings.Contains(err.Error(), "from a snapshot") {
			t.Errorf("the library has read a snapshot without an attribute: %v, %s, want an error that contains %q", err, output, "from a snapshot")
		}
	})
}

// By turns, the library and this module write and follow, three rounds: each
// event is processed once, and both see the same.
func TestPythonByTurns(t *testing.T) {
	eachPythonLibrary(t, func(t *testing.T, f pythonFixture, db *gorm.DB) {
		library, s := f.library(t, db), newPyService(t, f, db)
		library.Call(t, "register", "Turn")
		for round := range 3 {
			n := strconv.Itoa(round)
			library.Call(t, "add_tricks", "Turn", "sit", "python "+n)
			s.addTricks(t, "Turn", "sit", "go "+n)
			if round%2 == 0 {
				library.Call(t, "follow")
				s.addTricks(t, "Turn", "late "+n)
				library.Call(t, "snapshot", "Turn")
				s.follow(t)
			} else {
				s.follow(t)
				library.Call(t, "add_tricks", "Turn", "late "+n)
				library.Call(t, "follow")
			}
		}
		s.wantCounts(t)
		contents := library.Read(t)
		turn := expect.Must(s.dogs.Get(t.Context(), domain.NewIDv5("/dogs/Turn")))
		for _, a := range contents.Aggregates {
			if a.Originator == turn.ID().String() && fmt.Sprint(a.State["tricks"]) != fmt.Sprint(turn.Tricks) {
				t.Errorf("the library has %v, and this module %v", a.State["tricks"], turn.Tricks)
			}
		}
		wantSound(t, s.school, s.counting.Application)
	})
}

// pyOdd is an aggregate with values of all kinds.
type pyOdd struct {
	domain.Aggregate
	Values pyValues `json:"values"`
}

type pyValues struct {
	Whole   int            `json:"whole"`
	Float   float64        `json:"float"`
	NaN     float64        `json:"nan"`
	Large   *big.Int       `json:"large"`
	Fee     python.Decimal `json:"fee"`
	At      time.Time      `json:"at"`
	Naive   time.Time      `json:"naive"`
	Strings []string       `json:"strings"`
	Map     map[string]any `json:"map"`
	ID      uuid.UUID      `json:"id"`
	Yes     bool           `json:"yes"`
	None    *int           `json:"none"`
}

func (e pyValues) Apply(o *pyOdd) { o.Values = e }

var pyOdds = domain.Define("zoo.domain:Odd", domain.On("Seen", pyValues{}))

// The library finds values of the types that it has for those of Go, and Go
// reads what it has written.
func TestPythonLibraryReadsValues(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB) *gorm.DB{"sqlite": testdb.SQLiteFile, "postgres": testdb.OpenPostgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantValuesInPython(t, created(t, open(t)))
		})
	}
}

func wantValuesInPython(t *testing.T, db *gorm.DB) {
	t.Helper()
	app := expect.Must(application.New("Zoo", application.WithStore(gormstore.New(db)), application.WithPythonLayout()))
	odds := expect.Must(application.NewRepository(app, pyOdds))
	id := uuid.MustParse("1e1d7398-8986-57af-bb01-11a89b2f8b02")
	values := pyValues{Whole: 1, Float: 1, NaN: math.NaN(), Large: new(big.Int).Lsh(big.NewInt(1), 64), Fee: "-Infinity",
		At: time.Date(2024, 1, 2, 3, 4, 5, 0, time.FixedZone("", -12600)), Naive: time.Date(2024, 1, 2, 3, 4, 5, 0, python.Naive),
		Map: map[string]any{"float": 1e16, "whole": int64(1), "large": new(big.Int).SetUint64(1 << 63), "id": id}, ID: id, Yes: true}
	odd := pyOdds.Create(id, values)
	if err := odds.Save(t.Context(), odd); err != nil {
		t.Fatal(err)
	}
	var states []map[string]any
	pythontest.Decode(t, pythontest.New(t, db, "", "").Call(t, "values"), &states)
	delete(states[0], "timestamp")
	want := map[string]any{"whole": "int 1", "float": "float 1.0", "nan": "float nan", "large": "int 18446744073709551616",
		"fee": "Decimal Decimal('-Infinity')", "at": "datetime 2024-01-02T06:34:05+00:00", "naive": "datetime 2024-01-02T03:04:05",
		"strings": []any{}, "yes": "bool True", "none": nil, "id": "UUID " + id.String(), "originator_topic": "zoo.domain:Odd",
		"map": map[string]any{"float": "float 1e+16", "whole": "int 1", "large": "int 9223372036854775808", "id": "UUID " + id.String()}}
	if !reflect.DeepEqual(states[0], want) {
		t.Errorf("the library has %v, want %v", states[0], want)
	}
	got := expect.Must(odds.Get(t.Context(), id)).Values
	if !math.IsNaN(got.NaN) || got.Large.Cmp(values.Large) != 0 || got.Naive.Location() != python.Naive || !got.At.Equal(values.At) ||
		!reflect.DeepEqual(got.Map, values.Map) || got.Fee.IsFinite() {
		t.Errorf("Go reads %+v", got)
	}
}

// notificationTracker is a recorder that keeps positions as the library does.
type notificationTracker interface {
	TrackNotifications(ctx context.Context, from int64, to persistence.Tracking, ids []int64) error
}
