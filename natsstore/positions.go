package natsstore

import (
	"context"
	"errors"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

var (
	_ persistence.TrackingRecorder = (*processRecorder)(nil)
)

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
	ctx, tx, cancel, err := r.beginWrite(ctx, op)
	if err != nil {
		return nil, err
	}
	defer cancel()
	if tx == nil {
		return r.newSave(op, events, &tracking).run(ctx)
	}
	return nil, tx.stage(r.stream, op, func(st *stage) error {
		p, err := st.position(ctx, op, tracking.ApplicationName)
		switch {
		case err != nil:
			return err
		case p.number >= tracking.NotificationID:
			return r.behind(tracking, p.number)
		}
		if err := st.insert(ctx, op, events); err != nil {
			return err
		}
		p.number, p.changed = tracking.NotificationID, true
		return nil
	})
}

// MovePosition implements persistence.TrackingRecorder.
func (r *processRecorder) MovePosition(ctx context.Context, from int64, to persistence.Tracking) error {
	if err := persistence.ValidateTracking(to); err != nil {
		return err
	}
	return r.changePosition(ctx, "move a position", to.ApplicationName, func(number int64, settings []byte) (int64, []byte, error) {
		if number != from || number >= to.NotificationID {
			return 0, nil, r.behind(to, number)
		}
		return to.NotificationID, settings, nil
	})
}

// changePosition changes a position and the settings that are stored with it.
func (r *processRecorder) changePosition(
	ctx context.Context, op, upstream string, change func(number int64, settings []byte) (int64, []byte, error),
) error {
	ctx, tx, cancel, err := r.beginWrite(ctx, op)
	if err != nil {
		return err
	}
	defer cancel()
	if tx != nil {
		return tx.stage(r.stream, op, func(st *stage) error {
			p, err := st.position(ctx, op, upstream)
			if err != nil {
				return err
			}
			number, settings, err := change(p.number, p.settings)
			if err == nil {
				p.number, p.settings, p.changed = number, settings, true
			}
			return err
		})
	}
	w := r.newWriting(op)
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		known, err := r.positionOf(ctx, op, upstream)
		switch {
		case err != nil && w.unknown:
			return w.outcomeUnknown(err)
		case err != nil:
			return err
		case known.write == w.id:
			return nil
		}
		number, settings, err := change(known.number, known.settings)
		if err != nil {
			return err
		}
		first, err := w.publish(ctx, []outgoing{w.position(upstream, number, settings, known.seq)})
		if !errors.Is(err, errRefused) {
			if err == nil {
				r.rememberPosition(upstream, positionMark{mark{number, first}, w.id, settings})
			}
			return err
		}
		if !sleep(ctx, pause) {
			return w.ended(ctx, errRefused)
		}
	}
}

// position makes the message of a position.
func (w *writing) position(upstream string, number int64, settings []byte, last int64) outgoing {
	f := frame{kind: positionKind, write: w.id, number: number, state: settings}
	return outgoing{subject: w.names.position(upstream), data: f.encode(), expect: true, last: last}
}

// LockPosition implements persistence.TrackingRecorder. The position is compared
// when the transaction commits: if it was moved meanwhile nothing is stored.
func (r *processRecorder) LockPosition(ctx context.Context, upstream string) (int64, error) {
	position, _, err := r.lockPosition(ctx, "lock a position", upstream)
	return position, err
}

func (r *processRecorder) lockPosition(ctx context.Context, op, upstream string) (position int64, settings []byte, err error) {
	if r.store.transaction(ctx) == nil {
		return 0, nil, r.failure(op, persistence.ErrNoTransaction, "", nil)
	}
	ctx, tx, cancel, err := r.beginWrite(ctx, op)
	if err != nil {
		return 0, nil, err
	}
	defer cancel()
	err = tx.stage(r.stream, op, func(st *stage) error {
		p, err := st.position(ctx, op, upstream)
		if err == nil {
			position, settings = p.number, p.settings
		}
		return err
	})
	return position, settings, err
}

// MaxTrackingID implements persistence.TrackingRecorder.
func (r *processRecorder) MaxTrackingID(ctx context.Context, upstream string) (int64, error) {
	const op = "read a position"
	ctx, cancel, err := r.begin(ctx, op)
	if err != nil {
		return 0, err
	}
	defer cancel()
	position, _, err := r.storedPosition(ctx, op, upstream)
	return position, err
}

// storedPosition returns a position and the settings that are stored with it,
// as the transaction in ctx has them.
func (r *processRecorder) storedPosition(ctx context.Context, op, upstream string) (int64, []byte, error) {
	if p, ok := r.store.transaction(ctx).stagedPosition(r.stream, upstream); ok {
		return p.number, p.settings, nil
	}
	known, err := r.positionOf(ctx, op, upstream)
	return known.number, known.settings, err
}

// positionOf asks the leader for a position.
func (s *stream) positionOf(ctx context.Context, op, upstream string) (positionMark, error) {
	known, _ := s.positions.get(upstream)
	m, found, err := s.leaderLast(ctx, op, s.names.position(upstream), known.seq)
	if err != nil || !found {
		return positionMark{}, err
	}
	p := positionMark{mark{m.number, m.seq}, m.write, m.state}
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

func (s *stream) rememberPosition(upstream string, p positionMark) {
	s.positions.update(upstream, func(known positionMark) positionMark {
		if known.seq > p.seq {
			return known
		}
		return p
	})
}

func (s *stream) behind(to persistence.Tracking, current int64) error {
	return capability.PositionMoved(s.application, to, current)
}
