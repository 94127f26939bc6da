package gormstore_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
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
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/pythontest"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// sharedPythonFixtures are a database of each kind.
var sharedPythonFixtures = []pythonFixture{pythonFixtures[0], pythonFixtures[4]}

// A follower that the library and this module run at the same time processes
// each event exactly once.
func TestPythonFollowerOnBothSides(t *testing.T) {
	t.Parallel()
	for _, f := range sharedPythonFixtures {
		t.Run(f.file, func(t *testing.T) {
			t.Parallel()
			for range testdb.Figure(testdb.Sample(1, 2), 10) {
				for _, command := range []string{"follow", "sync"} {
					if wrong := followOnBothSides(t, f, f.open(t), command, 30); len(wrong) > 0 {
						t.Errorf("%d events were not processed once beside %s: %v, want 0", len(wrong), command, wrong)
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
			store := newOnePosition(db)
			if wrong := followOnBothSides(t, f, db, "follow", 1, application.WithStore(store)); len(wrong) == 0 {
				t.Error("each event was processed once, want some twice")
			}
		})
	}
}

// onePosition is a store that keeps a position in one row.
type onePosition struct {
	*gormstore.Store
	capability.Provider
}

func newOnePosition(db *gorm.DB) *onePosition {
	s := &onePosition{Store: gormstore.New(db)}
	s.Provider = doctored.Capabilities(s.Store, func(c *capability.Store) { c.Python = s })
	return s
}

func (s *onePosition) PythonProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	return s.ProcessRecorder(application)
}

// laggingLibrary is the library as a follower. When it has read its first page
// it waits, so that the other side certainly overtakes it.
type laggingLibrary struct {
	stop, release string // files
	ended         chan error
	output        []byte
}

// lag starts the library, and returns when it has read a page, of which it has
// processed nothing. The command is follow, with a transaction for each event,
// or sync, with one for all.
func lag(t *testing.T, library *pythontest.Library, command string) *laggingLibrary {
	t.Helper()
	folder := t.TempDir()
	l := &laggingLibrary{stop: filepath.Join(folder, "stop"), release: filepath.Join(folder, "release"), ended: make(chan error, 1)}
	go func() {
		var err error
		l.output, err = library.Run(t.Context(), command, l.stop, "each", l.release)
		l.ended <- err
	}()
	read := func() bool { _, err := os.Stat(l.release + ".read"); return err == nil }
	if !expect.Eventually(func() bool { return read() || len(l.ended) > 0 }) || !read() {
		t.Fatal("the library has read no page")
	}
	return l
}

// goOn lets the library process what it has read, and all later events.
func (l *laggingLibrary) goOn(t *testing.T) {
	t.Helper()
	expect.NoError(t, os.WriteFile(l.release, nil, 0o600))
}

// end ends the library, and returns the events of the service after a position
// that have not had their effect once. If there are none, the library must have
// found that the other side has overtaken it.
func (l *laggingLibrary) end(t *testing.T, s *pyService, after int64) (wrong map[string]int) {
	t.Helper()
	expect.NoError(t, os.WriteFile(l.stop, nil, 0o600), <-l.ended)
	var did struct {
		Processed, Overtaken int
		Failed               map[string]int
	}
	pythontest.Decode(t, l.output, &did)
	wrong = s.notOnce(t, after)
	if len(wrong) == 0 && did.Overtaken == 0 && len(did.Failed) == 0 {
		t.Errorf("the library did %+v, want that it was overtaken", did)
	}
	t.Logf("the library: %s", l.output)
	return wrong
}

// followOnBothSides runs a follower here and in the library at once. Its effect
// is an aggregate for each event, so no version prevents a second effect. The
// events of the first dog are processed here while the library, which has read
// them, waits; the events of the other dogs by whichever side is first. It
// returns the events that did not have exactly one effect, with the number.
func followOnBothSides(t *testing.T, f pythonFixture, db *gorm.DB, command string, dogs int, options ...application.Option) map[string]int {
	t.Helper()
	s := newPyService(t, f, db, options...)
	s.counting = expect.Must(system.NewFollower(s.counting.Application, system.OnEvery(countEach(s.counters))))
	runner := expect.Must(system.NewRunner(s.system(), system.Config{PollInterval: time.Millisecond, BatchEvents: 20}))
	defer runner.Close()
	begin := expect.Must(bridge.Of(s.school).Recorder().MaxNotificationID(t.Context()))
	save := func() (last int64) {
		dog := pyDogs.Create(uuid.New(), pyRegistered{"Rex"})
		for range 4 {
			domain.Trigger(dog, pyTrickAdded{"sit"})
		}
		return expect.Must(s.school.Save(t.Context(), dog)).Position
	}
	last := save()
	library := lag(t, f.library(t, db), command)
	expect.NoError(t, runner.Start(t.Context()), s.counting.WaitForPosition(t.Context(), s.school, last))
	library.goOn(t)
	for range dogs - 1 {
		last = save()
		time.Sleep(5 * time.Millisecond) // both sides have the time to begin
	}
	expect.NoError(t, s.counting.WaitForPosition(t.Context(), s.school, last))
	return library.end(t, s, begin)
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
				if err := runner.Start(t.Context()); err != nil {
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
			if err := runner.Start(t.Context()); err != nil {
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
		db.Raw("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid' AND pid IN " +
			"(SELECT pid FROM pg_stat_activity WHERE datname = current_database())").Scan(&n)
		return n
	}
	if !expect.Eventually(func() bool { return waiting() > 0 }) {
		t.Fatal("the move does not wait for the row that is not committed")
	}
	if err := tx.Commit().Error; err != nil {
		t.Fatal(err)
	}
	expect.ErrorIs(t, <-moved, persistence.ErrPositionMoved)
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
		r := expect.Must(capability.Of(gormstore.New(db)).Python.PythonProcessRecorder(countersName)).(notificationTracker)
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
			t.Error("a position was moved from where it was, want ErrPositionMoved")
		}
		if err := errors.Join(track(0, 40, "Elsewhere", 7, 31), track(40, 41, "Elsewhere", 41)); err != nil {
			t.Fatal(err)
		}
		if got := rows("Elsewhere"); !slices.Equal(got, []int64{7, 31, 40, 41}) {
			t.Errorf("the rows of a log in another database are %v, want %v", got, []int64{7, 31, 40, 41})
		}
		if err := db.Exec("DELETE FROM notification_tracking WHERE notification_id > 31 AND upstream_application_name = 'Elsewhere'").Error; err != nil {
			t.Fatal(err)
		}
		if err := track(31, 50, "Elsewhere", 31); err == nil {
			t.Error("a notification that was processed before was processed again, want ErrPositionMoved")
		}
	})
}
