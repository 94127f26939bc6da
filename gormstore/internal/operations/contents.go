package operations

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Contents is what the databases of a service contain.
type Contents struct {
	Applications []ApplicationContents `json:"applications"`
	Positions    []PositionContents    `json:"positions"`
}

// ApplicationContents is what a database contains of one application.
type ApplicationContents struct {
	Application string `json:"application"`
	// IsKnown is false if the program has no application of the name. Its states
	// are then not opened.
	IsKnown   bool            `json:"known"`
	Events    []TopicContents `json:"events"`
	Snapshots []TopicContents `json:"snapshots"`
}

// TopicContents are the rows of one topic. Positions are ids of events, and 0
// for snapshots.
type TopicContents struct {
	Topic string `json:"topic"`
	Rows  int64  `json:"rows"`
	First int64  `json:"first,omitempty"`
	Last  int64  `json:"last,omitempty"`
	// Layouts counts the rows by the layout of their states: PythonRows, OwnRows
	// or UnopenedRows. Versions counts them by their schema version.
	Layouts    map[string]int64 `json:"layouts"`
	Versions   map[int]int64    `json:"schema_versions"`
	Compressed int64            `json:"compressed"`
	Encrypted  int64            `json:"encrypted"`
	// IsUndefined says that the program does not define the topic. Undecoded
	// counts the rows that cannot be read for another reason, and Problem says
	// why, of the first of them.
	IsUndefined bool   `json:"undefined,omitempty"`
	Undecoded   int64  `json:"undecoded,omitempty"`
	Problem     string `json:"problem,omitempty"`
	// Unread are the fields of events that the payload's type lacks, and Absent
	// those of the type that some of the events lack.
	Unread []string `json:"unread_fields,omitempty"`
	Absent []string `json:"absent_fields,omitempty"`
	// Lost are the fields of snapshots in the Python layout that the program's
	// state lacks. It takes no snapshots of that definition.
	Lost []string `json:"lost_fields,omitempty"`
}

// The layouts of states.
const (
	PythonRows   = "python"
	OwnRows      = "own"
	UnopenedRows = "unopened" // without the cipher and the compressor they were stored with
)

// PositionContents is the position of a follower, and of how many rows it
// consists: the Python library keeps one for each notification.
type PositionContents struct {
	Follower string `json:"follower"`
	Leader   string `json:"leader"`
	Position int64  `json:"position"`
	Rows     int64  `json:"rows"`
}

// ContentsOf reads all events, snapshots and positions, of all applications in
// the databases if none are named. It may run while the applications are in use.
func ContentsOf(ctx context.Context, runner Runner, applications ...string) (contents Contents, err error) {
	// Empty slices are [] in JSON, and not null.
	contents = Contents{Applications: []ApplicationContents{}, Positions: []PositionContents{}}
	for _, s := range storesOf(runner) {
		names, err := inventory.Of(s).ApplicationNames(ctx)
		if errors.Is(err, persistence.ErrNotMigrated) && !isUsed(runner, s) {
			continue // a registered database that has nothing to do with events
		}
		if err != nil {
			return contents, located(ctx, s, err)
		}
		for _, name := range names {
			if len(applications) > 0 && !slices.Contains(applications, name) {
				continue
			}
			found, err := applicationContents(ctx, runner, s, name)
			if err != nil {
				return contents, located(ctx, s, err)
			}
			contents.Applications = append(contents.Applications, found)
		}
		states, err := inventory.Of(s).TrackingStates(ctx)
		if err != nil {
			return contents, located(ctx, s, err)
		}
		for _, state := range states {
			if len(applications) == 0 || slices.Contains(applications, state.ApplicationName) {
				contents.Positions = append(contents.Positions, PositionContents{state.ApplicationName, state.UpstreamApplicationName,
					state.Position, state.Rows})
			}
		}
	}
	return contents, nil
}

// isUsed reports whether an application of the program has a store.
func isUsed(runner Runner, s store) bool {
	return runner != nil && slices.ContainsFunc(graphOf(runner).Names(), func(name string) bool {
		own, ok := StoreOf(runner, name)
		return ok && sameDatabase(own, s)
	})
}

// contentsPage is how many rows are read at once.
const contentsPage = 500

func applicationContents(ctx context.Context, runner Runner, s store, name string) (found ApplicationContents, err error) {
	app, known := ApplicationOf(runner, name)
	if own, ok := StoreOf(runner, name); known && (!ok || !sameDatabase(own, s)) {
		app, known = nil, false
	}
	found = ApplicationContents{Application: name, IsKnown: known}
	recorder, err := s.ProcessRecorder(name)
	if err != nil {
		return found, err
	}
	events := topicCounter{app: app, topics: map[string]*TopicContents{}}
	for after := int64(0); ; {
		page, err := recorder.SelectNotifications(ctx, persistence.NotificationRange{After: after, Limit: contentsPage})
		if err != nil {
			return found, err
		}
		for _, n := range page {
			events.addEvent(n)
			after = n.ID
		}
		if len(page) < contentsPage {
			break
		}
	}
	found.Events = events.sorted()
	found.Snapshots, err = snapshotContents(ctx, app, s, name)
	return found, err
}

func snapshotContents(ctx context.Context, app bridge.Application, s store, name string) ([]TopicContents, error) {
	snapshots := topicCounter{app: app, topics: map[string]*TopicContents{}}
	for after := int64(0); ; {
		page, last, err := inventory.Of(s).SnapshotPage(ctx, name, after, contentsPage)
		if err != nil {
			return nil, fmt.Errorf("read the snapshots of %s: %w", name, err)
		}
		for _, snapshot := range page {
			snapshots.addSnapshot(snapshot)
		}
		if len(page) < contentsPage {
			return snapshots.sorted(), nil
		}
		after = last
	}
}

// topicCounter counts the rows of an application by their topics. The
// application is nil if the program does not have it.
type topicCounter struct {
	app    bridge.Application
	topics map[string]*TopicContents
}

func (c *topicCounter) sorted() []TopicContents {
	all := make([]TopicContents, 0, len(c.topics))
	for _, topic := range slices.Sorted(maps.Keys(c.topics)) {
		all = append(all, *c.topics[topic])
	}
	return all
}

func (c *topicCounter) topic(stored persistence.StoredEvent) *TopicContents {
	t, ok := c.topics[stored.Topic]
	if !ok {
		t = &TopicContents{Topic: stored.Topic, Layouts: map[string]int64{}, Versions: map[int]int64{}}
		c.topics[stored.Topic] = t
	}
	t.Rows++
	return t
}

func (c *topicCounter) addEvent(n persistence.Notification) {
	t := c.topic(n.StoredEvent)
	if t.First == 0 {
		t.First = n.ID
	}
	t.Last = n.ID
	if c.app == nil {
		t.addUnopened(n.State)
		return
	}
	t.add(c.app.Mapper().LayoutOf(n.StoredEvent))
	if _, defined := c.app.Mapper().SchemaOf(n.Topic); !defined {
		t.IsUndefined = true
	} else if _, err := c.app.Mapper().NotificationToParts(n); err != nil {
		t.addUndecoded(err)
	}
	unread, absent := c.app.Mapper().EventFields(n.StoredEvent)
	t.Unread, t.Absent = union(t.Unread, unread), union(t.Absent, absent)
}

func (c *topicCounter) addSnapshot(stored persistence.StoredEvent) {
	t := c.topic(stored)
	if c.app == nil {
		t.addUnopened(stored.State)
		return
	}
	t.add(c.app.Mapper().SnapshotLayoutOf(stored))
	if _, err := c.app.Mapper().SnapshotToDomain(stored); err != nil {
		t.addUndecoded(err)
	}
	t.Lost = union(t.Lost, c.app.Mapper().LostFields(stored, ""))
}

// union adds names to a sorted list.
func union(list, names []string) []string {
	if len(names) == 0 {
		return list
	}
	list = append(list, names...)
	slices.Sort(list)
	return slices.Compact(list)
}

func (t *TopicContents) add(layout bridge.Layout) {
	switch {
	case layout.Plain == 0:
		t.Layouts[UnopenedRows]++
	case layout.Python:
		t.Layouts[PythonRows]++
	default:
		t.Layouts[OwnRows]++
	}
	if layout.Version > 0 {
		t.Versions[layout.Version]++
	}
	if layout.Compressed {
		t.Compressed++
	}
	if layout.Encrypted {
		t.Encrypted++
	}
}

// addUnopened adds a row of an application that the program does not have.
func (t *TopicContents) addUnopened(state []byte) {
	if len(state) > 0 && state[0] == '{' && utf8.Valid(state) { // as no ciphertext is
		t.Layouts[PythonRows]++
		return
	}
	t.Layouts[UnopenedRows]++
}

func (t *TopicContents) addUndecoded(err error) {
	if t.Undecoded++; t.Problem == "" {
		t.Problem = err.Error()
	}
}
