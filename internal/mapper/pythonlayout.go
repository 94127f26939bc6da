package mapper

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The layout of the Python library is one JSON object with the attributes of
// the event side by side: "timestamp", for the first event of an aggregate
// "originator_topic", the payload's fields, and "class_version" if it is above
// 1. A snapshot has "topic" and, inside "state", "_created_on", "_modified_on"
// and the aggregate's attributes.

// pythonSnapshot is the topic of the Python library's general snapshot class,
// which it reads for every aggregate; the aggregate's topic is inside.
const pythonSnapshot = "eventsourcing.domain:Snapshot"

var errNotAnObject = errors.New("the Python layout needs payloads that are JSON objects")

// floatQuoter is a transcoder that knows the floats that Python writes and JSON
// does not have.
type floatQuoter interface {
	// QuoteFloats replaces NaN, Infinity and -Infinity by JSON.
	QuoteFloats(data []byte) []byte
	// UnquoteFloats undoes it.
	UnquoteFloats(data []byte) []byte
}

// appendPython appends an event or a snapshot in the Python layout.
func (m *Mapper) appendPython(dst []byte, p purpose, k kind, event domain.Event) ([]byte, error) {
	begin := len(dst)
	encode := m.encodePython
	if p == snapshots {
		encode = m.encodePythonSnapshot
	}
	dst, err := encode(dst, k, event)
	if quoter, ok := m.transcoder.(floatQuoter); ok && err == nil {
		dst = append(dst[:begin], quoter.UnquoteFloats(dst[begin:])...)
	}
	return dst, err
}

// encodePython appends the event in the Python layout. The events of a log have
// no aggregate, and so no originator topic.
func (m *Mapper) encodePython(dst []byte, k kind, event domain.Event) ([]byte, error) {
	if dst, err := m.transcoder.Encode(append(dst, `{"timestamp":`...), event.Timestamp); err != nil {
		return dst, err
	} else if event.OriginatorVersion == k.schema.First() && k.schema.SnapshotType() != nil {
		return m.encodeFields(appendQuoted(append(dst, `,"originator_topic":`...), pythonAggregate(k)), k, event)
	} else {
		return m.encodeFields(dst, k, event)
	}
}

// pythonAggregate is the topic that the Python library knows an aggregate by:
// the path of its class.
func pythonAggregate(k kind) string {
	snapshot := k.schema.SnapshotType()
	return pythonTopic(snapshot, snapshot.Topic())
}

// pythonTopic is the topic to store in the Python layout: the path of a Python
// class, which has a colon. If the topic is no such path, pythonTopic is the
// first of the type's former names that is one, so that a definition needs no
// separate Python name.
func pythonTopic(t eventtype.Type, topic string) string {
	if isPythonPath(topic) {
		return topic
	}
	if i := slices.IndexFunc(t.Aliases(), isPythonPath); i >= 0 {
		return t.Aliases()[i]
	}
	return topic
}

// Names that the Python layout has beside the fields of a payload or a state, or
// that the library sets itself when it reads an event.
var (
	reservedInEvents    = []string{"timestamp", "originator_topic", "originator_id", "originator_version", "class_version"}
	reservedInSnapshots = []string{"_created_on", "_modified_on", "class_version"}
)

// CheckNames returns an ErrProgramming if something of a definition would be
// stored in the Python layout under a name that Python cannot resolve to a
// class, or if a field has a name that the layout itself has.
func (m *Mapper) CheckNames(checked domain.Schema) error {
	schema := definitions.Of(checked)
	if !m.pythonLayout {
		return nil
	}
	for _, t := range schema.EventTypes() {
		if t.IsPast() {
			continue
		}
		written, _ := t.Written()
		for _, typ := range []reflect.Type{t.GoType(), written} {
			if err := checkPythonNames(t, typ, reservedInEvents); err != nil {
				return err
			}
		}
	}
	snapshot := schema.SnapshotType()
	if snapshot == nil || snapshot.IsPast() {
		return nil
	}
	state, _ := snapshot.GoType().FieldByName("State") // of eventtype.SnapshotState
	return checkPythonNames(snapshot, state.Type, reservedInSnapshots)
}

func checkPythonNames(t eventtype.Type, fields reflect.Type, reserved []string) error {
	fail := func(problem, hint string) error {
		return &persistence.Error{Class: persistence.ErrProgramming, Op: "use " + t.Topic() + " in the Python layout",
			Err: errors.New(problem), Hint: hint}
	}
	if !isPythonPath(pythonTopic(t, t.Topic())) {
		return fail("no name in Python", "give the definition its name in Python, the path of the class, by "+
			"domain.FormerName, as in module.name:Dog, or an event by domain.StoredAs")
	}
	for fields != nil && fields.Kind() == reflect.Pointer {
		fields = fields.Elem()
	}
	if fields == nil || fields.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range reflect.VisibleFields(fields) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.IsExported() && slices.Contains(reserved, name) {
			return fail("the field "+f.Name+" has the name "+name+", which the layout itself has", "give the field another name")
		}
	}
	return nil
}

// isPythonPath reports whether a topic has the form module:qualified.name.
func isPythonPath(topic string) bool { return strings.IndexByte(topic, ':') > 0 }

func appendQuoted(dst []byte, text string) []byte {
	quoted, _ := json.Marshal(text) // a string always has a JSON form
	return append(dst, quoted...)
}

// encodePythonSnapshot appends the snapshot in the Python layout.
func (m *Mapper) encodePythonSnapshot(dst []byte, k kind, snapshot domain.Event) ([]byte, error) {
	data, err := m.transcoder.Encode(nil, snapshot.Data)
	if err != nil {
		return dst, err
	}
	// The fields are those of eventtype.SnapshotState.
	var parts struct{ CreatedOn, ModifiedOn, State json.RawMessage }
	if err := json.Unmarshal(data, &parts); err != nil || len(parts.State) < 2 || parts.State[0] != '{' {
		return dst, errNotAnObject
	}
	if dst, err = m.transcoder.Encode(append(dst, `{"timestamp":`...), snapshot.Timestamp); err != nil {
		return dst, err
	}
	dst = appendQuoted(append(dst, `,"topic":`...), pythonAggregate(k))
	dst = append(append(dst, `,"state":{"_created_on":`...), parts.CreatedOn...)
	dst = append(append(dst, `,"_modified_on":`...), parts.ModifiedOn...)
	return append(appendFields(dst, parts.State, k.Version()), '}'), nil
}

// appendFields appends the fields of an object and the schema version to an
// object that has been begun, and closes it.
func appendFields(dst, object []byte, version int) []byte {
	if fields := object[1 : len(object)-1]; len(fields) > 0 {
		dst = append(append(dst, ','), fields...)
	}
	if version > 1 {
		dst = strconv.AppendInt(append(dst, `,"class_version":`...), int64(version), 10)
	}
	return append(dst, '}')
}

// encodeFields appends the payload's fields and closes the object.
func (m *Mapper) encodeFields(dst []byte, k kind, event domain.Event) ([]byte, error) {
	begin := len(dst)
	dst, err := m.transcoder.Encode(dst, event.Data)
	if err != nil {
		return dst, err
	}
	if len(dst) < begin+2 || dst[begin] != '{' {
		return dst, errNotAnObject
	}
	dst[begin] = ','
	if len(dst) == begin+2 { // no fields
		dst = append(dst[:begin], '}')
	}
	if _, version := k.Written(); version > 1 {
		dst = strconv.AppendInt(append(dst[:len(dst)-1], `,"class_version":`...), int64(version), 10)
		dst = append(dst, '}')
	}
	return dst, nil
}

// decodePython fills the event from a state in the Python library's layout.
func (m *Mapper) decodePython(p purpose, plain []byte, event *domain.Event) (stage string, err error) {
	if quoter, ok := m.transcoder.(floatQuoter); ok {
		plain = quoter.QuoteFloats(plain)
	}
	var attributes struct {
		Timestamp    time.Time `json:"timestamp"`
		ClassVersion *int      `json:"class_version"`
	}
	if err := m.transcoder.Decode(plain, &attributes); err != nil {
		return stageDecode, err
	}
	event.Timestamp = attributes.Timestamp.UTC()
	topic, version := event.Topic, attributes.ClassVersion
	if p == snapshots { // a class may have its own Snapshot, so the row's topic says nothing
		if plain, topic, version, err = rearrangeSnapshot(plain); err != nil {
			return stageDecode, err
		}
		event.Topic = topic
	}
	kind, ok := m.find(p, topic)
	if !ok {
		return stageTopic, &UnknownTopicError{Topic: topic}
	}
	event.Data, err = kind.Decode(valueOr(version, 1), func(into any) error { return m.transcoder.Decode(plain, into) })
	if err == nil && p == snapshots && valueOr(version, 1) == kind.Version() {
		err = m.checkSnapshotFields(kind, plain, event.Data)
	}
	return stageDecode, undecodable(err)
}

// checkSnapshotFields returns a *StateTypeError if the state has a field that a
// snapshot in the Python layout, which has no fingerprint, does not have: the
// field would be zero, whatever the events say. Fields that are left out if
// they are empty (omitempty, omitzero) are not found.
func (m *Mapper) checkSnapshotFields(k kind, stored []byte, data any) error {
	again, err := m.transcoder.Encode(nil, data)
	if err != nil {
		return err
	}
	var has, wants any
	if json.Unmarshal(stored, &has) != nil || json.Unmarshal(again, &wants) != nil {
		return errHeader
	}
	if len(missingKeys(nil, "", has, wants)) > 0 {
		return &StateTypeError{Topic: k.Topic(), Stored: "Python layout", Known: k.Fingerprint(k.Version())}
	}
	return nil
}

// CanOpen returns nil if an event can be decrypted and decompressed, and
// otherwise the *persistence.MappingError that ToDomain returns.
func (m *Mapper) CanOpen(stored persistence.StoredEvent) error {
	buf := buffers.Get().(*buffer)
	defer buf.release()
	if _, stage, err := m.open(events, &stored, buf); err != nil {
		return m.failed(&stored, 0, stage, err)
	}
	return nil
}

// WritesPythonLayout reports whether states are written in the Python layout.
func (m *Mapper) WritesPythonLayout() bool { return m.pythonLayout }

// pythonVersion returns the schema version of a plain state in the Python
// layout, or 0 if it is no JSON.
func (m *Mapper) pythonVersion(p purpose, plain []byte) int {
	if quoter, ok := m.transcoder.(floatQuoter); ok {
		plain = quoter.QuoteFloats(plain)
	}
	var state struct {
		ClassVersion *int `json:"class_version"`
	}
	if p == snapshots {
		var snapshot struct {
			State json.RawMessage `json:"state"`
		}
		if json.Unmarshal(plain, &snapshot) != nil {
			return 0
		}
		plain = snapshot.State
	}
	if json.Unmarshal(plain, &state) != nil {
		return 0
	}
	return valueOr(state.ClassVersion, 1)
}

// isPython reports whether a state can be opened and is in the Python layout.
func (m *Mapper) isPython(p purpose, stored persistence.StoredEvent) bool {
	buf := buffers.Get().(*buffer)
	defer buf.release()
	plain, _, err := m.open(p, &stored, buf)
	return err == nil && plain[0] == layoutPython
}

// rearrangeSnapshot gives a snapshot of the Python library the shape of a
// eventtype.SnapshotState, and finds the topic of its aggregate and its schema
// version.
func rearrangeSnapshot(plain []byte) (rearranged []byte, topic string, version *int, err error) {
	var outer struct {
		Topic string          `json:"topic"`
		State json.RawMessage `json:"state"`
	}
	var inner struct {
		CreatedOn    json.RawMessage `json:"_created_on"`
		ModifiedOn   json.RawMessage `json:"_modified_on"`
		ClassVersion *int            `json:"class_version"`
	}
	if json.Unmarshal(plain, &outer) != nil || json.Unmarshal(outer.State, &inner) != nil {
		return nil, "", nil, errHeader
	}
	rearranged, err = json.Marshal(map[string]json.RawMessage{
		"CreatedOn": inner.CreatedOn, "ModifiedOn": inner.ModifiedOn, "State": outer.State,
	})
	if err != nil {
		return nil, "", nil, errHeader
	}
	return rearranged, outer.Topic, inner.ClassVersion, nil
}

func valueOr(value *int, otherwise int) int {
	if value == nil {
		return otherwise
	}
	return *value
}
