package system_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// eachStore runs a test on both databases and in memory.
func eachStore(t *testing.T, test func(t *testing.T, store persistence.Factory)) {
	t.Run("memory", func(t *testing.T) { test(t, memory.New()) })
	eachDatabase(t, func(t *testing.T, db *gorm.DB) { test(t, gormstore.New(db)) })
}

// program is one run of a program with a follower: what it saw, logged, and
// says of itself.
type program struct {
	seen   []string
	logged bytes.Buffer
	status system.Status
	note   string
}

// catchUp has a follower catch up that wants some topics, or all.
func catchUp(t *testing.T, store persistence.Factory, topics ...string) *program {
	t.Helper()
	p := &program{}
	policy := func(_ context.Context, event domain.Event, _ *collector) error {
		p.seen = append(p.seen, event.Topic)
		return nil
	}
	sys := newSystem(t, pipe(app(schoolName, school.New), filtering("F", policy, topics...)))
	r, err := newSingle(sys, application.WithStore(store),
		application.WithLogger(slog.New(slog.NewTextHandler(&p.logged, nil))))
	closing(t, r, err)
	done, err := r.CatchUp(t.Context(), called("F"), nil)
	expect.NoError(t, err)
	p.note, p.status = done[0].Note, statuses(t, r)[0]
	if p.status.Note != p.note {
		t.Errorf("the status says %q, and catching up %q", p.status.Note, p.note)
	}
	return p
}

// wantNote fails unless the program warns of exactly these topics, or of none.
func (p *program) wantNote(t *testing.T, what string, topics ...string) {
	t.Helper()
	for _, topic := range []string{"Dog.Registered", "Dog.TrickAdded", "every other topic"} {
		if slices.Contains(topics, topic) != strings.Contains(p.note, topic) {
			t.Errorf("%s: the note is %q, want one about %q", what, p.note, topics)
		}
	}
	if len(topics) > 0 != strings.Contains(p.logged.String(), "level=WARN msg=\"follower: "+strings.Join(topics, ", ")) {
		t.Errorf("%s: logged %s, want a warning of %q", what, &p.logged, topics)
	}
}

// The topics of the school's events.
const registered, trickAdded = "Dog.Registered", "Dog.TrickAdded"

// A filter that grows leaves out what the position has passed, which is said
// until it is mended.
func TestFilterGrows(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store persistence.Factory) {
		dogs, err := school.New(application.WithStore(store))
		expect.NoError(t, err)
		register(t, dogs, 2, "Fido")
		catchUp(t, store, registered).wantNote(t, "at first")
		catchUp(t, store, registered).wantNote(t, "the same again")
		for range 2 {
			catchUp(t, store, registered, trickAdded).wantNote(t, "grown, and nothing new", trickAdded)
		}
		register(t, dogs, 2, "Rex")
		p := catchUp(t, store, trickAdded, registered)
		p.wantNote(t, "in another order", trickAdded)
		if len(p.seen) != 3 {
			t.Errorf("saw %q, want 3 seen", p.seen)
		}
		if p := catchUp(t, store, registered); !strings.Contains(p.note, trickAdded+": not processed any more since position 6") {
			t.Errorf("shrunk, the note is %q, want note to contain %q", p.note, trickAdded+": not processed any more since position 6")
		}
		if p := catchUp(t, store, registered, trickAdded); !strings.Contains(p.note, trickAdded+": processed only since position 6") {
			t.Errorf("grown again, the note is %q, want note to contain %q", p.note, trickAdded+": processed only since position 6")
		}
		catchUp(t, store).wantNote(t, "all topics", "every other topic")
	})
}

// Topics that nothing was recorded of leave nothing out, and neither do those
// of a follower that is at the beginning.
func TestFilterGrowsWithoutLoss(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store persistence.Factory) {
		dogs, err := school.New(application.WithStore(store))
		expect.NoError(t, err)
		catchUp(t, store, trickAdded).wantNote(t, "an empty log")
		catchUp(t, store, trickAdded, registered).wantNote(t, "grown at the beginning")
		catchUp(t, store, registered).wantNote(t, "shrunk")
		register(t, dogs, 0, "Fido")
		catchUp(t, store, registered).wantNote(t, "at first")
		catchUp(t, store, registered, trickAdded).wantNote(t, "grown by a topic without events")
		register(t, dogs, 1, "Rex")
		if p := catchUp(t, store, registered, trickAdded); len(p.seen) != 2 {
			t.Errorf("saw %q, want 2 seen", p.seen)
		}
	})
}

// A follower that has run before there were settings is taken to have processed
// its topics from the beginning.
func TestPositionWithoutSettings(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		store := gormstore.New(db)
		dogs, err := school.New(application.WithStore(store))
		expect.NoError(t, err, db.Migrator().DropTable("follower_settings"))
		register(t, dogs, 2, "Fido")
		for range 2 {
			p := catchUp(t, store, registered)
			if n := strings.Count(p.logged.String(), "level=WARN"); n != 1 || !strings.Contains(p.logged.String(), "migrate") {
				t.Errorf("%d warnings without the table: %s, want 1 and it to contain %q", n, &p.logged, "migrate")
			}
		}
		expect.NoError(t, gormstore.AutoMigrate(db))
		catchUp(t, store, registered).wantNote(t, "with the table")
		catchUp(t, store, registered, trickAdded).wantNote(t, "grown", trickAdded)
	})
}

// Two programs under one name with different topics take events from each
// other, and both are told.
func TestTwoProgramsUnderOneName(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store persistence.Factory) {
		dogs, err := school.New(application.WithStore(store))
		expect.NoError(t, err)
		var both [2]*program
		for i := range 6 {
			register(t, dogs, 1, string(rune('a'+i)))
			both[i%2] = catchUp(t, store, [][]string{{registered}, {registered, trickAdded}}[i%2]...)
		}
		for _, p := range both {
			if !strings.Contains(p.logged.String(), "another program") || !strings.Contains(p.status.Note, "another program") {
				t.Errorf("the note is %q; logged: %s, want it to contain %q and Note to contain %q", p.status.Note, &p.logged, "another program", "another program")
			}
		}
	})
}

// syncBuffer is a buffer for concurrent use.
type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// A running program is told of the other one, too: its batch is not processed
// with topics that are not recorded.
func TestTwoProgramsAtOnce(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		store := gormstore.New(db)
		var logged syncBuffer
		var j journal
		first := newRunner(t, store, pipe(app(schoolName, school.New),
			handling("F", j.policy, []handlerOf{on[school.Registered]}, application.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))))
		dogs := get[*school.TrainingSchool](t, first, schoolName)
		start(t, first)
		register(t, dogs, 1, "Fido")
		reached(t, get[*follower](t, first, "F").Application, head(t, dogs.Application))
		catchUp(t, store, registered, trickAdded)
		register(t, dogs, 1, "Rex")
		reached(t, get[*follower](t, first, "F").Application, head(t, dogs.Application))
		if !expect.Eventually(func() bool { return strings.Contains(logged.String(), "-Dog.TrickAdded") }) {
			t.Errorf("logged %s, want -Dog.TrickAdded", logged.String())
		}
	})
}

// A follower that begins at the head does so once: not when it is started
// again, and not when it is reset.
func TestStartAtHead(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store persistence.Factory) {
		dogs, err := school.New(application.WithStore(store))
		expect.NoError(t, err)
		run := func(name string) (seen int) {
			t.Helper()
			policy := func(context.Context, domain.Event, *collector) error { seen++; return nil }
			node := followingWith(name, policy, []system.FollowerOption{system.StartAtHead()})
			sys := newSystem(t, pipe(app(schoolName, school.New), node))
			r, err := newSingle(sys, application.WithStore(store))
			closing(t, r, err)
			_, err = r.CatchUp(t.Context(), called(name), nil)
			expect.NoError(t, err)
			return seen
		}
		if n := run("Early"); n != 0 {
			t.Errorf("saw %d events of an empty log, want 0", n)
		}
		register(t, dogs, 2, "Fido")
		if n := run("Early"); n != 3 {
			t.Errorf("saw %d of 3 events; it had begun before them, want 3", n)
		}
		if n := run("Late"); n != 0 {
			t.Errorf("saw %d events that were there before it, want 0", n)
		}
		register(t, dogs, 0, "Rex")
		if n := run("Late"); n != 1 {
			t.Errorf("saw %d events, want the one after it began", n)
		}
		database, ok := store.(*gormstore.Store)
		if !ok {
			return
		}
		expect.NoError(t, database.Transaction(t.Context(), func(ctx context.Context) error {
			_, err := capability.Of(database).Positions.DeleteTracking(ctx, "Late", schoolName)
			return err
		}))
		if n := run("Late"); n != 4 {
			t.Errorf("saw %d of 4 events after a reset, want 4", n)
		}
	})
}

// Without a place for settings a follower that begins at the head does not
// begin at all.
func TestStartAtHeadNeedsSettings(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.Migrator().DropTable("follower_settings"))
		node := followingWith("F", ignore, []system.FollowerOption{system.StartAtHead()})
		r := newRunner(t, gormstore.New(db), pipe(app(schoolName, school.New), node))
		register(t, get[*school.TrainingSchool](t, r, schoolName), 0, "Fido")
		if _, err := r.CatchUp(t.Context(), called("F"), nil); err == nil || !strings.Contains(err.Error(), "migrate") {
			t.Errorf("got %v, want an error that contains %q", err, "migrate")
		}
	})
}

// A follower that starts at the head misses nothing that is saved once Start has
// returned, and Start does not return if that is not certain.
func TestStartAtHeadIsWhenStartReturns(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store persistence.Factory) {
		dogs, err := school.New(application.WithStore(store))
		expect.NoError(t, err)
		register(t, dogs, 1, "Fido")
		// How fast the follower's goroutine is depends on chance.
		for _, name := range []string{"A", "B", "C", "D", "E"} {
			var j journal
			node := followingWith(name, j.policy, []system.FollowerOption{system.StartAtHead()})
			r, err := newConcurrent(newSystem(t, pipe(app(schoolName, school.New), node)), application.WithStore(store))
			closing(t, r, err)
			expect.NoError(t, r.Start(t.Context()))
			register(t, dogs, 0, "Rex of "+name)
			waitForHeads(t, r)
			if got := len(j.events(t)); got != 1 {
				t.Errorf("follower %s saw %d events, want the one that was saved after the start", name, got)
			}
			expect.NoError(t, r.Close())
		}
	})
}

// A runner whose follower cannot record its start does not start. It can be
// started as soon as the follower can.
func TestStartAtHeadThatCannotBeRecorded(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		dogs, err := school.New(application.WithStore(gormstore.New(db)))
		expect.NoError(t, err)
		register(t, dogs, 0, "Fido")
		node := followingWith("F", ignore, []system.FollowerOption{system.StartAtHead()})
		r, err := newConcurrent(newSystem(t, pipe(app(schoolName, school.New), node)), application.WithStore(gormstore.New(db)))
		closing(t, r, err)
		expect.NoError(t, db.Migrator().DropTable("follower_settings"))
		if err := r.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "migrate") {
			t.Errorf("got %v, want an error that says what to do", err)
		}
		expect.NoError(t, gormstore.AutoMigrate(db), r.Start(t.Context()))
		waitForHeads(t, r)
	})
}

// What is paused is not processed, whatever asks for it, and what is parked is
// not retried.
func TestPausedFollower(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store persistence.Factory) {
		var j journal
		sys := newSystem(t, pipe(app(schoolName, school.New), followerLoop("F", j.policy)))
		r, err := newSingle(sys, application.WithStore(store))
		closing(t, r, err)
		set := func(s capability.FollowerSettings) {
			t.Helper()
			recorder := bridge.Of(get[*follower](t, r, "F")).Recorder().(capability.SettingsRecorder)
			expect.NoError(t, recorder.WriteSettings(t.Context(), schoolName, s))
		}
		set(capability.FollowerSettings{PausedAt: time.Now().UTC(), PausedBy: "a test"})
		start(t, r)
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		register(t, dogs, 1, "Fido")
		if s := statuses(t, r)[0]; s.State != system.Paused || s.Err != nil || s.PausedBy != "a test" || s.Position != 0 || len(j.events(t)) != 0 {
			t.Errorf("the status is %+v, and %d events were seen, want State %v, PausedBy %q, Position 0 and 0 events", s, len(j.events(t)), system.Paused, "a test")
		}
		if _, err := r.CatchUp(t.Context(), called("F"), nil); !errors.Is(err, system.ErrPaused) || !errors.Is(err, domain.ErrEventSourcing) {
			t.Errorf("catching up: %v, want an error that is %v and that is %v", err, system.ErrPaused, domain.ErrEventSourcing)
		}
		set(capability.FollowerSettings{})
		expect.NoError(t, r.Sync(t.Context()))
		j.want(t, dogs.Application)
		if s := statuses(t, r)[0]; s.State != system.Running {
			t.Errorf("the status is %+v, want State %v", s, system.Running)
		}
	})
}

// pausingLeader pauses its follower while the log is read.
type pausingLeader struct {
	app   bridge.Application
	pause func()
}

func (l *pausingLeader) Name() string { return l.app.Name() }

func (l *pausingLeader) Head(ctx context.Context) (int64, error) {
	return l.app.Recorder().MaxNotificationID(ctx)
}

func (l *pausingLeader) Notifications(ctx context.Context, r persistence.NotificationRange) ([]persistence.Notification, error) {
	l.pause()
	return l.app.Recorder().SelectNotifications(ctx, r)
}

func (l *pausingLeader) Decode(n persistence.Notification) (domain.Event, error) {
	return l.app.Mapper().NotificationToDomain(n)
}

func (l *pausingLeader) Topics(payload reflect.Type) []string {
	return l.app.Mapper().TopicsOfPayload(payload)
}

// A batch whose events were read before the follower was paused is not
// processed after it.
func TestPausedBetweenReadAndLock(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		store := gormstore.New(db)
		dogs, err := school.New(application.WithStore(store))
		expect.NoError(t, err)
		register(t, dogs, 2, "Fido")
		leader := &pausingLeader{app: bridge.Of(dogs)}
		var j journal
		r := newRunner(t, store, pipe(built(leader), followerLoop("F", j.policy)))
		leader.pause = func() {
			recorder := bridge.Of(get[*follower](t, r, "F")).Recorder().(capability.SettingsRecorder)
			_, settings, err := recorder.Settings(t.Context(), schoolName)
			expect.NoError(t, err)
			settings.PausedAt = time.Now().UTC()
			expect.NoError(t, recorder.WriteSettings(t.Context(), schoolName, *settings))
		}
		if _, err := r.CatchUp(t.Context(), called("F"), nil); !errors.Is(err, system.ErrPaused) || len(j.events(t)) != 0 {
			t.Errorf("got %v, and %d events were seen, want an error that is %v and 0 events", err, len(j.events(t)), system.ErrPaused)
		}
	})
}

// A topic that was renamed is the same topic, and so it is for the program
// before it, whether that was taught the new name or not, however often the two
// take turns. A topic that is known and not wanted is still reported.
func TestRenamedTopicIsNoChange(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store persistence.Factory) {
		old := domain.Define("Pup", domain.On("Named", named{}))
		taught := domain.Define("Pup", domain.On("Named", named{}, domain.Alias("Pup.Called")))
		renewed := domain.Define("Pup", domain.On("Called", named{}, domain.Alias("Pup.Named")))
		split := domain.Define("Pup", domain.On("Called", named{}), domain.On("Named", namedOnce{}))
		run := func(schema domain.Schema) (note string) {
			t.Helper()
			leader := app("Pups", func(options ...application.Option) (*application.Application, error) {
				return application.New("Pups", append(options, application.WithDefinitions(schema))...)
			})
			r, err := newSingle(newSystem(t, pipe(leader, handling("F", ignore, []handlerOf{on[named]}))),
				application.WithStore(store))
			closing(t, r, err)
			done, err := r.CatchUp(t.Context(), called("F"), nil)
			expect.NoError(t, err)
			return done[0].Note
		}
		app, err := application.New("Pups", application.WithStore(store), application.WithDefinitions(old))
		expect.NoError(t, err)
		save(t, app, old.Create(domain.NewIDv5("/pups/Fido"), named{}))
		for i, schema := range []domain.Schema{old, renewed, renewed, old, renewed, old,
			renewed, taught, renewed, taught, old, renewed} {
			if note := run(schema); note != "" {
				t.Errorf("run %d: the note is %q, want none", i, note)
			}
		}
		if note := run(split); !strings.Contains(note, "Pup.Named: not processed any more") {
			t.Errorf("a topic that another event has now is left out: the note is %q, want it to contain %q", note, "Pup.Named: not processed any more")
		}
	})
}

// Pup is an aggregate whose event is renamed.
type Pup struct{ domain.Aggregate }

type named struct{}

func (named) Apply(*Pup) {}

type namedOnce struct{}

func (namedOnce) Apply(*Pup) {}

// A follower that was renamed, or whose leader was, does not process the log
// again before the rows are renamed.
func TestFormerNameOfPosition(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]struct{ leader, follower string }{"the follower": {schoolName, "G"}, "the leader": {"Academy", "F"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachDatabase(t, func(t *testing.T, db *gorm.DB) {
				store := gormstore.New(db)
				run := func(leader, follower string) error {
					t.Helper()
					renamed := app(leader, func(options ...application.Option) (*application.Application, error) {
						return application.New(leader, append(options, application.WithDefinitions(school.Dogs))...)
					}, application.WithFormerNames(schoolName))
					r, err := newSingle(newSystem(t, pipe(renamed, followerLoop(follower, count, application.WithFormerNames("F")))),
						application.WithStore(store))
					closing(t, r, err)
					_, err = r.CatchUp(t.Context(), called(follower), nil)
					return err
				}
				app, err := school.New(application.WithStore(store))
				expect.NoError(t, err)
				register(t, app, 1, "Fido")
				expect.NoError(t, run(schoolName, "F"))
				events := map[string]any{"application_name": options.leader}
				expect.NoError(t, db.Model(&gormstore.StoredEvent{}).Where("application_name = ?", schoolName).Updates(events).Error)
				err = run(options.leader, options.follower)
				if !errors.Is(err, persistence.ErrOperational) || !strings.Contains(err.Error(), "the store has a position of F in the log of "+schoolName) {
					t.Errorf("got %v, want an error that is %v and that contains %q", err, persistence.ErrOperational, "the store has a position of F in the log of "+schoolName)
				}
				positions := map[string]any{"application_name": options.follower, "upstream_application_name": options.leader}
				expect.NoError(t, db.Table("notification_tracking").Where("1 = 1").Updates(positions).Error)
				expect.NoError(t, run(options.leader, options.follower))
			})
		})
	}
}
