package mapper

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A snapshot in the Python layout is all that the Python library reads of an
// aggregate up to its version. If the class has an attribute that the state
// here lacks, a snapshot of this module would take it away. So none is written
// after one that has more, of the same aggregate or of another one of the
// definition.

// lostFields remembers which fields a definition lacks.
type lostFields struct {
	mu    sync.Mutex // protects known
	known map[string][]string
}

func (l *lostFields) find(definition string) (lost []string, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost, known = l.known[definition]
	return lost, known
}

func (l *lostFields) remember(definition string, lost []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[string][]string{}
	}
	l.known[definition] = lost
}

// newestReader is a recorder that knows the snapshots of all originators.
type newestReader interface {
	// NewestSnapshots returns the snapshots that were stored last, of all
	// originators of the application, at most limit.
	NewestSnapshots(ctx context.Context, limit int) ([]persistence.StoredEvent, error)
}

// newestLooked is how many snapshots of other originators are looked at.
const newestLooked = 200

// checkLost returns a *StateTypeError if the snapshot would take
// fields away that earlier ones have. Snapshots of other originators are looked
// at once; callers do not wait for each other meanwhile, as one of them may have
// the connection that another one needs.
func (s *SnapshotStore) checkLost(ctx context.Context, snapshot domain.Event) error {
	lost, known := s.lost.find(snapshot.Topic)
	var err error
	if !known {
		if lost, err = s.lostOfAll(ctx, snapshot.Topic); err != nil {
			return err
		}
		s.lost.remember(snapshot.Topic, lost)
	}
	if len(lost) == 0 {
		lost, err = s.lostOf(ctx, snapshot.OriginatorID, snapshot.Topic)
	}
	if err == nil && len(lost) > 0 {
		return &StateTypeError{Topic: snapshot.Topic, Stored: "Python layout", Lost: lost}
	}
	return err
}

func (s *SnapshotStore) lostOfAll(ctx context.Context, definition string) (lost []string, err error) {
	recorder, ok := s.recorder.(newestReader)
	if !ok {
		return nil, nil
	}
	newest, err := recorder.NewestSnapshots(ctx, newestLooked)
	for _, stored := range newest {
		lost = append(lost, s.mapper.LostFields(stored, definition)...)
	}
	slices.Sort(lost)
	return slices.Compact(lost), err
}

func (s *SnapshotStore) lostOf(ctx context.Context, id uuid.UUID, definition string) ([]string, error) {
	for stored, err := range s.recorder.SelectEvents(ctx, id, persistence.EventRange{Descending: true, Limit: 1}) {
		if err != nil {
			return nil, err
		}
		return s.mapper.LostFields(stored, definition), nil
	}
	return nil, nil
}

// LostFields returns the fields of a stored snapshot in the Python layout that
// the state of its definition lacks, sorted. It returns none for a snapshot of
// another definition than the named one, if a name is given, for one of another
// schema version, and for one that cannot be read.
func (m *Mapper) LostFields(stored persistence.StoredEvent, definition string) (lost []string) {
	buf := buffers.Get().(*buffer)
	defer buf.release()
	plain, _, err := m.open(snapshots, &stored, buf)
	if err != nil || plain[0] != layoutPython {
		return nil
	}
	if quoter, ok := m.transcoder.(floatQuoter); ok {
		plain = quoter.QuoteFloats(plain)
	}
	plain, topic, version, err := rearrangeSnapshot(plain)
	if err != nil {
		return nil
	}
	kind, ok := m.find(snapshots, topic)
	if !ok || definition != "" && kind.schema.Name() != definition || valueOr(version, 1) != kind.Version() {
		return nil
	}
	data, err := kind.Decode(kind.Version(), func(into any) error { return m.transcoder.Decode(plain, into) })
	if err != nil {
		return nil
	}
	again, err := m.transcoder.Encode(nil, data)
	var has, wants struct{ State map[string]any }
	if err != nil || json.Unmarshal(plain, &has) != nil || json.Unmarshal(again, &wants) != nil {
		return nil
	}
	for _, own := range []string{"_created_on", "_modified_on", "class_version"} {
		delete(has.State, own)
	}
	lost = missingKeys(nil, "", wants.State, has.State)
	slices.Sort(lost)
	return slices.Compact(lost)
}

// EventFields compares the fields of a stored event with those of its payload
// type. Unread are those that the type lacks, and absent those that the event
// lacks: a field that was renamed, or has a misspelt json tag, is in both. It
// returns none for an event of another schema version, for one that cannot be
// read, and for one that is not JSON.
func (m *Mapper) EventFields(stored persistence.StoredEvent) (unread, absent []string) {
	buf := buffers.Get().(*buffer)
	defer buf.release()
	plain, _, err := m.open(events, &stored, buf)
	kind, ok := m.find(events, stored.Topic)
	if err != nil || !ok || kind.IsPast() {
		return nil, nil
	}
	version, isPython := 0, plain[0] == layoutPython
	if isPython {
		version = m.pythonVersion(events, plain)
		if quoter, ok := m.transcoder.(floatQuoter); ok {
			plain = quoter.QuoteFloats(plain)
		}
	} else {
		var h header
		h, plain, err = parseHeader(plain)
		version = h.version
	}
	if err != nil || version != kind.Version() {
		return nil, nil
	}
	data, err := kind.Decode(kind.Version(), func(into any) error { return m.transcoder.Decode(plain, into) })
	if err != nil || reflect.TypeOf(data) != kind.GoType() {
		return nil, nil
	}
	again, err := m.transcoder.Encode(nil, data)
	var has, wants map[string]any
	if err != nil || json.Unmarshal(plain, &has) != nil || json.Unmarshal(again, &wants) != nil {
		return nil, nil
	}
	if isPython {
		for _, reserved := range reservedInEvents {
			delete(has, reserved)
		}
	}
	return missingKeys(nil, "", wants, has), missingKeys(nil, "", has, wants)
}

// missingKeys appends the paths of the keys that objects in wants have and the
// same objects in has do not.
func missingKeys(paths []string, path string, has, wants any) []string {
	switch wants := wants.(type) {
	case map[string]any:
		has, ok := has.(map[string]any)
		if !ok {
			return paths
		}
		for key, value := range wants {
			if stored, found := has[key]; found {
				paths = missingKeys(paths, path+key+".", stored, value)
			} else {
				paths = append(paths, path+key)
			}
		}
	case []any:
		has, ok := has.([]any)
		for i := range wants {
			if ok && i < len(has) {
				paths = missingKeys(paths, path, has[i], wants[i])
			}
		}
	}
	return paths
}
