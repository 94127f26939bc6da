package persistencetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// positionBugs are bugs of positions and settings of followers.
var positionBugs = []bug{
	{name: "moves are lost", spoil: func(r *spoilt) { r.move = func(context.Context, destination) error { return nil } }},
	{name: "settings are shared by upstream applications", spoil: func(r *spoilt) {
		read, write := r.settings, r.writeSettings
		r.settings = func(ctx context.Context, upstream string) (int64, *capability.FollowerSettings, error) {
			position, err := r.position(ctx, upstream)
			_, settings, failed := read(ctx, kennels)
			return position, settings, errors.Join(err, failed)
		}
		r.writeSettings = func(ctx context.Context, _ string, settings capability.FollowerSettings) error {
			return write(ctx, kennels, settings)
		}
	}},
	{name: "settings do not know when the follower was paused", spoil: eachSettingsRead(func(_ *int64, s *capability.FollowerSettings) {
		s.PausedAt = s.PausedAt.Truncate(time.Second)
	})},
	{name: "settings forget that a follower began at 0", spoil: eachSettingsRead(func(_ *int64, s *capability.FollowerSettings) {
		if s.Began != nil && *s.Began == 0 {
			s.Began = nil
		}
	})},
	{name: "settings come without the position", spoil: eachSettingsRead(func(position *int64, _ *capability.FollowerSettings) {
		*position = 0
	})},
	{name: "settings are written outside of the transaction", spoil: func(r *spoilt) {
		var mu sync.Mutex
		written := map[string]*capability.FollowerSettings{}
		r.writeSettings = func(_ context.Context, upstream string, settings capability.FollowerSettings) error {
			mu.Lock()
			defer mu.Unlock()
			written[upstream] = &settings
			return nil
		}
		read := func(inner readSettingsFunc) readSettingsFunc {
			return func(ctx context.Context, upstream string) (int64, *capability.FollowerSettings, error) {
				position, settings, err := inner(ctx, upstream)
				mu.Lock()
				defer mu.Unlock()
				if kept := written[upstream]; kept != nil {
					settings = kept
				}
				return position, settings, err
			}
		}
		r.settings, r.lockSettings = read(r.settings), read(r.lockSettings)
	}},
	{name: "positions go back", fresh: func() spoiler { return overwritten(func(current, to int64) bool { return true }) }},
	{name: "positions go back where they were not", fresh: func() spoiler {
		return overwritten(func(current, to int64) bool { return to != current })
	}},
	{name: "a position can be reached twice", fresh: func() spoiler {
		return overwritten(func(current, to int64) bool { return to >= current })
	}},
	{name: "a position moves by one", spoil: func(r *spoilt) {
		move, position := r.move, r.position
		r.move = func(ctx context.Context, to destination) error {
			current, err := position(ctx, to.ApplicationName)
			if err == nil && to.NotificationID > current+1 {
				return errors.New("out of sequence")
			}
			return errors.Join(err, move(ctx, to))
		}
	}},
	{name: "one position for all upstream applications", spoil: func(r *spoilt) {
		move, position, process := r.move, r.position, r.process
		r.move = func(ctx context.Context, to destination) error {
			to.ApplicationName = kennels
			return move(ctx, to)
		}
		r.position = func(ctx context.Context, _ string) (int64, error) { return position(ctx, kennels) }
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			to.ApplicationName = kennels
			return process(ctx, events, to)
		}
	}},
	{name: "positions are shared by followers", spoil: func(r *spoilt) {
		if shared, err := r.factory.ProcessRecorder("shared"); err == nil && !r.snapshots {
			r.move, r.position = shared.InsertTracking, shared.MaxTrackingID
		}
	}},
	{name: "positions are 32 bits", spoil: func(r *spoilt) {
		position := r.position
		r.position = func(ctx context.Context, upstream string) (int64, error) {
			id, err := position(ctx, upstream)
			return int64(int32(id)), err
		}
	}},
	{name: "a position moves from anywhere", spoil: func(r *spoilt) {
		r.moveFrom = func(ctx context.Context, _ int64, to destination) error { return r.move(ctx, to) }
	}},
	{name: "moves that are refused are of no class", spoil: func(r *spoilt) {
		move := r.move
		r.move = func(ctx context.Context, to destination) error {
			err := move(ctx, to)
			if isTracking(err) {
				return &persistence.Error{Class: persistence.ErrIntegrity, Op: "move"}
			}
			return err
		}
	}},
	{name: "moves that are refused do not say the position", spoil: func(r *spoilt) {
		move := r.move
		r.move = func(ctx context.Context, to destination) error {
			err := move(ctx, to)
			if isTracking(err) {
				return &persistence.Error{Class: persistence.ErrPositionMoved, Op: fmt.Sprintf("%s: move the position in %s to %d",
					r.application, to.ApplicationName, to.NotificationID)}
			}
			return err
		}
	}},
	{name: "position 0 is stored", spoil: func(r *spoilt) {
		move := r.move
		r.move = func(ctx context.Context, to destination) error {
			if to.NotificationID < 1 {
				return nil
			}
			return move(ctx, to)
		}
	}},
	{name: "a position of none is 1", spoil: func(r *spoilt) {
		position := r.position
		r.position = func(ctx context.Context, upstream string) (int64, error) {
			id, err := position(ctx, upstream)
			return max(id, 1), err
		}
	}},
}

// processingBugs are bugs of processing.
var processingBugs = []bug{
	{name: "processing moves no position", spoil: func(r *spoilt) {
		r.process = func(ctx context.Context, events []storedEvent, _ destination) ([]int64, error) {
			return r.insert(ctx, events)
		}
	}},
	{name: "processing nothing moves no position", spoil: func(r *spoilt) {
		process := r.process
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			if len(events) == 0 {
				return nil, nil
			}
			return process(ctx, events, to)
		}
	}},
	{name: "the position is moved before the events are stored", spoil: func(r *spoilt) {
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			if err := errors.Join(persistence.ValidateEvents(r.application, events), r.move(ctx, to)); err != nil {
				return nil, err
			}
			return r.insert(ctx, events)
		}
	}},
	{name: "the events are stored before the position is moved", spoil: func(r *spoilt) {
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			if err := persistence.ValidateTracking(to); err != nil {
				return nil, err
			}
			ids, err := r.insert(ctx, events)
			if err != nil {
				return nil, err
			}
			return ids, r.move(ctx, to)
		}
	}},
	{name: "a conflict hides that the position is behind", spoil: func(r *spoilt) {
		process := r.process
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			ids, err := process(ctx, events, to)
			if isTracking(err) {
				if _, conflict := r.insert(ctx, slices.Concat(events, events)); conflict != nil && len(events) > 0 {
					return nil, conflict
				}
			}
			return ids, err
		}
	}},
	{name: "a repeated position is taken for done", spoil: func(r *spoilt) {
		process := r.process
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			ids, err := process(ctx, events, to)
			if isTracking(err) {
				return nil, nil
			}
			return ids, err
		}
	}},
}
