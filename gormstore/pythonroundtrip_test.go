package gormstore_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/compressor"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/pythontest"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// plainState opens a state with the parts that the library has, and without the
// mapper.
func (f pythonFixture) plainState(t *testing.T, state []byte) []byte {
	t.Helper()
	var err error
	if f.cipher != "" {
		if state, err = expect.Must(cipher.NewPythonAES(expect.Must(cipher.ParseKeys(pythonKey))...)).Decrypt(nil, state, nil); err != nil {
			t.Fatal(err)
		}
	}
	if f.compressor != "" {
		if state, err = expect.Must(compressor.NewZlib()).Decompress(nil, state); err != nil {
			t.Fatal(err)
		}
	}
	return state
}

// sameButForOrder reports whether two states are the same JSON with another
// order of keys.
func sameButForOrder(a, b []byte) bool {
	var first, second any
	return json.Unmarshal(a, &first) == nil && json.Unmarshal(b, &second) == nil && reflect.DeepEqual(first, second)
}

// All events and snapshots of the Python program, decoded and encoded again in
// the Python layout, have the topics and the bytes that they had. Its maps, of
// which these databases have none, could have their keys in another order.
func TestPythonRoundTrip(t *testing.T) {
	eachPythonFixture(t, func(t *testing.T, f pythonFixture, db *gorm.DB) {
		want := f.facts(t)
		s := newPyService(t, f, db)
		same, ordered, snapshots := 0, 0, 0
		compare := func(stored, again persistence.StoredEvent, err error) {
			was, is := f.plainState(t, stored.State), []byte(nil)
			if err == nil {
				is = f.plainState(t, again.State)
			}
			switch {
			case err != nil || again.Topic != stored.Topic:
				t.Errorf("%s version %d: %s, %v", stored.Topic, stored.OriginatorVersion, again.Topic, err)
			case bytes.Equal(was, is):
				same++
			case sameButForOrder(was, is):
				ordered++
			default:
				t.Errorf("%s version %d:\n%s\nwas\n%s", stored.Topic, stored.OriginatorVersion, is, was)
			}
		}
		for _, app := range []*application.Application{s.school, s.counting.Application} {
			m := bridge.Of(app).Mapper()
			for _, n := range wholeLog(t, bridge.Of(app).Recorder()) {
				event := expect.Must(m.ToDomain(n.StoredEvent))
				again, err := m.ToStored(event)
				compare(n.StoredEvent, again, err)
				if got := expect.Must(m.ToDomain(again)); !reflect.DeepEqual(got, event) {
					t.Errorf("event: got %+v, want %+v", got, event)
				}
			}
		}
		m := bridge.Of(s.school).Mapper()
		for _, dog := range want.Dogs {
			for stored, err := range bridge.Of(s.school).Snapshots().GetStored(t.Context(), dog.ID, persistence.EventRange{}) {
				if err != nil {
					t.Fatal(err)
				}
				snapshots++
				snapshot := expect.Must(m.SnapshotToDomain(stored))
				snapshot.Topic = definitions.Of(pyDogs).Name()
				again, err := m.SnapshotToStored(snapshot)
				compare(stored, again, err)
			}
		}
		if events := int(want.Rows["stored_events"]); same+ordered != events+snapshots || int64(snapshots) != want.Rows["snapshots"] || events == 0 {
			t.Errorf("compared %d events and %d snapshots, want %d and %d", same+ordered-snapshots, snapshots, events, want.Rows["snapshots"])
		}
		t.Logf("%d states: %d have the same bytes, %d another order of keys", same+ordered, same, ordered)
	})
}

// isoformat is a time as Python's isoformat writes it, after the name of its
// type.
func isoformat(at time.Time) string {
	layout := "2006-01-02T15:04:05-07:00"
	if at.Nanosecond() > 0 {
		layout = "2006-01-02T15:04:05.000000-07:00"
	}
	return "datetime " + at.Format(layout)
}

func texts(list []string) []any {
	all := make([]any, len(list))
	for i, text := range list {
		all[i] = text
	}
	return all
}

// pythonState is the state of an aggregate as the library's reader describes
// it.
func pythonState(aggregate any, createdOn, modifiedOn time.Time) map[string]any {
	state := map[string]any{"_created_on": isoformat(createdOn), "_modified_on": isoformat(modifiedOn)}
	switch a := aggregate.(type) {
	case *pyDog:
		state["name"], state["tricks"] = a.Name, texts(a.Tricks)
	case *pyVisit:
		state["dog_id"], state["at"], state["notes"] = "UUID "+a.DogID.String(), isoformat(a.At), texts(a.Notes)
		state["fee"] = fmt.Sprintf("Decimal Decimal('%s')", a.Fee)
	case *pyCounter:
		state["trick"], state["count"] = a.Trick, fmt.Sprintf("int %d", a.Count)
	}
	return state
}

// stateAt loads an aggregate at a version and describes it.
func stateAt[T any](t *testing.T, r *application.Repository[T], id string, version int64) map[string]any {
	t.Helper()
	a := expect.Must(r.GetAt(t.Context(), uuid.MustParse(id), version))
	root := any(a).(interface{ CreatedOn() time.Time })
	return pythonState(a, root.CreatedOn(), any(a).(interface{ ModifiedOn() time.Time }).ModifiedOn())
}

// Every aggregate at its every version, every snapshot, notification and
// position is read as the library reads it, with the types of its values, in
// both layouts, with snapshots and without.
func TestPythonHistory(t *testing.T) {
	eachPythonLibrary(t, func(t *testing.T, f pythonFixture, db *gorm.DB) {
		want := f.library(t, db).Read(t)
		for name, options := range map[string][]application.Option{
			"Python layout":     {application.WithPythonLayout()},
			"own layout":        nil,
			"without snapshots": {application.WithPythonLayout(), application.WithEnv(map[string]string{"IS_SNAPSHOTTING_ENABLED": "n"})},
		} {
			school, counting := pyApplication(t, schoolName, f, db, options...), pyApplication(t, countersName, f, db, options...)
			dogs, visits := expect.Must(application.NewRepository(school, pyDogs)), expect.Must(application.NewRepository(school, pyVisits))
			counters := expect.Must(application.NewRepository(counting, pyCounters))
			for _, a := range want.History {
				var got map[string]any
				switch a.Class {
				case "Dog":
					got = stateAt(t, dogs, a.Originator, a.Version)
				case "Visit":
					got = stateAt(t, visits, a.Originator, a.Version)
				case "Counter":
					got = stateAt(t, counters, a.Originator, a.Version)
				}
				if !reflect.DeepEqual(got, a.State) {
					t.Errorf("%s: %s %s at %d is %v, want %v", name, a.Class, a.Originator, a.Version, got, a.State)
				}
			}
			wantPythonNotifications(t, name, want, school, counting)
			if position := expect.Must(bridge.Of(counting).Recorder().MaxTrackingID(t.Context(), schoolName)); position != want.Tracking[0].Position {
				t.Errorf("%s: the position is %d, want %d", name, position, want.Tracking[0].Position)
			}
			wantPythonSnapshots(t, name, want, bridge.Of(school).Mapper(), db)
		}
		if len(want.History) != len(want.Events) || len(want.Snapshots) != 2 || len(want.Tracking) != 1 {
			t.Errorf("the library has read %d aggregates at %d versions, %d snapshots and %d positions, want %v History, 2 Snapshots and 1 Tracking", len(want.Aggregates), len(want.History), len(want.Snapshots), len(want.Tracking), len(want.Events))
		}
		t.Logf("%d aggregates at %d versions, %d notifications, %d snapshots, %d positions",
			len(want.Aggregates), len(want.History), len(want.Events), len(want.Snapshots), len(want.Tracking))
	})
}

func wantPythonNotifications(t *testing.T, name string, want pythontest.Contents, apps ...*application.Application) {
	t.Helper()
	found := map[int64]persistence.Notification{}
	applications := map[int64]string{}
	for _, app := range apps {
		for _, n := range wholeLog(t, bridge.Of(app).Recorder()) {
			found[n.ID], applications[n.ID] = n, app.Name()
		}
	}
	for _, e := range want.Events {
		n := found[e.ID]
		if applications[e.ID] != e.Application || n.OriginatorID.String() != e.Originator || n.OriginatorVersion != e.Version || n.Topic != e.Topic {
			t.Errorf("%s: notification %d is %s %+v, want %+v", name, e.ID, applications[e.ID], n, e)
		}
	}
	if len(found) != len(want.Events) {
		t.Errorf("%s: %d notifications, want %d", name, len(found), len(want.Events))
	}
}

func wantPythonSnapshots(t *testing.T, name string, want pythontest.Contents, m *mapper.Mapper, db *gorm.DB) {
	t.Helper()
	for _, s := range want.Snapshots {
		var row gormstore.Snapshot
		err := db.Where("originator_id = ? AND originator_version = ?", gormstore.UUID(uuid.MustParse(s.Originator)), s.Version).Take(&row).Error
		if err != nil {
			t.Fatal(err)
		}
		stored := persistence.StoredEvent{OriginatorID: uuid.UUID(row.OriginatorID), OriginatorVersion: row.OriginatorVersion, Topic: row.Topic, State: row.State}
		event := expect.Must(m.SnapshotToDomain(stored))
		data := event.Data.(eventtype.SnapshotState[pyDog])
		if got := pythonState(&data.State, data.CreatedOn, data.ModifiedOn); !reflect.DeepEqual(got, s.State["state"]) || s.Topic != row.Topic ||
			isoformat(event.Timestamp) != s.State["timestamp"] || s.State["topic"] != pythonModule+"Dog" {
			t.Errorf("%s: the snapshot of %s at %d is %v, want %v", name, s.Originator, s.Version, got, s.State)
		}
	}
}
