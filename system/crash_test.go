package system_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// A process with four writers, a leader, a follower that emits events and a
// follower of that one that writes rows is killed again and again. Every event
// that was acknowledged is stored, and has its effect once.
func TestCrashes(t *testing.T) {
	t.Parallel()
	eachCrashing(t, func(t *testing.T, c *crashes) {
		t.Parallel()
		kills := testdb.Figure(testdb.Sample(5, 20), 300)
		for range kills {
			c.crash(t, writeAndFollow, rand.N(60*time.Millisecond))
		}
		effects := c.finish(t)
		twice, holes := wrong(effects)
		t.Logf("%d kills: %d events acknowledged, %d stored; %d effects twice, %d missing",
			kills, len(c.saved), len(effects), twice, holes)
		if twice+holes > 0 || len(effects) == 0 {
			t.Errorf("%d effects are there twice, and %d are missing, want 0 and some effects", twice, holes)
		}
	})
}

// The control keeps effect and position in two transactions, is killed between
// them, and is found out.
func TestCrashesControl(t *testing.T) {
	t.Parallel()
	eachCrashing(t, func(t *testing.T, c *crashes) {
		t.Parallel()
		p := startChild(t, torn, c.database, c.dsn)
		c.readUntil(t, p, func(line string) bool { return line == betweenTwo })
		c.saved = append(c.saved, p.kill(t)...)
		if twice, holes := wrong(c.finish(t)); twice == 0 || holes > 0 {
			t.Errorf("%d effects are there twice, and %d are missing, want some twice and 0 missing", twice, holes)
		}
	})
}

// Two processes run the same followers, and are killed in turn. What one leaves
// the other takes up.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	eachCrashing(t, func(t *testing.T, c *crashes) {
		t.Parallel()
		dogs, effects := c.applications(t)
		processes := [2]*process{c.follow(t), c.follow(t)}
		var longest time.Duration
		kills := testdb.Figure(testdb.Sample(4, 10), 300)
		for i := range kills {
			c.save(t, dogs, 20)
			time.Sleep(rand.N(30 * time.Millisecond)) // chance is the point
			processes[i%2].kill(t)
			begin := time.Now()
			c.save(t, dogs, 1)
			reachedIn(t, effects, "Echoes", c.echoed(t, dogs))
			longest = max(longest, time.Since(begin))
			processes[i%2] = c.follow(t)
		}
		for _, p := range processes {
			p.kill(t)
		}
		t.Logf("%d kills: the other process took over within %v", kills, longest)
		c.check(t)
	})
}

// Two processes begin at the same time, and nothing was processed before.
func TestTwoProcessesBegin(t *testing.T) {
	t.Parallel()
	eachCrashing(t, func(t *testing.T, c *crashes) {
		t.Parallel()
		dogs, effects := c.applications(t)
		for range testdb.Figure(testdb.Sample(2, 3), 20) {
			c.save(t, dogs, 100)
			expect.NoError(t, c.db.Exec("DELETE FROM notification_tracking").Error, c.db.Where("true").Delete(&Effect{}).Error,
				c.db.Where("application_name = ?", "Echoes").Delete(&gormstore.StoredEvent{}).Error)
			processes := [2]*process{startChild(t, onlyFollow, c.database, c.dsn), startChild(t, onlyFollow, c.database, c.dsn)}
			reachedIn(t, effects, "Echoes", c.echoed(t, dogs))
			for _, p := range processes {
				p.kill(t)
			}
			c.check(t)
		}
	})
}

// check requires that every event has had its effect once.
func (c *crashes) check(t testing.TB) {
	t.Helper()
	effects := c.finish(t)
	if twice, holes := wrong(effects); twice+holes > 0 || len(effects) == 0 {
		t.Errorf("%d effects are there twice, and %d of %d are missing, want 0 and some effects", twice, holes, len(effects))
	}
}

// applications are the leader, and the last of the followers, as they are in
// this process.
func (c *crashes) applications(t testing.TB) (dogs, effects *application.Application) {
	t.Helper()
	store := application.WithStore(gormstore.New(c.db))
	leader, err := school.New(store)
	expect.NoError(t, err)
	effects, err = application.New("Effects", store)
	expect.NoError(t, err)
	return leader.Application, effects
}

// follow starts a process that follows, and waits until it does.
func (c *crashes) follow(t testing.TB) *process {
	t.Helper()
	p := startChild(t, onlyFollow, c.database, c.dsn)
	if !p.lines.Scan() {
		t.Fatalf("the child has not begun: %v", errors.Join(p.lines.Err(), p.Wait()))
	}
	return p
}

// save saves a number of events.
func (c *crashes) save(t testing.TB, dogs *application.Application, events int) {
	t.Helper()
	for range events {
		for _, event := range save(t, dogs, school.RegisterDog(uuid.NewString())) {
			c.saved = append(c.saved, event.NotificationID)
		}
	}
}

// echoed waits until everything that was saved has its echo, and returns the
// position of the last one.
func (c *crashes) echoed(t testing.TB, dogs *application.Application) int64 {
	t.Helper()
	echoes, err := newEchoes(application.WithStore(gormstore.New(c.db)))
	expect.NoError(t, err)
	reached(t, echoes.Application, head(t, dogs))
	return head(t, echoes.Application)
}
