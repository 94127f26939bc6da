package domain

import (
	"fmt"
	"reflect"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
)

// stateFunctions know the types of an aggregate and of its state.
type stateFunctions struct {
	kind func(definition string, version int) *eventType
	take func(aggregate any, root *Aggregate) any
	// restore makes the aggregate of a snapshot, which is nil if State's function
	// has returned nil, and says when its first and its last event were. It
	// returns false if the snapshot is of another state.
	restore func(snapshot any) (aggregate any, createdOn, modifiedOn time.Time, ok bool)
	state   reflect.Type
}

// State says how the state of T is kept in snapshots and in the cache: as an S,
// which must survive being stored and read back. Without it T itself is stored,
// which is right for structs whose fields are all exported. The functions must
// not share memory between what they take and what they return, or must not
// change it afterwards.
//
// Upcasters turn the states in old snapshots into S, as they do for events.
func State[T, S any](to func(*T) S, from func(S) *T, options ...TypeOption) Option[T] {
	return func(d *Definition[T]) { d.state = newState(to, from, options) }
}

// SnapshotVersion sets the schema version of T's snapshots, for a T that is
// stored as itself. Raise it when an event's meaning changes, because its Apply
// does something else or an Upcast adds to it: the state in old snapshots is
// what the events meant before. They are then passed over, the aggregate is
// read from its events, and the next snapshot replaces the old one.
//
// A change of the fields of T needs no new version: a snapshot of a state with
// other fields is never used. While old and new processes run side by side,
// each uses only the snapshots that fit its own T.
func SnapshotVersion[T any](version int) Option[T] {
	return func(d *Definition[T]) {
		if version < 1 {
			panic(&definitionError{definition: d.name, problem: "snapshot versions start at 1"})
		}
		d.version = version
	}
}

func newState[T, S any](to func(*T) S, from func(S) *T, options []TypeOption) *stateFunctions {
	return &stateFunctions{
		state: reflect.TypeFor[S](),
		kind: func(definition string, version int) *eventType {
			t := newEventType[S](definition, "", definition, options)
			if len(t.downs) > 0 {
				panic(&definitionError{definition: definition, problem: "a snapshot that a program cannot read is passed over, " +
					"so states need no domain.Downcast; remove it"})
			}
			t.makeSnapshotType(version, reflect.TypeFor[eventtype.SnapshotState[S]](), readSnapshot[S])
			return t
		},
		take: func(aggregate any, root *Aggregate) any {
			return eventtype.SnapshotState[S]{CreatedOn: root.createdOn, ModifiedOn: root.modifiedOn, State: to(aggregate.(*T))}
		},
		restore: func(data any) (aggregate any, createdOn, modifiedOn time.Time, ok bool) {
			snapshot, ok := data.(eventtype.SnapshotState[S])
			if !ok {
				return nil, createdOn, modifiedOn, false
			}
			if made := from(snapshot.State); made != nil {
				aggregate = made
			}
			return aggregate, snapshot.CreatedOn, snapshot.ModifiedOn, true
		},
	}
}

// makeSnapshotType makes the type of a state into the type of its snapshots.
func (t *eventType) makeSnapshotType(
	version int, goType reflect.Type, read func(t *eventType, version int, decode func(any) error) (any, error),
) {
	for _, step := range t.steps {
		t.fingerprints = append(t.fingerprints, fingerprintOf(step.from))
	}
	t.fingerprints = append(t.fingerprints, fingerprintOf(t.goType))
	t.goType = goType
	t.version = max(version, t.version)
	t.read = read
}

// readSnapshot reads a snapshot of today's schema version or an older one.
// Upcasters see only the state in it.
func readSnapshot[S any](t *eventType, version int, decode func(any) error) (any, error) {
	if version == t.version {
		return readInto[eventtype.SnapshotState[S]](decode)
	}
	old, err := t.steps[version-t.oldest()].readSnapshot(decode)
	if err != nil {
		return nil, err
	}
	state := t.upcast(version, old.State).(S)
	return eventtype.SnapshotState[S]{CreatedOn: old.CreatedOn, ModifiedOn: old.ModifiedOn, State: state}, nil
}

func readSnapshotOf[S any](decode func(any) error) (eventtype.SnapshotState[any], error) {
	var s eventtype.SnapshotState[S]
	if err := decode(&s); err != nil {
		return eventtype.SnapshotState[any]{}, err
	}
	return eventtype.SnapshotState[any]{CreatedOn: s.CreatedOn, ModifiedOn: s.ModifiedOn, State: s.State}, nil
}

// plainState is the aggregate without what Aggregate adds to it.
func plainState[T any](aggregate *T) T {
	state := *aggregate
	*rootOf(&state) = Aggregate{}
	return state
}

func (s *schema) takeSnapshot(aggregate any) Event {
	root := rootOf(aggregate)
	return Event{
		OriginatorID:      root.id,
		OriginatorVersion: root.version,
		Topic:             s.snapshot.topic,
		ID:                root.lastEvent,
		Timestamp:         normalTime(s.clock()),
		Data:              s.state.take(aggregate, root),
	}
}

func (s *schema) restore(snapshot Event) (any, error) {
	aggregate, createdOn, modifiedOn, ok := s.state.restore(snapshot.Data)
	if !ok || !s.snapshot.hasTopic(snapshot.Topic) {
		return nil, s.noPayload(snapshot)
	}
	if aggregate == nil {
		return nil, fmt.Errorf("%w: the State function of definition %q returned nil", ErrEventSourcing, s.name)
	}
	root := rootOf(aggregate)
	s.adopt(root, snapshot.OriginatorID, snapshot.OriginatorVersion)
	root.recordedBy = snapshot.Application
	root.createdOn, root.modifiedOn = createdOn, modifiedOn
	root.lastEvent = snapshot.ID
	return aggregate, nil
}
