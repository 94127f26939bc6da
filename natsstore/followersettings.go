package natsstore

import (
	"context"
	"encoding/json"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// storedSettings are settings of a follower as they are stored with its
// position.
type storedSettings struct {
	Began        *int64    `json:"began,omitempty"`
	Topics       string    `json:"topics,omitempty"`
	TopicChanges int64     `json:"topic_changes,omitempty"`
	PausedAt     time.Time `json:"paused_at,omitzero"`
	PausedBy     string    `json:"paused_by,omitempty"`
}

// Settings implements capability.SettingsRecorder.
func (r *processRecorder) Settings(ctx context.Context, upstream string) (int64, *capability.FollowerSettings, error) {
	const op = "read the settings of a follower"
	ctx, cancel, err := r.begin(ctx, op)
	if err != nil {
		return 0, nil, err
	}
	defer cancel()
	position, stored, err := r.storedPosition(ctx, op, upstream)
	if err != nil {
		return 0, nil, err
	}
	settings, err := r.settingsOf(op, stored)
	return position, settings, err
}

// LockSettings implements capability.SettingsRecorder, like LockPosition.
func (r *processRecorder) LockSettings(ctx context.Context, upstream string) (int64, *capability.FollowerSettings, error) {
	const op = "lock the settings of a follower"
	position, stored, err := r.lockPosition(ctx, op, upstream)
	if err != nil {
		return 0, nil, err
	}
	settings, err := r.settingsOf(op, stored)
	return position, settings, err
}

// settingsOf decodes settings. Those of a follower that has not begun are zero.
func (s *stream) settingsOf(op string, stored []byte) (*capability.FollowerSettings, error) {
	var settings storedSettings
	if len(stored) > 0 {
		if err := json.Unmarshal(stored, &settings); err != nil {
			return nil, s.failure(op, persistence.ErrInternal, "they were written by another program, or by a newer version of this one", err)
		}
	}
	return &capability.FollowerSettings{Began: settings.Began, Topics: settings.Topics, TopicChanges: settings.TopicChanges,
		PausedAt: settings.PausedAt, PausedBy: settings.PausedBy}, nil
}

// WriteSettings implements capability.SettingsRecorder.
func (r *processRecorder) WriteSettings(ctx context.Context, upstream string, settings capability.FollowerSettings) error {
	stored, err := encodedSettings(settings)
	if err != nil {
		return err
	}
	return r.changePosition(ctx, "write the settings of a follower", upstream, func(number int64, _ []byte) (int64, []byte, error) {
		return number, stored, nil
	})
}

func encodedSettings(s capability.FollowerSettings) ([]byte, error) {
	stored := storedSettings{Began: s.Began, Topics: s.Topics, TopicChanges: s.TopicChanges, PausedAt: s.PausedAt.UTC(), PausedBy: s.PausedBy}
	return json.Marshal(stored)
}

// DeleteTracking implements capability.PositionDeleter.
func (s storeCapabilities) DeleteTracking(ctx context.Context, follower, upstream string) (rows int64, err error) {
	stream, err := s.stream(follower, ofEvents)
	if err != nil {
		return 0, err
	}
	const op = "delete a position"
	r := processRecorder{stream}
	err = r.changePosition(ctx, op, upstream, func(number int64, stored []byte) (int64, []byte, error) {
		rows = min(number, 1)
		settings, err := r.settingsOf(op, stored)
		if err != nil {
			return 0, nil, err
		}
		settings.Topics, settings.TopicChanges = "", 0
		stored, err = encodedSettings(*settings)
		return 0, stored, err
	})
	return rows, err
}
