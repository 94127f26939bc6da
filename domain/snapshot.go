package domain

import (
	"fmt"
	"reflect"

	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
)

// stateFunctions keep the aggregate's state type out of Definition's type
// parameters.
type stateFunctions[T any] struct {
	kind    func(definition string, version int) *eventType
	take    func(*T, *Aggregate) any
	restore func(any) (*T, *Aggregate, bool)
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

func newState[T, S any](to func(*T) S, from func(S) *T, options []TypeOption) *stateFunctions[T] {
	return &stateFunctions[T]{
		state: reflect.TypeFor[S](),
		kind: func(definition string, version int) *eventType {
			t := newEventType[S](definition, "", definition, options)
			if len(t.downs) > 0 {
				panic(&definitionError{definition: definition, problem: "a snapshot that a program cannot read is passed over, " +
					"so states need no domain.Downcast; remove it"})
			}
			return snapshotType[S](t, version)
		},
		take: func(aggregate *T, root *Aggregate) any {
			return eventtype.SnapshotState[S]{CreatedOn: root.createdOn, ModifiedOn: root.modifiedOn, State: to(aggregate)}
		},
		restore: func(data any) (*T, *Aggregate, bool) {
			snapshot, ok := data.(eventtype.SnapshotState[S])
			if !ok {
				return nil, nil, false
			}
			return from(snapshot.State), &Aggregate{createdOn: snapshot.CreatedOn, modifiedOn: snapshot.ModifiedOn}, true
		},
	}
}

// snapshotType makes the type of a state into the type of its snapshots.
func snapshotType[S any](state *eventType, version int) *eventType {
	for _, step := range state.steps {
		state.fingerprints = append(state.fingerprints, fingerprintOf(step.from))
	}
	state.fingerprints = append(state.fingerprints, fingerprintOf(state.goType))
	state.goType = reflect.TypeFor[eventtype.SnapshotState[S]]()
	state.version = max(version, state.version)
	state.read = readSnapshot[S]
	return state
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

// finishState gives the definition its snapshot type: the user's, or T itself.
func (d *Definition[T]) finishState() {
	if d.state == nil {
		d.state = newState(d.plainState, func(state T) *T { return &state }, nil)
	}
	d.snapshot = d.state.kind(d.name, max(d.version, 1))
}

// plainState is the aggregate without what Aggregate adds to it.
func (d *Definition[T]) plainState(aggregate *T) T {
	state := *aggregate
	*d.root(&state) = Aggregate{}
	return state
}

func (d *Definition[T]) takeSnapshot(aggregate *T) Event {
	root := d.root(aggregate)
	return Event{
		OriginatorID:      root.id,
		OriginatorVersion: root.version,
		Topic:             d.snapshot.topic,
		ID:                root.lastEvent,
		Timestamp:         normalTime(d.clock()),
		Data:              d.state.take(aggregate, root),
	}
}

func (d *Definition[T]) restore(snapshot Event) (*T, error) {
	aggregate, times, ok := d.state.restore(snapshot.Data)
	if !ok {
		return nil, d.noPayload(snapshot)
	}
	if aggregate == nil {
		return nil, fmt.Errorf("%w: the State function of definition %q returned nil", ErrEventSourcing, d.name)
	}
	d.adopt(aggregate, snapshot.OriginatorID, snapshot.OriginatorVersion)
	d.root(aggregate).recordedBy = snapshot.Application
	root := d.root(aggregate)
	root.createdOn, root.modifiedOn = times.createdOn, times.modifiedOn
	root.lastEvent = snapshot.ID
	return aggregate, nil
}
