package gormstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// What followers have parked of a deleted originator is deleted, and positions
// as Django keeps them move back.
func TestDeleteOriginator(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		ctx, store := t.Context(), gormstore.New(db)
		leader, err := store.ProcessRecorder(schoolName)
		if err != nil {
			t.Fatal(err)
		}
		counters, err := store.ProcessRecorder(countersName)
		if err != nil {
			t.Fatal(err)
		}
		kept, deleted := uuid.New(), uuid.New()
		var ids []int64
		for _, id := range []uuid.UUID{kept, deleted} {
			got, err := leader.InsertEvents(ctx, []persistence.StoredEvent{
				{OriginatorID: id, OriginatorVersion: 1, Topic: "t", State: []byte{1}}})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, got...)
			park := persistence.ParkedEvent{UpstreamApplicationName: schoolName, NotificationID: got[0], OriginatorID: id,
				OriginatorVersion: 1, Topic: "t", Error: "e"}
			if err := counters.(capability.ParkingRecorder).ParkEvent(ctx, park); err != nil {
				t.Fatal(err)
			}
			for _, follower := range []string{"Django", "Django2"} { // a row for each notification
				row := gormstore.NotificationTracking{ApplicationName: follower, UpstreamApplicationName: schoolName, NotificationID: got[0]}
				if err := db.Create(&row).Error; err != nil {
					t.Fatal(err)
				}
			}
		}
		got, err := leader.(capability.OriginatorDeleter).DeleteOriginator(ctx, deleted)
		if want := (persistence.DeletedOriginator{Events: 1, Parked: 1}); err != nil || got != want {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
		parked, err := counters.(capability.ParkingRecorder).ParkedEvents(ctx, schoolName)
		if err != nil || len(parked) != 1 || parked[0].OriginatorID != kept {
			t.Errorf("parked are %v, %v, want no error, 1 of them and OriginatorID %v", parked, err, kept)
		}
		states, err := inventory.Of(store).TrackingStates(ctx)
		if err != nil || len(states) != 2 {
			t.Fatalf("states are %v, %v, want no error and 2 states", states, err)
		}
		for _, s := range states {
			if s.Position != ids[0] {
				t.Errorf("%s is at %d, want %d", s.ApplicationName, s.Position, ids[0])
			}
		}
	})
}

// A snapshot whose state was changed by hand is replaced, also where SQLite
// made text of it.
func TestReplaceSnapshotOfAnyStorageClass(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		ctx := t.Context()
		recorder, err := gormstore.New(db).SnapshotRecorder(schoolName)
		if err != nil {
			t.Fatal(err)
		}
		good := persistence.StoredEvent{OriginatorID: uuid.New(), OriginatorVersion: 1, Topic: "t", State: []byte("good")}
		if _, err := recorder.InsertEvents(ctx, []persistence.StoredEvent{good}); err != nil {
			t.Fatal(err)
		}
		for _, state := range []string{"abc", ""} {
			if err := db.Exec("UPDATE snapshots SET state = '" + state + "'").Error; err != nil {
				t.Fatal(err)
			}
			var found persistence.StoredEvent
			for e, err := range recorder.SelectEvents(ctx, good.OriginatorID, persistence.EventRange{}) {
				if err != nil {
					t.Fatal(err)
				}
				found = e
			}
			if replaced, err := recorder.(capability.SnapshotRecorder).ReplaceSnapshot(ctx, found, good); err != nil || !replaced {
				t.Errorf("state %q: got %v, %v", state, replaced, err)
			}
		}
	})
}

// A deletion holds the positions of all followers until it commits, also of one
// that has settings and no position yet. SQLite has one writer at a time.
func TestDeletionHoldsPositions(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgresSchema(t))
	store := gormstore.New(db)
	leader := recorder(t, db, schoolName)
	dog := uuid.New()
	insert(t, leader, history(dog, 1, 1)...)
	follower := recorder(t, db, countersName).(capability.RevisionRecorder)
	if err := follower.WriteSettings(t.Context(), schoolName, capability.FollowerSettings{Began: new(int64)}); err != nil {
		t.Fatal(err)
	}
	lock := func() error {
		return store.Transaction(t.Context(), func(ctx context.Context) error {
			_, _, _, err := follower.LockSettingsRevision(ctx, schoolName, time.Millisecond)
			return err
		})
	}
	err := gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error {
		if _, err := leader.(capability.OriginatorDeleter).DeleteOriginator(ctx, dog); err != nil {
			return err
		}
		if err := lock(); !errors.Is(err, persistence.ErrPositionLocked) {
			t.Errorf("got %v, want the position locked", err)
		}
		return nil
	})
	if err = errors.Join(err, lock()); err != nil {
		t.Error(err)
	}
}

// A deletion changes the revision of settings also if the clock has been set
// back since they were written.
func TestDeletionRevisesAfterTheClockWasSetBack(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		follower := recorder(t, db, countersName).(capability.RevisionRecorder)
		if err := follower.WriteSettings(t.Context(), schoolName, capability.FollowerSettings{}); err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Hour).UTC()
		if err := db.Model(&gormstore.FollowerSetting{}).Where("TRUE").Update("updated_at", later).Error; err != nil {
			t.Fatal(err)
		}
		last := later.UnixMicro()
		for range 3 {
			if _, err := recorder(t, db, schoolName).(capability.OriginatorDeleter).DeleteOriginator(t.Context(), uuid.New()); err != nil {
				t.Fatal(err)
			}
			_, _, revision, err := follower.SettingsRevision(t.Context(), schoolName)
			if err != nil || revision <= last {
				t.Fatalf("got the revision %d, %v after %d", revision, err, last)
			}
			last = revision
		}
	})
}
