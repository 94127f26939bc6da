package domain

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/limits"
)

// eventType implements eventtype.Type, which says what its exported methods do.
type eventType struct {
	name    string // within its definition
	topic   string
	aliases []string
	goType  reflect.Type
	steps   []upcast   // from the oldest schema version that can be read to today's
	downs   []downcast // from today's schema version to the one that is written
	version int
	given   int  // by SchemaVersion, or 0
	flat    bool // values of goType are copied by assignment
	// fingerprints are those of a snapshot's state, in the order of steps with
	// today's last; events have none.
	fingerprints []string
	read         func(t *eventType, version int, decode func(any) error) (any, error)
	apply        func(aggregate, data any) // nil in what no event of today has
	convert      func(any) []any           // of UpcastToMany, else nil
	into         []reflect.Type            // what convert makes
}

// upcast is one step from an older schema version to the next. It can read
// payloads of the older version, alone and as the state of a snapshot.
type upcast struct {
	read         func(func(any) error) (any, error)
	readSnapshot func(func(any) error) (eventtype.SnapshotState[any], error)
	convert      func(any) any
	from, to     reflect.Type
}

// downcast is one step from a schema version to the one before.
type downcast struct {
	convert  func(any) any
	from, to reflect.Type
}

func (t *eventType) Topic() string { return t.topic }

func (t *eventType) Aliases() []string { return slices.Clone(t.aliases) }

func (t *eventType) hasTopic(topic string) bool {
	return t.topic == topic || slices.Contains(t.aliases, topic)
}

func (t *eventType) GoType() reflect.Type { return t.goType }

func (t *eventType) Version() int { return t.version }

func (t *eventType) Written() (goType reflect.Type, version int) {
	if n := len(t.downs); n > 0 {
		return t.downs[n-1].to, t.version - n
	}
	return t.goType, t.version
}

func (t *eventType) Downcast(data any) any {
	for _, step := range t.downs {
		data = step.convert(data)
	}
	return data
}

func (t *eventType) Fingerprint(version int) string {
	if i := version - t.oldest(); len(t.fingerprints) > 0 && i >= 0 && version <= t.version {
		return t.fingerprints[i]
	}
	return ""
}

func (t *eventType) Decode(version int, decode func(any) error) (any, error) {
	if t.IsRetired() {
		return RetiredEvent{}, nil
	}
	if version > t.version || version < t.oldest() {
		return nil, &eventtype.VersionError{Topic: t.topic, Stored: version, Oldest: t.oldest(), Known: t.version}
	}
	data, err := t.read(t, version, decode)
	if err != nil || t.convert == nil {
		return data, err
	}
	return t.several(data)
}

// oldest is the oldest schema version that can be read.
func (t *eventType) oldest() int { return t.version - len(t.steps) }

// upcast takes a payload of an old schema version to today's.
func (t *eventType) upcast(version int, data any) any {
	for _, step := range t.steps[version-t.oldest():] {
		data = step.convert(data)
	}
	return data
}

// readPayload reads the payload of an event of type E, of today's schema
// version or an older one.
func readPayload[E any](t *eventType, version int, decode func(any) error) (any, error) {
	if version == t.version {
		return readInto[E](decode)
	}
	return t.readOld(version, decode)
}

func (t *eventType) readOld(version int, decode func(any) error) (any, error) {
	data, err := t.steps[version-t.oldest()].read(decode)
	if err != nil {
		return nil, err
	}
	return t.upcast(version, data), nil
}

func readInto[E any](decode func(any) error) (any, error) {
	var data E
	if err := decode(&data); err != nil {
		return nil, err
	}
	return data, nil
}

// TypeOption says more about an event type than its name.
type TypeOption func(*eventType)

// Alias names topics that payloads of this type were stored under in the past,
// in full: renaming an event or its aggregate keeps its history when the old
// topic becomes an alias. Topics of the Python library are given the same way
// ("training_school.domain:Dog.TrickAdded").
func Alias(topics ...string) TypeOption {
	return func(t *eventType) { t.aliases = append(t.aliases, topics...) }
}

// StoredAs gives the full topic that new payloads are stored under, instead of
// the aggregate's and the event's names joined by a dot. It is for databases
// shared with a program that has its own names.
func StoredAs(topic string) TypeOption {
	return func(t *eventType) { t.topic = topic }
}

// Upcast says how a payload of an older schema version becomes one of the next.
// Give one Upcast for each old version, oldest first; the last one returns
// today's type. The schema version of new payloads is one more than their
// number.
//
// If the aggregate has snapshots, raise SnapshotVersion when an event's meaning
// changes. A snapshot that was taken before has the event in it as it was,
// without a field that the Upcast adds, and is believed otherwise.
func Upcast[From, To any](convert func(From) To) TypeOption {
	step := upcast{
		read:         readInto[From],
		readSnapshot: readSnapshotOf[From],
		convert:      func(data any) any { return convert(data.(From)) },
		from:         reflect.TypeFor[From](),
		to:           reflect.TypeFor[To](),
	}
	return func(t *eventType) { t.steps = append(t.steps, step) }
}

// Downcast says how a payload of today is written in the schema version before,
// while programs run that do not know today's. It is for the first of two
// deployments:
//
//	domain.On("Moved", Moved{},
//		domain.Upcast(func(e movedV1) Moved { return Moved{To: Place{Name: e.To}} }),
//		domain.Downcast(func(e Moved) movedV1 { return movedV1{To: e.To.Name} }))
//
// The program triggers, applies and reads today's payloads, and stores what the
// programs before it have stored. The second deployment removes the Downcast
// and writes today's version, which every program can read by then.
//
// Upcast must make the same payload again of what Downcast returns. A save of a
// payload that the earlier version cannot hold is refused with a
// persistence.ErrData, and nothing is stored. If the oldest program is several
// versions older, give one Downcast for each step back, beginning with today's
// version; each undoes an Upcast of the type.
func Downcast[From, To any](convert func(From) To) TypeOption {
	step := downcast{
		convert: func(data any) any { return convert(data.(From)) },
		from:    reflect.TypeFor[From](),
		to:      reflect.TypeFor[To](),
	}
	return func(t *eventType) { t.downs = append(t.downs, step) }
}

// SchemaVersion gives the schema version of new payloads, if it is higher than
// one more than the number of their Upcasts: for a program that does not read
// the oldest versions, such as one that shares its log with a Python program,
// which knows the number as class_version. Payloads of a version that is too
// old cannot be read.
func SchemaVersion(version int) TypeOption {
	return func(t *eventType) { t.given = version }
}

// newEventType makes an event type of E and checks it; definition is only for
// messages.
func newEventType[E any](definition, name, topic string, options []TypeOption) *eventType {
	t := &eventType{name: name, topic: topic, goType: reflect.TypeFor[E](), read: readPayload[E]}
	t.finish(definition, options)
	return t
}

func (t *eventType) finish(definition string, options []TypeOption) {
	t.flat = isFlat(t.goType)
	for _, option := range options {
		option(t)
	}
	t.version = max(t.given, len(t.steps)+1)
	if problem := t.problem(); problem != "" {
		panic(&definitionError{definition: definition, problem: problem})
	}
}

// problem says what is wrong with the event type, or nothing.
func (t *eventType) problem() string {
	switch t.goType.Kind() {
	case reflect.Pointer:
		return fmt.Sprintf("events are values: give %v, not a pointer to it", t.goType.Elem())
	case reflect.Interface, reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return fmt.Sprintf("%v cannot be stored: give a struct", t.goType)
	}
	for _, topic := range append([]string{t.topic}, t.aliases...) {
		if problem := topicProblem(topic); problem != "" {
			return problem
		}
	}
	if t.given != 0 && t.given <= len(t.steps) {
		return fmt.Sprintf("%s has the schema version %d and %d upcasters, so its version is at least %d",
			t.topic, t.given, len(t.steps), len(t.steps)+1)
	}
	return t.chainProblem()
}

// chainProblem checks that each upcaster takes what the one before it returns,
// and the last returns today's type.
func (t *eventType) chainProblem() string {
	for i, step := range t.steps {
		want := t.goType
		if i+1 < len(t.steps) {
			want = t.steps[i+1].from
		}
		if step.to != want {
			return fmt.Sprintf("upcaster %d of %s returns %v, but the next version is %v", i+1, t.topic, step.to, want)
		}
	}
	return t.downcastProblem()
}

// downcastProblem checks that each downcaster undoes an upcaster, from the last
// one back.
func (t *eventType) downcastProblem() string {
	if len(t.downs) > len(t.steps) {
		return fmt.Sprintf("%s has %d downcasters and %d upcasters; each domain.Downcast undoes a domain.Upcast",
			t.topic, len(t.downs), len(t.steps))
	}
	for i, down := range t.downs {
		if up := t.steps[len(t.steps)-1-i]; down.from != up.to || down.to != up.from {
			return fmt.Sprintf("downcaster %d of %s makes %v of %v, but the upcaster that it undoes makes %v of %v",
				i+1, t.topic, down.to, down.from, up.to, up.from)
		}
	}
	return ""
}

func topicProblem(topic string) string {
	switch {
	case topic == "":
		return "a topic must not be empty"
	case len(topic) > limits.Topic:
		return fmt.Sprintf("topic %.40q… has %d bytes; at most %d can be stored", topic, len(topic), limits.Topic)
	case !utf8.ValidString(topic) || strings.ContainsRune(topic, 0):
		return fmt.Sprintf("topic %q must be valid UTF-8 without NUL", topic)
	}
	return ""
}
