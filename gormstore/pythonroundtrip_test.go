package gormstore_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Events and snapshots of the Python program come out of the Python layout as
// they went in: the same rows if they are plain, and the same values if they
// are compressed or encrypted.
func TestPythonRoundTrip(t *testing.T) {
	eachPythonFixture(t, func(t *testing.T, f pythonFixture, db *gorm.DB) {
		want := f.facts(t)
		app := pyApplication(t, schoolName, f, db, application.WithPythonLayout())
		must(application.NewRepository(app, pyDogs))
		must(application.NewRepository(app, pyVisits))
		ctx, m, events, snapshots := t.Context(), bridge.Of(app).Mapper(), 0, 0
		var ids []uuid.UUID
		for _, dog := range want.Dogs {
			ids = append(ids, dog.ID)
		}
		for id := range want.Visits {
			ids = append(ids, id)
		}
		compare := func(what string, stored, again persistence.StoredEvent, err error) {
			if f.file == "plain.sqlite3" && (err != nil || again.Topic != stored.Topic || !bytes.Equal(again.State, stored.State)) {
				t.Errorf("%s: got  %s %s, error %v\nwant %s %s", what, again.Topic, again.State, err, stored.Topic, stored.State)
			}
		}
		for _, id := range ids {
			for stored, err := range bridge.Of(app).Recorder().SelectEvents(ctx, id, persistence.EventRange{}) {
				if err != nil {
					t.Fatal(err)
				}
				event := must(m.ToDomain(stored))
				again, err := m.ToStored(event)
				compare("event", stored, again, err)
				if got := must(m.ToDomain(again)); !reflect.DeepEqual(got, event) {
					t.Errorf("event: got %+v, want %+v", got, event)
				}
				events++
			}
			for stored, err := range bridge.Of(app).Snapshots().GetStored(ctx, id, persistence.EventRange{}) {
				if err != nil {
					t.Fatal(err)
				}
				snapshot := must(m.SnapshotToDomain(stored))
				topic := snapshot.Topic
				snapshot.Topic = pyDogs.Name()
				again, err := m.SnapshotToStored(snapshot)
				compare("snapshot", stored, again, err)
				snapshot.Topic = topic
				if got := must(m.SnapshotToDomain(again)); !reflect.DeepEqual(got, snapshot) {
					t.Errorf("snapshot: got %+v, want %+v", got, snapshot)
				}
				snapshots++
			}
		}
		if int64(snapshots) != want.Rows["snapshots"] || events == 0 {
			t.Errorf("compared %d events and %d snapshots, want some and %d", events, snapshots, want.Rows["snapshots"])
		}
		t.Logf("%d events, %d snapshots", events, snapshots)
	})
}
