package checker_test

import (
	"context"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/checker"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/saving"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// checked is a store with two dogs and a snapshot, of which a copy of the log
// can be changed before it is checked.
type checked struct {
	checker.Target
	log []persistence.Notification
}

func newChecked(t *testing.T) *checked {
	t.Helper()
	recorder, snapshots := newRecorder()
	m := newMapper(t, mapper.Config{Application: schoolName})
	fido := school.RegisterDog("Fido")
	fido.AddTrick("roll over")
	events := append(fido.PendingEvents(), dogEvents("Rex", "sit", "fetch")...)
	if _, err := mapper.NewEventStore(m, recorder).Put(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	if err := mapper.NewSnapshotStore(m, snapshots).Put(t.Context(), definitions.Of(school.Dogs).TakeSnapshot(fido)); err != nil {
		t.Fatal(err)
	}
	if err := recorder.InsertTracking(t.Context(), persistence.Tracking{ApplicationName: "Upstream", NotificationID: 5}); err != nil {
		t.Fatal(err)
	}
	log, err := recorder.SelectNotifications(t.Context(), persistence.NotificationRange{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	return &checked{log: log, Target: checker.Target{
		Application: schoolName, Recorder: recorder, Snapshots: snapshots, Mapper: m,
		Upstreams: map[string]persistence.ApplicationRecorder{"Upstream": recorder, "Another": recorder},
	}}
}

// doctor replaces methods of the recorder.
func (c *checked) doctor(with doctored.Recorder) {
	with.ProcessRecorder = c.Recorder
	c.Recorder = &with
}

// rewrite makes the log and the originators' streams those of c.log.
func (c *checked) rewrite() {
	log := slices.Clone(c.log)
	c.doctor(doctored.Recorder{Page: pageOf(log), Stream: streamOf(log)})
}

func pageOf(log []persistence.Notification) func(context.Context, persistence.NotificationRange) ([]persistence.Notification, error) {
	return func(_ context.Context, r persistence.NotificationRange) ([]persistence.Notification, error) {
		begin := slices.IndexFunc(log, func(n persistence.Notification) bool { return n.ID > r.After })
		if begin < 0 {
			return nil, nil
		}
		return log[begin:min(begin+r.Limit, len(log))], nil
	}
}

func streamOf(log []persistence.Notification) func(uuid.UUID, persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
	return func(id uuid.UUID, r persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
		var events []persistence.StoredEvent
		for _, n := range log {
			if n.OriginatorID == id {
				events = append(events, n.StoredEvent)
			}
		}
		if r.Descending {
			slices.Reverse(events)
		}
		if r.Limit > 0 {
			events = events[:min(r.Limit, len(events))]
		}
		return func(yield func(persistence.StoredEvent, error) bool) {
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// check requires the problems, each given as a part of its text.
func (c *checked) check(t *testing.T, want ...string) {
	t.Helper()
	problems, err := checker.Check(t.Context(), c.Target)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range problems {
		if i >= len(want) || !strings.Contains(p.String(), want[i]) || p.Application != schoolName {
			t.Errorf("problem %d: got %q, want one of %q in %s", i, p, want, schoolName)
		}
	}
	if len(problems) != len(want) {
		t.Errorf("got %d problems %q, want %d", len(problems), problems, len(want))
	}
}

func TestCheckFindsNothing(t *testing.T) {
	t.Parallel()
	c := newChecked(t)
	c.check(t)
	c.rewrite() // the control: the copy of the log is as good as the log
	c.check(t)
	c.Snapshots, c.Mapper, c.Upstreams = nil, nil, nil
	c.check(t)
	empty, snapshots := newRecorder()
	c.Recorder, c.Snapshots = empty, snapshots
	c.check(t)
}

// TestCheckFinds violates each guarantee in turn.
func TestCheckFinds(t *testing.T) {
	t.Parallel()
	fido, rex := school.DogID("Fido").String(), school.DogID("Rex").String()
	tests := []struct {
		name   string
		damage func(*checked)
		want   []string
	}{
		{"1: ids that do not ascend", func(c *checked) {
			c.log[4].ID = 3
			c.rewrite()
		}, []string{"notification 3 originator " + rex + " version 3: follows notification 4 in the log"}},
		{"1: an id twice", func(c *checked) {
			c.log[1].ID = 1
			c.rewrite()
		}, []string{"notification 1 originator " + fido + " version 2: follows notification 1 in the log"}},
		{"2: a gap", func(c *checked) {
			c.log = slices.Delete(c.log, 3, 4)
			c.rewrite()
		}, []string{"notification 5 originator " + rex + " version 3: follows version 1 of its originator"}},
		{"2: a repetition", func(c *checked) {
			c.log[4].OriginatorVersion = 2
			c.rewrite()
		}, []string{"notification 5 originator " + rex + " version 2: follows version 2 of its originator"}},
		{"2: versions out of order", func(c *checked) {
			c.log[3].OriginatorVersion, c.log[4].OriginatorVersion = 3, 2
			c.rewrite()
		}, []string{"version 3: follows version 1 of its originator", "version 2: follows version 3 of its originator"}},
		{"2: no first event", func(c *checked) {
			c.log = c.log[1:]
			c.rewrite()
		}, []string{"notification 2 originator " + fido + " version 2: is the first of its originator in the log"}},
		{"2: no first event, by other means", func(c *checked) {
			c.log = slices.Delete(c.log, 2, 4)
			c.Mapper = nil
			c.rewrite()
		}, []string{"version 3: is the first of its originator in the log"}},
		{"3: the last event is in the log only", func(c *checked) {
			c.doctor(doctored.Recorder{Stream: streamOf(c.log[:4])})
		}, []string{schoolName + " originator " + rex + " version 3: is in the log, but the originator ends at version 2"}},
		{"3: all events are in the log only", func(c *checked) {
			c.Snapshots = nil
			c.doctor(doctored.Recorder{Stream: streamOf(c.log[2:])})
		}, []string{"originator " + fido + " version 2: is in the log, but the originator ends at version -1"}},
		{"3: an event is in the log only", func(c *checked) {
			c.doctor(doctored.Recorder{Stream: streamOf(slices.Delete(slices.Clone(c.log), 3, 4))})
		}, []string{"originator " + rex + " version 3: and those before it are not the same in the log and in the originator"}},
		{"3: an event is in the originator only", func(c *checked) {
			c.doctor(doctored.Recorder{Page: pageOf(slices.Delete(slices.Clone(c.log), 3, 4))})
		}, []string{"version 3: follows version 1", "version 3: and those before it are not the same"}},
		{"3: an event is another one", func(c *checked) {
			other := slices.Clone(c.log)
			other[0].State = c.log[2].State
			c.doctor(doctored.Recorder{Stream: streamOf(other)})
		}, []string{"originator " + fido + " version 2: and those before it are not the same"}},
		{"4: a snapshot that is ahead", func(c *checked) {
			c.log = slices.Delete(c.log, 1, 2)
			c.rewrite()
		}, []string{"originator " + fido + " version 2: has a snapshot, but the originator ends at version 1"}},
		{"5: a state that cannot be opened", func(c *checked) {
			c.log[1].State = []byte(canary)
			c.rewrite()
		}, []string{"notification 2 originator " + fido + " version 2: cannot be read: TrainingSchool: cannot decode the state of Dog.TrickAdded"}},
		{"5: a topic that is not known", func(c *checked) {
			c.log[1].Topic = "Dog.Unknown"
			c.rewrite()
		}, []string{`cannot be read: TrainingSchool: cannot map the state of Dog.Unknown version 2`}},
		{"6: a position that is ahead", func(c *checked) {
			c.doctor(doctored.Recorder{Position: func(_ context.Context, upstream string) (int64, error) {
				return map[string]int64{"Another": 5, "Upstream": 6}[upstream], nil
			}})
		}, []string{schoolName + " notification 6: position in Upstream is ahead of its log, which ends at 5; the log was restored from a backup"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newChecked(t)
			test.damage(c)
			c.check(t, test.want...)
		})
	}
}

// What is wrong with the log comes first, then what is wrong with the
// originators in the order of their ids.
func TestCheckOrder(t *testing.T) {
	t.Parallel()
	var first []checker.Problem
	for range 10 {
		c := newChecked(t)
		c.Snapshots = nil
		for i, name := range []string{"Bella", "Max", "Luna", "Rocky"} {
			c.log = append(c.log, persistence.Notification{ID: int64(i + 6), StoredEvent: persistence.StoredEvent{
				OriginatorID: school.DogID(name), OriginatorVersion: 1, Topic: "Dog.Unknown", State: []byte{}}})
		}
		c.doctor(doctored.Recorder{Page: pageOf(c.log)})
		problems, err := checker.Check(t.Context(), c.Target)
		if err != nil || len(problems) != 8 {
			t.Fatalf("got problems %q, error %v, want no error and 8 problems", problems, err)
		}
		if first == nil {
			first = problems
		}
		if !slices.EqualFunc(problems, first, func(a, b checker.Problem) bool { return a.String() == b.String() }) {
			t.Errorf("got  %q\nwant %q", problems, first)
		}
	}
}

// A store that returns the same page for ever is found out, and does not keep
// Check for ever.
func TestCheckEndsWithARepeatingStore(t *testing.T) {
	t.Parallel()
	c := newChecked(t)
	c.doctor(doctored.Recorder{Page: func(context.Context, persistence.NotificationRange) ([]persistence.Notification, error) {
		return c.log, nil
	}})
	problems, err := checker.Check(t.Context(), c.Target)
	if err != nil || len(problems) == 0 || !strings.Contains(problems[0].String(), "notification 1") {
		t.Errorf("got %q, error %v, want no error, some problems and it to contain %q", problems, err, "notification 1")
	}
}

// A log may have more than one page.
func TestCheckPages(t *testing.T) {
	t.Parallel()
	recorder, _ := newRecorder()
	var stored []persistence.StoredEvent
	for version := range int64(2*persistence.MaxPage + 1) {
		stored = append(stored, persistence.StoredEvent{OriginatorID: sampleID, OriginatorVersion: version, Topic: "a", State: []byte{}})
	}
	if _, err := recorder.InsertEvents(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	problems, err := checker.Check(t.Context(), checker.Target{Application: schoolName, Recorder: recorder})
	if len(problems) != 0 || err != nil {
		t.Errorf("got %q, error %v, want 0 problems and no error", problems, err)
	}
}

// TestCheckWhileInUse saves an event and a snapshot of it whenever Check reads
// something.
func TestCheckWhileInUse(t *testing.T) {
	t.Parallel()
	c := newChecked(t)
	events, snapshots := c.Recorder, c.Snapshots
	fido := definitions.Blank(school.Dogs, school.DogID("Fido"))
	for _, n := range c.log[:2] {
		event, err := c.Mapper.NotificationToDomain(n)
		if err == nil {
			err = definitions.Of(school.Dogs).Apply(fido, event)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	save := func() {
		fido.AddTrick(time.Now().String())
		if _, err := mapper.NewEventStore(c.Mapper, events).Put(t.Context(), fido.PendingEvents()); err != nil {
			t.Fatal(err)
		}
		saving.MarkSaved(fido, 1)
		if err := mapper.NewSnapshotStore(c.Mapper, snapshots).Put(t.Context(), definitions.Of(school.Dogs).TakeSnapshot(fido)); err != nil {
			t.Fatal(err)
		}
	}
	busy := func(r persistence.AggregateRecorder) func(uuid.UUID, persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
		return func(id uuid.UUID, want persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
			save()
			return r.SelectEvents(t.Context(), id, want)
		}
	}
	c.doctor(doctored.Recorder{Stream: busy(events)})
	c.Snapshots = &doctored.Recorder{Stream: busy(snapshots)}
	c.check(t)
}

// The errors of the recorders are Check's, with the problems that were found
// before.
func TestCheckFails(t *testing.T) {
	t.Parallel()
	brokenStream := func(uuid.UUID, persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
		return doctored.Broken(doctored.ErrBroken)
	}
	brokenID := func(context.Context) (int64, error) { return 0, doctored.ErrBroken }
	tests := map[string]func(*checked){
		"the log": func(c *checked) {
			page := pageOf(c.log)
			c.doctor(doctored.Recorder{Page: func(ctx context.Context, r persistence.NotificationRange) ([]persistence.Notification, error) {
				if r.After > 0 {
					return nil, doctored.ErrBroken
				}
				return page(ctx, r)
			}})
		},
		"an originator": func(c *checked) { c.doctor(doctored.Recorder{Stream: brokenStream}) },
		"a snapshot":    func(c *checked) { c.Snapshots = &doctored.Recorder{Stream: brokenStream} },
		"a position": func(c *checked) {
			c.doctor(doctored.Recorder{Position: func(context.Context, string) (int64, error) { return 0, doctored.ErrBroken }})
		},
		"an upstream": func(c *checked) { c.Upstreams["Upstream"] = &doctored.Recorder{Head: brokenID} },
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newChecked(t)
			c.log[1].State = []byte("damaged")
			c.rewrite()
			damage(c)
			problems, err := checker.Check(t.Context(), c.Target)
			if err != doctored.ErrBroken || len(problems) == 0 || problems[0].NotificationID != 2 {
				t.Errorf("got %q, error %v, want %v, some problems and NotificationID 2", problems, err, doctored.ErrBroken)
			}
		})
	}
}

func TestProblemString(t *testing.T) {
	t.Parallel()
	for want, problem := range map[string]checker.Problem{
		"App: text":                {Application: "App", Text: "text"},
		"App notification 7: text": {Application: "App", NotificationID: 7, Text: "text"},
		"App originator " + sampleID.String() + " version 3: text":                {Application: "App", OriginatorID: sampleID, Version: 3, Text: "text"},
		"App notification 7 originator " + sampleID.String() + " version 0: text": {Application: "App", OriginatorID: sampleID, NotificationID: 7, Text: "text"},
	} {
		if got := problem.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
