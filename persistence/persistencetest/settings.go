package persistencetest

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
)

// settingsRows are about SettingsRecorder. They do nothing with a recorder that
// is none.
var settingsRows = []row{{
	name: "a follower that has not begun has zero settings",
	says: "The settings of a follower that nothing was written of are zero, and not nil.",
	run: eachSettings(func(t testing.TB, s *store, r capability.SettingsRecorder) {
		wantSettings(t, s, r, kennels, 0, capability.FollowerSettings{})
	}),
}, {
	name: "settings come back as they were",
	says: "Settings are those that were written last, to the microsecond.",
	run: eachSettings(func(t testing.TB, s *store, r capability.SettingsRecorder) {
		for _, settings := range []capability.FollowerSettings{someSettings(), {Began: new(int64)}, someSettings(), {}} {
			must(t, r.WriteSettings(s.ctx, kennels, settings))
			wantSettings(t, s, r, kennels, 0, settings)
		}
	}),
}, {
	name: "settings are kept for each upstream application",
	says: "The settings of a follower for different upstream applications are separate, and so are those of followers.",
	run: eachSettings(func(t testing.TB, s *store, r capability.SettingsRecorder) {
		must(t, r.WriteSettings(s.ctx, kennels, someSettings()))
		wantSettings(t, s, r, shelters, 0, capability.FollowerSettings{})
		_, others, err := s.neighbour.process.(capability.SettingsRecorder).Settings(s.ctx, kennels)
		must(t, err)
		if others == nil || *others != (capability.FollowerSettings{}) {
			t.Errorf("the settings of another follower are %+v, want other than nil and %v", others, (capability.FollowerSettings{}))
		}
	}),
}, {
	name: "the position comes with the settings",
	says: "Settings come with the position in the same log, and neither changes the other.",
	run: eachSettings(func(t testing.TB, s *store, r capability.SettingsRecorder) {
		s.insertTracking(t, kennels, 5)
		s.insertTracking(t, shelters, 7)
		must(t, r.WriteSettings(s.ctx, kennels, someSettings()))
		wantSettings(t, s, r, kennels, 5, someSettings())
		s.insertTracking(t, kennels, 6)
		wantSettings(t, s, r, kennels, 6, someSettings())
		wantSettings(t, s, r, shelters, 7, capability.FollowerSettings{})
	}),
}, {
	name:  "settings take part in transactions",
	says:  "Settings that were written in a transaction are seen in it, and are there after its commit and not after its rollback.",
	needs: []Feature{Transaction},
	run: eachSettings(func(t testing.TB, s *store, r capability.SettingsRecorder) {
		for _, result := range []error{errRollback, nil} {
			err := s.transaction(s.ctx, func(ctx context.Context) error {
				_, before, err := r.LockSettings(ctx, kennels)
				must(t, err)
				if before == nil || before.Paused() {
					t.Errorf("LockSettings = %+v before anything was committed, want settings that are not paused", before)
				}
				must(t, r.WriteSettings(ctx, kennels, someSettings()))
				_, after, err := r.LockSettings(ctx, kennels)
				must(t, err)
				if after == nil || !after.Paused() {
					t.Errorf("LockSettings = %+v after they were written, want settings that are paused", after)
				}
				return result
			})
			if !errors.Is(err, result) {
				t.Fatalf("the transaction: %v, want an error that is %v", err, result)
			}
			want := someSettings()
			if result != nil {
				want = capability.FollowerSettings{}
			}
			wantSettings(t, s, r, kennels, 0, want)
		}
	}),
}}

// eachSettings is a row for a recorder that keeps settings, both the
// application's and the neighbour's.
func eachSettings(run func(t testing.TB, s *store, r capability.SettingsRecorder)) func(testing.TB, *store) {
	return func(t testing.TB, s *store) {
		t.Helper()
		if r, ok := s.process.(capability.SettingsRecorder); ok {
			run(t, s, r)
		}
	}
}

func someSettings() capability.FollowerSettings {
	began := int64(3)
	return capability.FollowerSettings{Began: &began, Topics: `{"Dog.Registered":0,"Dog.TrickAdded":-7}`, TopicChanges: 2,
		PausedAt: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC), PausedBy: "somebody"}
}

func wantSettings(
	t testing.TB, s *store, r capability.SettingsRecorder, upstream string, position int64, want capability.FollowerSettings,
) {
	t.Helper()
	at, got, err := r.Settings(s.ctx, upstream)
	must(t, err)
	if at != position || got == nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("Settings(%q) = %d, %+v, want %d, %+v", upstream, at, got, position, want)
	}
}
