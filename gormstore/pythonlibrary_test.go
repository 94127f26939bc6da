package gormstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
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
	if err := runner.Sync(t.Context()); err != nil {
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
	eachPythonFixture(t, func(t *testing.T, f pythonFixture, db *gorm.DB) {
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
	eachPythonFixture(t, func(t *testing.T, f pythonFixture, db *gorm.DB) {
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
			t.Errorf("%d snapshots were taken", got-before)
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
			t.Errorf("the library has read a snapshot without an attribute: %v, %s", err, output)
		}
	})
}

// By turns, the library and this module write and follow, three rounds: each
// event is processed once, and both see the same.
func TestPythonByTurns(t *testing.T) {
	eachPythonFixture(t, func(t *testing.T, f pythonFixture, db *gorm.DB) {
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

// sharedPythonFixtures are a database of each kind.
var sharedPythonFixtures = []pythonFixture{pythonFixtures[0], pythonFixtures[4]}

// A follower that the library and this module run at the same time processes
// each event exactly once.
func TestPythonFollowerOnBothSides(t *testing.T) {
	t.Parallel()
	for _, f := range sharedPythonFixtures {
		t.Run(f.file, func(t *testing.T) {
			t.Parallel()
			for range testdb.Figure(2, 10) {
				for _, command := range []string{"follow", "sync"} {
					if wrong := followOnBothSides(t, f, f.open(t), command); len(wrong) > 0 {
						t.Errorf("%d events were not processed once beside %s: %v", len(wrong), command, wrong)
					}
				}
			}
		})
	}
}

// The control: a position that is moved without a row for each notification
// lets the library process events again.
func TestPythonFollowerOnBothSidesControl(t *testing.T) {
	t.Parallel()
	for _, f := range sharedPythonFixtures {
		t.Run(f.file, func(t *testing.T) {
			t.Parallel()
			db := f.open(t)
			for range 20 {
				store := onePosition{gormstore.New(db)}
				if wrong := followOnBothSides(t, f, db, "follow", application.WithStore(store)); len(wrong) > 0 {
					t.Logf("%d events were not processed once", len(wrong))
					return
				}
			}
			t.Error("each event was processed once: the test proves nothing")
		})
	}
}

// onePosition is a store that keeps a position in one row.
type onePosition struct{ *gormstore.Store }

func (s onePosition) PythonProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	return s.ProcessRecorder(application)
}

// followOnBothSides has a follower run on both sides at once, whose effect is an
// aggregate for each event: no version keeps it from being made twice. The
// command of the library is follow, with a transaction for each event, or sync,
// with one for all. It returns the events that have not had their effect once,
// with how often they had it.
func followOnBothSides(t *testing.T, f pythonFixture, db *gorm.DB, command string, options ...application.Option) map[string]int {
	t.Helper()
	library, s := f.library(t, db), newPyService(t, f, db, options...)
	s.counting = expect.Must(system.NewFollower(s.counting.Application, system.OnEvery(countEach(s.counters))))
	runner := expect.Must(system.NewRunner(s.system(), system.Config{PollInterval: time.Millisecond, BatchEvents: 20}))
	if err := runner.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer runner.Close()
	stop, begin := filepath.Join(t.TempDir(), "stop"), expect.Must(bridge.Of(s.school).Recorder().MaxNotificationID(t.Context()))
	ended := make(chan error, 1)
	var output []byte
	go func() {
		var err error
		output, err = library.Run(t.Context(), command, stop, "each")
		ended <- err
	}()
	var last int64
	for range 30 {
		dog := pyDogs.Create(uuid.New(), pyRegistered{"Rex"})
		for range 4 {
			domain.Trigger(dog, pyTrickAdded{"sit"})
		}
		saved, err := s.school.Save(t.Context(), dog)
		if err != nil {
			t.Fatal(err)
		}
		last = saved.Position
		time.Sleep(5 * time.Millisecond) // both sides have the time to begin
	}
	err := error(nil)
	if !eventually(func() bool {
		err = runner.WaitForPosition(t.Context(), s.counting, s.school, last)
		return err == nil || len(options) == 0 // without its guard the follower fails for a while
	}) || err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stop, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	t.Logf("the library: %s", output)
	return s.notOnce(t, begin)
}

// notOnce returns the events after a position that have not had their effect
// once.
func (s *pyService) notOnce(t *testing.T, after int64) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, n := range wholeLog(t, bridge.Of(s.school).Recorder()) {
		if n.ID > after {
			counts[strconv.FormatInt(n.ID, 10)] = 0
		}
	}
	for _, n := range wholeLog(t, bridge.Of(s.counting.Application).Recorder()) {
		created, ok := expect.Must(bridge.Of(s.counting.Application).Mapper().ToDomain(n.StoredEvent)).Data.(pyCreated)
		if _, number := strconv.Atoi(created.Trick); ok && number == nil {
			counts[created.Trick]++
		}
	}
	maps.DeleteFunc(counts, func(id string, n int) bool { return n == 1 })
	return counts
}

// A follower that moves its position otherwise than the library, which has moved
// it last, says so. Once it has moved the position itself it is silent, and so is
// one that moves it as the library does.
func TestPythonPositionIsReported(t *testing.T) {
	t.Parallel()
	for _, f := range sharedPythonFixtures {
		t.Run(f.file, func(t *testing.T) {
			t.Parallel()
			db := f.open(t)
			library, s := f.library(t, db), newPyService(t, f, db)
			run := func(options ...application.Option) (log string) {
				var text bytes.Buffer
				options = append(options, application.WithLogger(slog.New(slog.NewTextHandler(&text, nil))))
				app := pyApplication(t, countersName, f, db, options...)
				nothing := func(context.Context, domain.Event) error { return nil }
				runner := expect.Must(system.NewSingleThreadedRunner(expect.Must(system.New(system.Pipe(s.school, expect.Must(system.NewFollower(app, system.OnEvery(nothing))))))))
				defer runner.Close()
				if err := errors.Join(runner.Start(t.Context()), runner.Sync(t.Context())); err != nil {
					t.Fatal(err)
				}
				return text.String()
			}
			const warning = "the position was last moved by the Python library"
			s.addTricks(t, "Fido", "sit", "roll")
			library.Call(t, "follow")
			if got := run(application.WithPythonLayout()); strings.Contains(got, warning) {
				t.Errorf("with the Python layout: %s", got)
			}
			s.addTricks(t, "Fido", "beg")
			if got := run(); strings.Count(got, warning) != 1 {
				t.Errorf("without it: %s, want a warning", got)
			}
			if got := run(); strings.Contains(got, warning) {
				t.Errorf("again: %s", got)
			}
		})
	}
}

// A projection, whose store is given in code, keeps its position as the library
// does if its application has the Python layout.
func TestPythonPositionOfAProjection(t *testing.T) {
	t.Parallel()
	for _, f := range sharedPythonFixtures {
		t.Run(f.file, func(t *testing.T) {
			t.Parallel()
			db := f.open(t)
			s := newPyService(t, f, db)
			p := expect.Must(gormstore.NewProjection("Watch", gormstore.New(db), gormstore.WithApplication(application.WithPythonLayout()),
				gormstore.On(func(context.Context, *gorm.DB, domain.Recorded[pyTrickAdded]) error { return nil })))
			runner := expect.Must(system.NewSingleThreadedRunner(expect.Must(system.New(system.Pipe(s.school, p)))))
			defer runner.Close()
			if err := errors.Join(runner.Start(t.Context()), runner.Sync(t.Context())); err != nil {
				t.Fatal(err)
			}
			var rows int64
			if err := db.Raw("SELECT COUNT(*) FROM notification_tracking WHERE application_name = 'Watch'").Scan(&rows).Error; err != nil {
				t.Fatal(err)
			}
			if want := len(wholeLog(t, bridge.Of(s.school).Recorder())); rows != int64(want) {
				t.Errorf("the position has %d rows, want one for each of the %d events", rows, want)
			}
		})
	}
}

// What the library has processed since a batch was read is noticed although its
// transaction has not ended: nothing of the batch is stored.
func TestPythonPositionThatIsNotCommitted(t *testing.T) {
	t.Parallel()
	f := pythonFixtures[4]
	db := f.open(t)
	s := newPyService(t, f, db)
	tracker := bridge.Of(s.counting.Application).Recorder().(notificationTracker)
	s.addTricks(t, "Fido", "sit", "roll")
	position := expect.Must(tracker.(persistence.ProcessRecorder).MaxTrackingID(t.Context(), schoolName))
	head := expect.Must(bridge.Of(s.school).Recorder().MaxNotificationID(t.Context()))
	tx := db.Begin()
	defer tx.Rollback()
	row := gormstore.NotificationTracking{ApplicationName: countersName, UpstreamApplicationName: schoolName, NotificationID: head - 1}
	if err := tx.Create(&row).Error; err != nil {
		t.Fatal(err)
	}
	moved := make(chan error)
	go func() {
		moved <- tracker.TrackNotifications(t.Context(), position, persistence.Tracking{ApplicationName: schoolName, NotificationID: head}, nil)
	}()
	waiting := func() (n int64) {
		db.Raw("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'").Scan(&n)
		return n
	}
	if !eventually(func() bool { return waiting() > 0 }) {
		t.Fatal("the move does not wait for the row that is not committed")
	}
	if err := tx.Commit().Error; err != nil {
		t.Fatal(err)
	}
	if _, ok := errors.AsType[*persistence.TrackingError](<-moved); !ok {
		t.Error("the move succeeded, want a *TrackingError")
	}
	if got := expect.Must(tracker.(persistence.ProcessRecorder).MaxTrackingID(t.Context(), schoolName)); got != head-1 {
		t.Errorf("the position is %d, want that of the library, %d", got, head-1)
	}
}

// The rows of a position are those of all notifications that were passed, of a
// log in another database those that were processed.
func TestPythonPositionRows(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		leader := recorder(t, db, schoolName)
		ids := insert(t, leader, history(uuid.New(), 1, 5)...)
		insert(t, recorder(t, db, "Other"), history(uuid.New(), 1, 2)...)
		r := expect.Must(gormstore.New(db).PythonProcessRecorder(countersName)).(notificationTracker)
		track := func(from, to int64, upstream string, processed ...int64) error {
			return r.TrackNotifications(t.Context(), from, persistence.Tracking{ApplicationName: upstream, NotificationID: to}, processed)
		}
		rows := func(upstream string) (found []int64) {
			err := db.Raw("SELECT notification_id FROM notification_tracking WHERE upstream_application_name = ? ORDER BY 1", upstream).Scan(&found).Error
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		if err := errors.Join(track(0, ids[1], schoolName), track(ids[1], ids[4]+1, schoolName, ids[3])); err != nil {
			t.Fatal(err)
		}
		if got, want := rows(schoolName), append(slices.Clone(ids), ids[4]+1); !slices.Equal(got, want) {
			t.Errorf("the rows are %v, want %v", got, want)
		}
		if err := track(ids[1], ids[4]+9, schoolName); err == nil {
			t.Error("a position was moved from where it was, want a *TrackingError")
		}
		if err := errors.Join(track(0, 40, "Elsewhere", 7, 31), track(40, 41, "Elsewhere", 41)); err != nil {
			t.Fatal(err)
		}
		if got := rows("Elsewhere"); !slices.Equal(got, []int64{7, 31, 40, 41}) {
			t.Errorf("the rows of a log in another database are %v", got)
		}
		if err := db.Exec("DELETE FROM notification_tracking WHERE notification_id > 31 AND upstream_application_name = 'Elsewhere'").Error; err != nil {
			t.Fatal(err)
		}
		if err := track(31, 50, "Elsewhere", 31); err == nil {
			t.Error("a notification that was processed before was processed again, want a *TrackingError")
		}
	})
}

// A log that a follower has locked keeps out the Python library as well, which
// knows no order lock.
func TestPythonLockLog(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	other := again(t, db)
	r := expect.Must(gormstore.New(db).PythonProcessRecorder(schoolName))
	libraryLocks := func() error {
		return other.Transaction(func(tx *gorm.DB) error {
			return tx.Exec("LOCK TABLE stored_events IN EXCLUSIVE MODE NOWAIT").Error
		})
	}
	transaction(t, db, func(ctx context.Context, _ *gorm.DB) error {
		if err := r.(persistence.LogLocker).LockLog(ctx); err != nil {
			return err
		}
		if libraryLocks() == nil {
			t.Error("the library can write to a log that is locked")
		}
		_, err := r.InsertEvents(ctx, history(uuid.New(), 1, 1))
		return err
	})
	if err := libraryLocks(); err != nil {
		t.Errorf("after the lock: %v", err)
	}
	transaction(t, other, func(ctx context.Context, tx *gorm.DB) error {
		if err := tx.Exec("LOCK TABLE stored_events IN EXCLUSIVE MODE").Error; err != nil {
			return err
		}
		hurried := expect.Must(gormstore.New(db, gormstore.WithLockTimeout(shortLockTimeout)).PythonProcessRecorder(schoolName))
		err := gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error {
			return hurried.(persistence.LogLocker).LockLog(ctx)
		})
		if !errors.Is(err, persistence.ErrLockTimeout) {
			t.Errorf("while the library writes: %v, want a lock timeout", err)
		}
		return nil
	})
}

// libraryHolds has the library hold a transaction that has written an event and passed a
// notification, until the function that it returns commits it.
func libraryHolds(t *testing.T, library *pythontest.Library, name string, notification int64) (commit func()) {
	t.Helper()
	stop := filepath.Join(t.TempDir(), "stop")
	ended := make(chan error, 1)
	go func() {
		_, err := library.Run(t.Context(), "hold", name, strconv.FormatInt(notification, 10), stop)
		ended <- err
	}()
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	if !eventually(func() bool { return exists(stop+".held") || len(ended) > 0 }) || len(ended) > 0 {
		t.Fatalf("the library does not hold its transaction: %v", <-ended)
	}
	commit = sync.OnceFunc(func() {
		if err := errors.Join(os.WriteFile(stop, nil, 0o600), <-ended); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(commit)
	return commit
}

// What waits for the library waits for one lock timeout, in a transaction of the
// caller's or not, and stores nothing. Afterwards the library's transaction
// counts, and the position that it has moved is known.
func TestPythonWritesBoundTheirWaits(t *testing.T) {
	t.Parallel()
	f := pythonFixtures[4]
	db := f.open(t)
	store := gormstore.New(db, gormstore.WithLockTimeout(shortLockTimeout))
	school := expect.Must(store.PythonProcessRecorder(schoolName))
	counters := expect.Must(store.PythonProcessRecorder(countersName))
	position := expect.Must(counters.MaxTrackingID(t.Context(), schoolName))
	head := expect.Must(school.MaxNotificationID(t.Context()))
	if position >= head {
		insert(t, school, history(uuid.New(), 1, 1)...)
		head = expect.Must(school.MaxNotificationID(t.Context()))
	}
	before := len(wholeLog(t, school))
	commit := libraryHolds(t, f.library(t, db), "Held", head)
	save := func(n int) func(ctx context.Context) error {
		return func(ctx context.Context) error { return last(school.InsertEvents(ctx, history(uuid.New(), 1, n))) }
	}
	for name, write := range map[string]func(ctx context.Context) error{
		"one event": save(1), "many events": save(2_000),
		"the log": func(ctx context.Context) error {
			return gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error { return school.(persistence.LogLocker).LockLog(ctx) })
		},
		"a position": func(ctx context.Context) error {
			return counters.(notificationTracker).TrackNotifications(ctx, position, persistence.Tracking{ApplicationName: schoolName, NotificationID: head}, nil)
		},
	} {
		for where, run := range map[string]func() error{
			"by itself": func() error { return write(t.Context()) },
			"in a transaction": func() error {
				return gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error { return write(ctx) })
			},
		} {
			begin := time.Now()
			err := run()
			if took := time.Since(begin); took < shortLockTimeout || took > longestWait || !errors.Is(err, persistence.ErrLockTimeout) {
				t.Errorf("%s %s: %v after %v, want a lock timeout after %v", name, where, err, took, shortLockTimeout)
			}
		}
	}
	commit()
	if got := len(wholeLog(t, school)); got != before+1 {
		t.Errorf("%d events are stored, want that of the library", got-before)
	}
	if got := expect.Must(counters.MaxTrackingID(t.Context(), schoolName)); got != head {
		t.Errorf("the position is %d, want that of the library, %d", got, head)
	}
	if err := save(1)(t.Context()); err != nil {
		t.Errorf("after the library's commit: %v", err)
	}
}

// A program that reads the whole table by id alone misses no event while the
// library and applications of this module write.
func TestPythonWritersAndReaderOfTheTable(t *testing.T) {
	t.Parallel()
	f := pythonFixtures[4]
	if late := lateEvents(t, f, f.open(t), true); late > 0 {
		t.Errorf("%d events came late", late)
	}
}

// The control: without the Python layout such a reader misses events.
func TestPythonWritersAndReaderOfTheTableControl(t *testing.T) {
	t.Parallel()
	f := pythonFixtures[4]
	for range 20 {
		if late := lateEvents(t, f, f.open(t), false); late > 0 {
			t.Logf("%d events came late", late)
			return
		}
	}
	t.Error("no event came late: the test proves nothing")
}

// lateEvents has two processes of the library and two applications of this
// module write, and returns how many events a reader of the table has not found.
func lateEvents(t *testing.T, f pythonFixture, db *gorm.DB, python bool) (late int) {
	t.Helper()
	library, events := f.library(t, db), testdb.Figure(150, 3_000)
	var writers, reader sync.WaitGroup
	for i := range 2 {
		writers.Go(func() {
			if _, err := library.Run(t.Context(), "register_many", fmt.Sprint("dog ", i), strconv.Itoa(events)); err != nil {
				t.Error(err)
			}
		})
	}
	for _, name := range []string{schoolName, countersName} {
		store := gormstore.New(db)
		r := expect.Must(store.ProcessRecorder(name))
		if python {
			r = expect.Must(store.PythonProcessRecorder(name))
		}
		for range 8 {
			writers.Go(func() {
				for range events / 4 {
					if _, err := r.InsertEvents(t.Context(), history(uuid.New(), 1, 2)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	found, written := map[int64]bool{}, make(chan struct{})
	reader.Go(func() {
		for last, done := int64(0), false; ; {
			var ids []int64
			select {
			case <-written:
				done = true
			default:
			}
			if err := db.Raw("SELECT id FROM stored_events WHERE id > ? ORDER BY id LIMIT 500", last).Scan(&ids).Error; err != nil {
				t.Error(err)
				return
			}
			for _, id := range ids {
				found[id], last = true, id
			}
			if done && len(ids) == 0 {
				return
			}
		}
	})
	writers.Wait()
	close(written)
	reader.Wait()
	late = int(count(t, db, "stored_events")) - len(found)
	t.Logf("%d events, %d late", len(found)+late, late)
	return late
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
