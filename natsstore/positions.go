package natsstore

import (
	"context"
	"errors"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

var _ persistence.PositionMover = (*processRecorder)(nil)

// InsertTracking implements persistence.TrackingRecorder.
func (r *processRecorder) InsertTracking(ctx context.Context, tracking persistence.Tracking) error {
	_, err := r.move(ctx, "move a position", nil, tracking)
	return err
}

// InsertProcessed implements persistence.ProcessRecorder.
func (r *processRecorder) InsertProcessed(
	ctx context.Context, events []persistence.StoredEvent, tracking persistence.Tracking,
) ([]int64, error) {
	return r.move(ctx, "insert processed events", events, tracking)
}

func (r *processRecorder) move(
	ctx context.Context, op string, events []persistence.StoredEvent, tracking persistence.Tracking,
) ([]int64, error) {
	if err := persistence.ValidateTracking(tracking); err != nil {
		return nil, err
	}
	if err := persistence.ValidateEvents(r.application, events); err != nil {
		return nil, err
	}
	ctx, cancel, err := r.begin(ctx, op)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return r.newSave(op, events, &tracking).run(ctx)
}

// MovePosition implements persistence.PositionMover.
func (r *processRecorder) MovePosition(ctx context.Context, from int64, to persistence.Tracking) error {
	if err := persistence.ValidateTracking(to); err != nil {
		return err
	}
	const op = "move a position"
	ctx, cancel, err := r.begin(ctx, op)
	if err != nil {
		return err
	}
	defer cancel()
	w := r.newWriting(op)
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		known, err := r.positionOf(ctx, op, to.ApplicationName)
		switch {
		case err != nil && w.unknown:
			return w.outcomeUnknown(err)
		case err != nil:
			return err
		case known.write == w.id:
			return nil
		case known.number != from || known.number >= to.NotificationID:
			return r.behind(to, known.number)
		}
		message := w.position(to, known.seq)
		first, err := w.publish(ctx, []outgoing{message})
		if !errors.Is(err, errRefused) {
			if err == nil {
				r.moved(to, first, w.id)
			}
			return err
		}
		if !sleep(ctx, pause) {
			return w.ended(ctx, errRefused)
		}
	}
}

// position makes the message that moves a position.
func (w *writing) position(to persistence.Tracking, last int64) outgoing {
	f := frame{kind: positionKind, write: w.id, number: to.NotificationID}
	return outgoing{subject: w.names.position(to.ApplicationName), data: f.encode(), expect: true, last: last}
}

// MaxTrackingID implements persistence.TrackingRecorder.
func (r *processRecorder) MaxTrackingID(ctx context.Context, upstream string) (int64, error) {
	const op = "read a position"
	ctx, cancel, err := r.begin(ctx, op)
	if err != nil {
		return 0, err
	}
	defer cancel()
	known, err := r.positionOf(ctx, op, upstream)
	return known.number, err
}

// positionOf asks the leader for a position.
func (s *stream) positionOf(ctx context.Context, op, upstream string) (positionMark, error) {
	known, _ := s.positions.get(upstream)
	m, found, err := s.leaderLast(ctx, op, s.names.position(upstream), known.seq)
	if err != nil || !found {
		return positionMark{}, err
	}
	p := positionMark{mark{m.number, m.seq}, m.write}
	s.rememberPosition(upstream, p)
	return p, nil
}

// knownPosition returns the position that this process knows of, or asks the
// leader.
func (s *stream) knownPosition(ctx context.Context, op, upstream string) (positionMark, error) {
	if known, ok := s.positions.get(upstream); ok {
		return known, nil
	}
	return s.positionOf(ctx, op, upstream)
}

// moved remembers a position that was moved.
func (s *stream) moved(to persistence.Tracking, seq int64, id writeID) {
	s.rememberPosition(to.ApplicationName, positionMark{mark{to.NotificationID, seq}, id})
}

func (s *stream) rememberPosition(upstream string, p positionMark) {
	s.positions.update(upstream, func(known positionMark) positionMark {
		if known.seq > p.seq {
			return known
		}
		return p
	})
}

func (s *stream) behind(to persistence.Tracking, current int64) error {
	return &persistence.TrackingError{Application: s.application, Upstream: to.ApplicationName,
		NotificationID: to.NotificationID, Current: current}
}
