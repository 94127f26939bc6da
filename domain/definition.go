package domain

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
)

// initialVersion is the version of the first event of an aggregate, unless its
// Definition says otherwise.
const initialVersion = 1

// Schema is a Definition of any type, for lists of them such as that of
// application.WithDefinitions.
type Schema interface{ inside() any }

// schema is the part of a Definition that does not depend on the aggregate's
// type: its name and its event types. It is immutable and safe for concurrent
// use.
type schema struct {
	name     string
	events   []*eventType
	byType   map[reflect.Type]*eventType
	snapshot *eventType
	first    int64
	isLog    bool
	clock    func() time.Time // called by many goroutines at once

	empty   func() rooted   // makes an aggregate of nothing
	state   *stateFunctions // nil while none is given
	version int             // of snapshots; 0 if it is not given
	former  []string        // names
}

// rooted is a pointer to an aggregate of any type.
type rooted interface{ root() *Aggregate }

// whole is a Fold or a Log. If a struct embeds one, self is not the struct.
type whole interface{ self() any }

// rootOf returns the Aggregate in an aggregate.
func rootOf(aggregate any) *Aggregate { return aggregate.(rooted).root() }

func (s *schema) add(t *eventType) {
	if t.IsRetired() {
		panic(&definitionError{definition: s.name, problem: fmt.Sprintf(
			"%v is no payload; use domain.Retired for %s", t.goType, t.topic)})
	}
	if other := s.byType[t.goType]; other != nil {
		panic(&definitionError{definition: s.name, problem: fmt.Sprintf("%v is defined twice, as %s and %s",
			t.goType, other.topic, t.topic)})
	}
	s.byType[t.goType] = t
	s.events = append(s.events, t)
}

// checkTopics refuses one name for two types, which would make stored events
// ambiguous.
func (s *schema) checkTopics() {
	owner := map[string]*eventType{}
	for _, t := range s.events {
		for _, topic := range append([]string{t.topic}, t.aliases...) {
			if other := owner[topic]; other != nil && other != t {
				panic(&definitionError{definition: s.name, problem: sharedTopic(topic, other, t)})
			}
			owner[topic] = t
		}
	}
}

// sharedTopic says that two types have one topic.
func sharedTopic(topic string, a, b *eventType) string {
	switch {
	case a.IsRetired() && b.IsRetired():
		return fmt.Sprintf("topic %q is retired twice", topic)
	case a.IsRetired():
		a, b = b, a
		fallthrough
	case b.IsRetired():
		return fmt.Sprintf("topic %q is retired and defined as %v at once; remove one of the two", topic, a.goType)
	}
	return fmt.Sprintf("topic %q is given to both %v and %v", topic, a.goType, b.goType)
}

func newSchema(name string, empty func() rooted) *schema {
	if problem := topicProblem(name); problem != "" {
		panic(&definitionError{definition: name, problem: problem})
	}
	aggregate := empty()
	if aggregate.root() == nil {
		panic(&definitionError{definition: name, problem: "embed domain.Aggregate by value, not as a pointer"})
	}
	if whole, ok := aggregate.(whole); ok && whole.self() != any(aggregate) {
		panic(&definitionError{definition: name, problem: "embed domain.Aggregate; a Fold or a Log cannot be embedded in an aggregate"})
	}
	_, isLog := aggregate.(*Log)
	return &schema{name: name, byType: map[reflect.Type]*eventType{}, first: initialVersion, isLog: isLog, clock: time.Now,
		empty: empty}
}

// Definition is what an aggregate type T is made of: its stored name, its
// events and their stored names, and how its state is kept in snapshots. T is a
// struct that embeds Aggregate, or it is a Fold or Log itself. Make it once,
// with Define, as a package variable. It is safe for concurrent use.
type Definition[T any] struct{ *schema }

// Option is one part of a Definition of T.
type Option[T any] func(*Definition[T])

// Define gives an aggregate and its events their stored names. The name and the
// events' names are stored with every event; the names of Go types are not, so
// that Go types can be renamed freely. Fields of payloads are stored under their
// json tags, or without one under their Go names. A field that is renamed
// without an Upcast reads as zero from stored events, and no error says so: give
// every field a tag. The command contents names such fields.
//
// It panics if names or types are given twice, a topic cannot be stored, or
// upcasters do not fit together. The panic value is an ErrEventSourcing.
func Define[T any, P AggregateOf[T]](name string, options ...Option[T]) *Definition[T] {
	d := &Definition[T]{newSchema(name, func() rooted { return P(new(T)) })}
	for _, option := range options {
		option(d)
	}
	if d.state == nil {
		d.state = newState(plainState[T], func(state T) *T { return &state }, nil)
	}
	d.finish()
	return d
}

// finish completes a schema that has its options, and checks it.
func (s *schema) finish() {
	s.snapshot = s.state.kind(s.name, max(s.version, 1))
	s.addFormerNames()
	s.checkTopics()
	s.checkInto()
}

// On defines an event of T under a name that is unique within the aggregate;
// the stored topic is the aggregate's name, a dot, and this name. The event is
// given as any value of its type, usually the zero one.
func On[T any, E EventOf[T]](name string, _ E, options ...TypeOption) Option[T] {
	return func(d *Definition[T]) {
		t := newEventType[E](d.name, name, d.name+"."+name, options)
		t.apply = func(aggregate, data any) { data.(E).Apply(aggregate.(*T)) }
		d.add(t)
	}
}

// FormerName says that the aggregate T was defined under other names in the
// past: its events and snapshots that were stored under them are read as
// today's. The names that a program of the Python library has are given the
// same way: FormerName[Dog]("training_school.domain:Dog").
func FormerName[T any](names ...string) Option[T] {
	return func(d *Definition[T]) { d.former = append(d.former, names...) }
}

// addFormerNames makes a topic with each former name an alias of the one with
// today's.
func (s *schema) addFormerNames() {
	for _, former := range s.former {
		s.addAlias(s.snapshot, former)
		for _, t := range s.events {
			s.addAlias(t, former+"."+t.name)
		}
	}
}

func (s *schema) addAlias(t *eventType, topic string) {
	if problem := topicProblem(topic); problem != "" {
		panic(&definitionError{definition: s.name, problem: problem})
	}
	t.aliases = append(t.aliases, topic)
}

// FirstVersion sets the version of the first event of T, for histories that
// start at another version than 1.
func FirstVersion[T any](version int64) Option[T] {
	return func(d *Definition[T]) {
		if version < 0 {
			panic(&definitionError{definition: d.name, problem: "versions cannot be negative"})
		}
		d.first = version
	}
}

// WithClock returns a Definition that is the same but for the clock that its
// aggregates take their times from. Many goroutines call the clock at once.
func (d *Definition[T]) WithClock(clock func() time.Time) *Definition[T] {
	if clock == nil {
		panic(&definitionError{definition: d.name, problem: "WithClock needs a clock"})
	}
	other := *d.schema
	other.clock = clock
	return &Definition[T]{&other}
}

// Create makes a new aggregate with its first event. The event is pending until
// the aggregate is saved.
//
// Like Trigger it panics if the program is wrong.
func (d *Definition[T]) Create(id uuid.UUID, event EventOf[T], options ...EventOption) *T {
	if d.isLog {
		panic(&definitionError{definition: d.name, problem: "it is of a log, which has no aggregates; use NewEvent"})
	}
	aggregate := d.blank(id)
	typed := any(aggregate).(*T)
	aggregate.root().trigger(event, func(data any) { data.(EventOf[T]).Apply(typed) }, options)
	return typed
}

// NewEvent makes an event without an aggregate, to be saved with Events: for
// logs, imports and tests. id and version say whose event it is, and its place.
// It panics if the payload's type is not in the definition.
func (d *Definition[T]) NewEvent(id uuid.UUID, version int64, data any, options ...EventOption) Event {
	root := Aggregate{id: id, version: version - 1, schema: d.schema}
	return root.next(data, options)
}

func (s *schema) blank(id uuid.UUID) rooted {
	aggregate := s.empty()
	s.adopt(aggregate.root(), id, s.first-1)
	return aggregate
}

// adopt makes an aggregate one of this definition.
func (s *schema) adopt(root *Aggregate, id uuid.UUID, version int64) {
	*root = Aggregate{id: id, version: version, schema: s}
}

func (s *schema) applyStored(aggregate any, event Event) error {
	root := rootOf(aggregate)
	if err := root.accepts(event); err != nil {
		return err
	}
	apply := s.applyOf(event)
	if apply == nil {
		return s.noPayload(event)
	}
	root.advance(event, func() { apply(aggregate, event.Data) })
	return nil
}

// applyOf returns what applies an event, or nil if the event is not of the
// definition. Another definition may have the same type of payload, so the topic
// counts as well.
func (s *schema) applyOf(event Event) func(aggregate, data any) {
	if t := s.byType[reflect.TypeOf(event.Data)]; t != nil && t.hasTopic(event.Topic) {
		return t.apply
	}
	return s.applyPast(event)
}

// applyPast returns what applies an event whose type is retired or upcast to
// many, or nil if the event is not of the definition.
func (s *schema) applyPast(event Event) func(aggregate, data any) {
	past := func(t *eventType) bool { return t.IsPast() && t.hasTopic(event.Topic) }
	if !slices.ContainsFunc(s.events, past) {
		return nil
	}
	switch data := event.Data.(type) {
	case RetiredEvent:
		return func(_, _ any) {}
	case eventtype.Payloads:
		for _, payload := range data {
			if s.byType[reflect.TypeOf(payload)] == nil {
				return nil
			}
		}
		return func(aggregate, _ any) {
			for _, payload := range data {
				s.byType[reflect.TypeOf(payload)].apply(aggregate, payload)
			}
		}
	}
	return nil
}
