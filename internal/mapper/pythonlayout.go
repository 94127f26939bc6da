package mapper

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The layout of the Python library is one JSON object with the attributes of
// the event side by side: "timestamp", for the first event of an aggregate
// "originator_topic", the payload's fields, and "class_version" if it is above
// 1. A snapshot has "topic" and, inside "state", "_created_on", "_modified_on"
// and the aggregate's attributes.

// pythonSnapshot is the topic that the Python library stores all snapshots
// under; the aggregate's is inside.
const pythonSnapshot = "eventsourcing.domain:Snapshot"

var errNotAnObject = errors.New("the original's layout needs payloads that are JSON objects")

// encodePython appends the event in the Python layout. The events of a log have
// no aggregate, and so no originator topic.
func (m *Mapper) encodePython(dst []byte, k kind, event domain.Event) ([]byte, error) {
	if dst, err := m.transcoder.Encode(append(dst, `{"timestamp":`...), event.Timestamp); err != nil {
		return dst, err
	} else if event.OriginatorVersion == k.schema.First() && k.schema.SnapshotType() != nil {
		return m.encodeFields(appendOriginatorTopic(dst, event.Topic), k, event)
	} else {
		return m.encodeFields(dst, k, event)
	}
}

// appendOriginatorTopic appends the topic of the aggregate, which is the
// event's without its last name.
func appendOriginatorTopic(dst []byte, topic string) []byte {
	if dot := strings.LastIndexByte(topic, '.'); dot > 0 {
		topic = topic[:dot]
	}
	quoted, _ := json.Marshal(topic) // a string always has a JSON form
	return append(append(dst, `,"originator_topic":`...), quoted...)
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
	if k.Version() > 1 {
		version, _ := json.Marshal(k.Version())
		dst = append(dst[:len(dst)-1], `,"class_version":`...)
		dst = append(append(dst, version...), '}')
	}
	return dst, nil
}

// decodePython fills the event from a state in the Python library's layout.
func (m *Mapper) decodePython(p purpose, plain []byte, event *domain.Event) (stage string, err error) {
	var attributes struct {
		Timestamp    time.Time `json:"timestamp"`
		ClassVersion *int      `json:"class_version"`
	}
	if err := m.transcoder.Decode(plain, &attributes); err != nil {
		return stageDecode, err
	}
	event.Timestamp = attributes.Timestamp.UTC()
	topic, version := event.Topic, attributes.ClassVersion
	if p == snapshots && topic == pythonSnapshot {
		if plain, topic, version, err = rearrangeSnapshot(plain); err != nil {
			return stageDecode, err
		}
	}
	kind, ok := m.find(p, topic)
	if !ok {
		return stageTopic, &persistence.UnknownTopicError{Topic: topic}
	}
	event.Data, err = kind.Decode(valueOr(version, 1), func(into any) error { return m.transcoder.Decode(plain, into) })
	return stageDecode, undecodable(err)
}

// rearrangeSnapshot gives a snapshot of the Python library the shape of a
// domain.SnapshotState, and finds the topic of its aggregate and its schema
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
