package mapper

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// fingerprintKey is the entry of a snapshot's metadata that has the fingerprint
// of its state.
const fingerprintKey = "state fingerprint"

// withFingerprint returns the metadata to store with a snapshot.
func withFingerprint(k kind, metadata domain.Metadata) domain.Metadata {
	all := make(domain.Metadata, len(metadata)+1)
	maps.Copy(all, metadata)
	all[fingerprintKey] = k.Fingerprint(k.Version())
	return all
}

// checkFingerprint takes the fingerprint out of a snapshot's metadata, and
// returns a *StateTypeError if the state has another structure than the program
// expects of that schema version.
func checkFingerprint(k kind, version int, snapshot *domain.Event) error {
	stored, marked := snapshot.Metadata[fingerprintKey]
	if delete(snapshot.Metadata, fingerprintKey); len(snapshot.Metadata) == 0 {
		snapshot.Metadata = nil
	}
	known := k.Fingerprint(version)
	if !marked || known != "" && stored != known {
		return &StateTypeError{Topic: snapshot.Topic, Stored: stored, Known: known}
	}
	return nil
}

// SnapshotStore stores and reads the snapshots of an application. It is safe
// for concurrent use.
type SnapshotStore struct {
	mapper   *Mapper
	recorder persistence.AggregateRecorder
	keep     int
	lost     *lostFields
}

// NewSnapshotStore makes a SnapshotStore that keeps all snapshots.
func NewSnapshotStore(mapper *Mapper, recorder persistence.AggregateRecorder) *SnapshotStore {
	return &SnapshotStore{mapper: mapper, recorder: recorder, lost: &lostFields{}}
}

// KeepNewest returns a SnapshotStore over the same recorder that deletes all
// but the newest n snapshots of an originator whenever it stores one. 0 keeps
// all. The recorder must be a SnapshotRecorder; otherwise all are kept.
func (s *SnapshotStore) KeepNewest(n int) *SnapshotStore {
	other := *s
	other.keep = n
	return &other
}

// Kept is how many snapshots of an originator are kept, or 0 for all.
func (s *SnapshotStore) Kept() int { return s.keep }

// Put stores a snapshot, as PutReporting does.
func (s *SnapshotStore) Put(ctx context.Context, snapshot domain.Event) error {
	_, err := s.PutReporting(ctx, snapshot)
	return err
}

// What PutReporting did.
const (
	// SnapshotStored says that there was no snapshot of that version.
	SnapshotStored = "stored"
	// SnapshotPresent says that a snapshot of that version exists which this
	// program can use.
	SnapshotPresent = "present"
	// SnapshotReplaced says that the snapshot of that version was one which
	// this program cannot use: it is damaged, its state has another type, or
	// its aggregate has other events.
	SnapshotReplaced = "replaced"
)

// PutReporting stores a snapshot and returns what it did. If a snapshot of that
// version exists it stays, because both have the same state; but one that this
// program cannot read, or that was made of another event, is replaced. It
// returns an ErrNotSupported if that is needed and the recorder is not a
// SnapshotRecorder, and a *StateTypeError if the snapshot is in the Python
// layout and would take fields away that earlier ones have.
func (s *SnapshotStore) PutReporting(ctx context.Context, snapshot domain.Event) (string, error) {
	stored, err := s.mapper.SnapshotToStored(snapshot)
	if err == nil && s.mapper.pythonLayout {
		err = s.checkLost(ctx, snapshot)
	}
	if err != nil {
		return "", err
	}
	for attempt := 1; ; attempt++ {
		conflict, err := s.insert(ctx, stored)
		if conflict == nil {
			return outcome(SnapshotStored, err)
		}
		old := conflict.Stored[0].StoredEvent
		if s.isUsable(old, snapshot.ID) {
			return SnapshotPresent, nil
		}
		recorder, ok := s.recorder.(capability.SnapshotRecorder)
		if !ok {
			return "", &persistence.Error{Class: persistence.ErrNotSupported, Op: s.mapper.application + ": replace a snapshot",
				Err: fmt.Errorf("the snapshot of %s at version %d cannot be used, and this store cannot replace it",
					old.OriginatorID, old.OriginatorVersion), Hint: "delete it from the table of snapshots"}
		}
		replaced, err := recorder.ReplaceSnapshot(ctx, old, stored)
		switch {
		case replaced || err != nil:
			return outcome(SnapshotReplaced, err)
		case attempt == replaceAttempts:
			return "", conflict
		}
	}
}

// replaceAttempts is how often a snapshot that other processes change at the
// same moment is looked at.
const replaceAttempts = 3

// insert stores a snapshot. The conflict is with the one that has its place.
func (s *SnapshotStore) insert(ctx context.Context, stored persistence.StoredEvent) (conflict *persistence.ConflictError, err error) {
	if recorder, ok := s.recorder.(capability.SnapshotRecorder); ok {
		err = recorder.InsertSnapshot(ctx, stored, s.keep)
	} else {
		_, err = s.recorder.InsertEvents(ctx, []persistence.StoredEvent{stored})
	}
	if conflict, ok := errors.AsType[*persistence.ConflictError](err); ok && len(conflict.Stored) == 1 {
		return conflict, err
	}
	return nil, err
}

func outcome(o string, err error) (string, error) {
	if err != nil {
		return "", err
	}
	return o, nil
}

// isUsable reports whether a stored snapshot can be read and was made of the
// event with this id. Events of the Python library have no ids. In its layout a
// snapshot that the Python library cannot read is not usable.
func (s *SnapshotStore) isUsable(stored persistence.StoredEvent, event uuid.UUID) bool {
	if s.mapper.pythonLayout && !s.mapper.isPython(snapshots, stored) {
		return false
	}
	snapshot, err := s.mapper.SnapshotToDomain(stored)
	return err == nil && (snapshot.ID == event || snapshot.ID == uuid.Nil || event == uuid.Nil)
}

// GetStored streams the snapshots of an originator as they are stored, for a
// reader that goes on if one of them cannot be mapped.
func (s *SnapshotStore) GetStored(ctx context.Context, id uuid.UUID, r persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
	return s.recorder.SelectEvents(ctx, id, r)
}

// Get streams the snapshots of an originator. The first error ends the stream.
func (s *SnapshotStore) Get(ctx context.Context, id uuid.UUID, r persistence.EventRange) iter.Seq2[domain.Event, error] {
	return mapped(s.recorder.SelectEvents(ctx, id, r), s.mapper.SnapshotToDomain)
}
