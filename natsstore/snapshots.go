package natsstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// snapshotRecorder keeps the snapshots of an application: each is the only
// message of its subject.
type snapshotRecorder struct{ *stream }

// InsertEvents implements persistence.AggregateRecorder.
func (r *snapshotRecorder) InsertEvents(ctx context.Context, snapshots []persistence.StoredEvent) ([]int64, error) {
	return nil, r.insert(ctx, "insert snapshots", snapshots)
}

func (r *snapshotRecorder) insert(ctx context.Context, op string, snapshots []persistence.StoredEvent) error {
	if r.store.transaction(ctx) != nil {
		return r.failure(op, persistence.ErrNotSupported, "take snapshots after the commit",
			errors.New("a transaction on NATS has no snapshots, which may be of events that are not stored yet"))
	}
	if err := persistence.ValidateEvents(r.application, snapshots); err != nil {
		return err
	}
	ctx, cancel, err := r.begin(ctx, op)
	if err != nil {
		return err
	}
	defer cancel()
	if len(snapshots) == 0 {
		return nil
	}
	w := r.newWriting(op)
	messages := make([]outgoing, len(snapshots))
	for i := range snapshots {
		messages[i] = w.snapshot(&snapshots[i], 0)
	}
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		if _, err := w.publish(ctx, messages); !errors.Is(err, errRefused) {
			return err
		}
		stored, err := r.conflict(ctx, w, snapshots)
		if stored || err != nil {
			return err
		}
		if !sleep(ctx, pause) {
			return w.ended(ctx, errRefused)
		}
	}
}

func (w *writing) snapshot(e *persistence.StoredEvent, last int64) outgoing {
	f := frame{kind: snapshotKind, write: w.id, number: e.OriginatorVersion, topic: e.Topic, state: e.State}
	return outgoing{subject: w.names.snapshot(e.OriginatorID, e.OriginatorVersion), data: f.encode(), expect: true, last: last}
}

// conflict looks at what is stored after a refusal. It reports whether an
// earlier try has stored the snapshots, and returns a *ConflictError if other
// ones are in the way.
func (r *snapshotRecorder) conflict(ctx context.Context, w *writing, snapshots []persistence.StoredEvent) (stored bool, err error) {
	wanted := map[uuid.UUID][]int64{}
	for i := range snapshots {
		id := snapshots[i].OriginatorID
		wanted[id] = append(wanted[id], snapshots[i].OriginatorVersion)
	}
	var conflict *persistence.ConflictError
	for id, versions := range wanted {
		found, err := r.read(ctx, w.op, id, versions)
		if err != nil {
			if w.unknown {
				err = w.outcomeUnknown(err)
			}
			return false, err
		}
		for _, m := range found {
			if m.write == w.id {
				return true, nil
			}
			if conflict == nil {
				conflict = &persistence.ConflictError{Application: r.application, OriginatorID: id, Version: m.number, Current: -1}
			}
			m.seq = 0 // snapshots have no ids
			conflict.Stored = append(conflict.Stored, r.notification(m, id))
		}
	}
	if conflict == nil {
		return false, nil
	}
	return false, conflict
}

// SelectEvents implements persistence.AggregateRecorder.
func (r *snapshotRecorder) SelectEvents(
	ctx context.Context, originatorID uuid.UUID, want persistence.EventRange,
) iter.Seq2[persistence.StoredEvent, error] {
	return func(yield func(persistence.StoredEvent, error) bool) {
		if err := want.Validate(); err != nil {
			yield(persistence.StoredEvent{}, err)
			return
		}
		found, err := r.selected(ctx, originatorID, want)
		if err != nil {
			yield(persistence.StoredEvent{}, err)
			return
		}
		for _, m := range found {
			if !yield(r.notification(m, originatorID).StoredEvent, nil) {
				return
			}
		}
	}
}

// selected reads the snapshots of a range.
func (r *snapshotRecorder) selected(ctx context.Context, id uuid.UUID, want persistence.EventRange) ([]message, error) {
	const op = "select snapshots"
	ctx, cancel, err := r.begin(ctx, op)
	if err != nil {
		return nil, err
	}
	defer cancel()
	versions, err := r.versions(ctx, op, id)
	if err != nil {
		return nil, err
	}
	versions = slices.DeleteFunc(versions, func(v int64) bool { return v < want.From || want.Before > 0 && v >= want.Before })
	if want.Descending {
		slices.Reverse(versions)
	}
	if want.Limit > 0 && len(versions) > want.Limit {
		versions = versions[:want.Limit]
	}
	return r.read(ctx, op, id, versions)
}

// versions returns the versions of an originator's snapshots, ascending, as the
// leader has them.
func (r *snapshotRecorder) versions(ctx context.Context, op string, id uuid.UUID) (versions []int64, err error) {
	err = r.retry(ctx, op, func() error {
		info, err := r.info(ctx, op, r.names.snapshotsOf(id))
		if err != nil {
			return err
		}
		versions = versions[:0]
		for subject := range maps.Keys(info.State.Subjects) {
			if version, ok := versionOf(subject); ok {
				versions = append(versions, version)
			}
		}
		return nil
	})
	slices.Sort(versions)
	return versions, err
}

// fewSnapshots is how many snapshots are read one by one from the leader. More
// are read in pages.
const fewSnapshots = 4

// read reads the snapshots of some versions, in this order. One that does not
// exist is left out.
func (r *snapshotRecorder) read(ctx context.Context, op string, id uuid.UUID, versions []int64) ([]message, error) {
	var found []message
	if len(versions) <= fewSnapshots {
		for _, version := range versions {
			m, ok, err := r.leaderLast(ctx, op, r.names.snapshot(id, version), 0)
			if err != nil {
				return nil, err
			}
			if ok {
				found = append(found, m)
			}
		}
		return found, nil
	}
	all, err := r.readAll(ctx, op, id)
	if err != nil {
		return nil, err
	}
	for _, version := range versions {
		if m, ok := all[version]; ok {
			found = append(found, m)
		}
	}
	return found, nil
}

// readAll reads the snapshots of an originator, by version.
func (r *snapshotRecorder) readAll(ctx context.Context, op string, id uuid.UUID) (map[int64]message, error) {
	all := map[int64]message{}
	last, found, err := r.leaderLast(ctx, op, r.names.snapshotsOf(id), 0)
	if err != nil || !found {
		return all, err
	}
	from := int64(1)
	err = r.retry(ctx, op, func() error {
		for from <= last.seq {
			page, err := r.page(ctx, op, r.names.snapshotsOf(id), from, persistence.MaxPage)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				return errAgain{errBehind}
			}
			for _, m := range page {
				all[m.number], from = m, m.seq+1
			}
		}
		return nil
	})
	return all, err
}

// InsertSnapshot implements capability.SnapshotRecorder. Older snapshots are
// deleted after the new one is stored. If this process ends in between, they
// are deleted with the next one.
func (r *snapshotRecorder) InsertSnapshot(ctx context.Context, snapshot persistence.StoredEvent, keep int) error {
	const op = "save a snapshot"
	if err := r.insert(ctx, op, []persistence.StoredEvent{snapshot}); err != nil || keep <= 0 {
		return err
	}
	ctx, cancel, err := r.begin(ctx, op)
	if err != nil {
		return err
	}
	defer cancel()
	versions, err := r.versions(ctx, op, snapshot.OriginatorID)
	if err != nil {
		return err
	}
	versions = slices.DeleteFunc(versions, func(v int64) bool { return v > snapshot.OriginatorVersion })
	for _, version := range versions[:max(0, len(versions)-keep)] {
		if err := r.purge(ctx, op, r.names.snapshot(snapshot.OriginatorID, version)); err != nil {
			return err
		}
	}
	return nil
}

// purge deletes the message of a subject.
func (r *snapshotRecorder) purge(ctx context.Context, op, subject string) error {
	body, err := json.Marshal(map[string]string{"filter": subject})
	if err != nil {
		return err
	}
	return r.retry(ctx, op, func() error {
		var response struct {
			Error *apiError `json:"error"`
		}
		if err := r.store.request(ctx, "$JS.API.STREAM.PURGE."+r.name, body, &response); err != nil {
			return r.tryFailed(op, err)
		}
		if response.Error == nil {
			return nil
		}
		if err := r.apiFailure(op, response.Error); err != nil {
			return err
		}
		return errAgain{response.Error}
	})
}

// ReplaceSnapshot implements capability.SnapshotRecorder.
func (r *snapshotRecorder) ReplaceSnapshot(ctx context.Context, old, snapshot persistence.StoredEvent) (bool, error) {
	if err := capability.ValidateReplacement(old, snapshot); err != nil {
		return false, err
	}
	const op = "replace a snapshot"
	ctx, cancel, err := r.begin(ctx, op)
	if err != nil {
		return false, err
	}
	defer cancel()
	w := r.newWriting(op)
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		m, found, err := r.leaderLast(ctx, op, r.names.snapshot(old.OriginatorID, old.OriginatorVersion), 0)
		switch {
		case err != nil && w.unknown:
			return false, w.outcomeUnknown(err)
		case err != nil:
			return false, err
		case found && m.write == w.id:
			return true, nil
		case !found || m.topic != old.Topic || !bytes.Equal(m.state, old.State):
			return false, nil
		}
		_, err = w.publish(ctx, []outgoing{w.snapshot(&snapshot, m.seq)})
		if !errors.Is(err, errRefused) {
			return err == nil, err
		}
		if !sleep(ctx, pause) {
			return false, w.ended(ctx, errRefused)
		}
	}
}
