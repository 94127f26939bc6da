package gormstore_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Positions are listed, counted and deleted, and only in a transaction.
func TestTrackingStates(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		store := gormstore.New(db)
		follower, err := store.ProcessRecorder(countersName)
		if err != nil {
			t.Fatal(err)
		}
		leader, err := store.ProcessRecorder(schoolName)
		if err != nil {
			t.Fatal(err)
		}
		id := uuid.New()
		var last int64
		for version := range int64(3) {
			ids, err := leader.InsertEvents(t.Context(), []persistence.StoredEvent{
				{OriginatorID: id, OriginatorVersion: version + 1, Topic: "t", State: []byte{1}}})
			if err != nil {
				t.Fatal(err)
			}
			last = ids[0]
		}
		if err := follower.InsertTracking(t.Context(), persistence.Tracking{ApplicationName: schoolName, NotificationID: last - 1}); err != nil {
			t.Fatal(err)
		}
		for n := range int64(2) { // as Django does it
			row := gormstore.NotificationTracking{ApplicationName: "Django", UpstreamApplicationName: schoolName, NotificationID: n + 1}
			if err := db.Create(&row).Error; err != nil {
				t.Fatal(err)
			}
		}
		states, err := inventory.Of(store).TrackingStates(t.Context())
		want := []inventory.TrackingState{
			{ApplicationName: countersName, UpstreamApplicationName: schoolName, Position: last - 1, Rows: 1},
			{ApplicationName: "Django", UpstreamApplicationName: schoolName, Position: 2, Rows: 2},
		}
		if err != nil || !slices.Equal(states, want) {
			t.Errorf("states are %v (%v), want %v", states, err, want)
		}
		if count, err := inventory.Of(store).CountNotifications(t.Context(), schoolName, last-1); err != nil || count != 2 {
			t.Errorf("%d notifications (%v), want 2", count, err)
		}
		if _, err := capability.Of(store).Positions.DeleteTracking(t.Context(), countersName, schoolName); !errors.Is(err, persistence.ErrNoTransaction) {
			t.Errorf("outside of a transaction the error is %v, want an error that is %v", err, persistence.ErrNoTransaction)
		}
		if _, err := store.DeleteEvents(t.Context(), schoolName); !errors.Is(err, persistence.ErrNoTransaction) {
			t.Errorf("outside of a transaction the error is %v, want an error that is %v", err, persistence.ErrNoTransaction)
		}
		deleteAll := func(then error) error {
			return store.Transaction(t.Context(), func(ctx context.Context) error {
				for name, want := range map[string]int64{countersName: 1, "Django": 2, "Nobody": 0} {
					if rows, err := capability.Of(store).Positions.DeleteTracking(ctx, name, schoolName); err != nil || rows != want {
						t.Errorf("%s: %d rows (%v), want %d", name, rows, err, want)
					}
				}
				if events, err := store.DeleteEvents(ctx, schoolName); err != nil || events != 3 {
					t.Errorf("%d events (%v), want 3", events, err)
				}
				return then
			})
		}
		before := contentDump(t, db)
		undo := errors.New("undo")
		if err := deleteAll(undo); !errors.Is(err, undo) {
			t.Fatalf("got %v, want an error that is %v", err, undo)
		}
		wantSame(t, "a transaction that was rolled back", before, contentDump(t, db))
		if err := deleteAll(nil); err != nil {
			t.Fatal(err)
		}
		states, err = inventory.Of(store).TrackingStates(t.Context())
		if err != nil || len(states) != 0 {
			t.Errorf("states are %v (%v), want none", states, err)
		}
		ids, err := leader.InsertEvents(t.Context(), []persistence.StoredEvent{{OriginatorID: id, OriginatorVersion: 1, Topic: "t", State: []byte{}}})
		if err != nil || ids[0] <= last {
			t.Errorf("the next event has id %v (%v), want one behind %d", ids, err, last)
		}
	})
}
