package mapper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Mapper turns events into stored events and back: the payload is transcoded, a
// header is put in front, and the result is compressed and then encrypted.
// Reading goes the other way.
//
// The ciphertext is bound to its row: the cipher's associated data are the
// purpose ("event" or "snapshot"), the application, the originator, the version
// and the stored topic.
//
// A Mapper is safe for concurrent use. Definitions may be added at any time.
type Mapper struct {
	application  string
	transcoder   persistence.Transcoder
	compressor   persistence.Compressor
	cipher       persistence.Cipher
	pythonLayout bool

	mu          sync.Mutex // serialises Add
	kinds       atomic.Pointer[topicIndex]
	formerNames []string
}

// MapperConfig is what a Mapper is made of.
type Config struct {
	// Application is the name of the application whose events are mapped.
	Application string
	// Transcoder turns payloads into bytes: usually
	// jsontranscoder.New(python.Transcodings()...). It is required.
	Transcoder persistence.Transcoder
	// Compressor makes states smaller. Nil means none: compressed states then
	// cannot be read. States that were stored without compression can be read
	// with one.
	Compressor persistence.Compressor
	// Cipher encrypts states. Nil means none.
	Cipher persistence.Cipher
	// FormerNames are names that the application had in the past. States that
	// were encrypted under one of them are read.
	FormerNames []string
	// PythonLayout writes the states of events as the Python library does, for
	// a database that the Python library also reads. Such states have no event
	// id and no metadata. Snapshots are written in its layout too, without the
	// id of their event and the fingerprint of the state type. Topics are those
	// former names that are paths of Python classes, if today's name is none.
	// Reading always understands both layouts.
	PythonLayout bool
}

// NewMapper makes a Mapper that knows no definitions yet.
func New(config Config) *Mapper {
	m := &Mapper{
		application:  config.Application,
		transcoder:   config.Transcoder,
		compressor:   config.Compressor,
		cipher:       config.Cipher,
		pythonLayout: config.PythonLayout,
		formerNames:  slices.Clone(config.FormerNames),
	}
	m.kinds.Store(newTopicIndex())
	return m
}

// Application is the name of the application whose events are mapped.
func (m *Mapper) Application() string { return m.application }

// Transcoder is the transcoder that payloads go through.
func (m *Mapper) Transcoder() persistence.Transcoder { return m.transcoder }

// Add makes the types of a definition known. It returns a
// *invalid.Error if a stored name already means another type, and
// what the transcoder's CheckType says against the type of an event. Adding a
// definition again is harmless.
func (m *Mapper) Add(added domain.Schema) error {
	schema := definitions.Of(added)
	m.mu.Lock()
	defer m.mu.Unlock()
	if checker, ok := m.transcoder.(interface{ CheckType(reflect.Type) error }); ok {
		for _, t := range schema.EventTypes() {
			if t.IsPast() {
				continue
			}
			written, _ := t.Written()
			for _, typ := range []reflect.Type{t.GoType(), written} {
				if err := checker.CheckType(typ); err != nil {
					return err
				}
			}
		}
	}
	next, err := m.kinds.Load().with(schema)
	if err != nil {
		return err
	}
	m.kinds.Store(next)
	return nil
}

// Stages of mapping, for persistence.MappingError.
const (
	stageTopic      = "topic"
	stageEncode     = "encode"
	stageCompress   = "compress"
	stageEncrypt    = "encrypt"
	stageDecrypt    = "decrypt"
	stageDecompress = "decompress"
	stageDecode     = "decode"
)

// purpose keeps events and snapshots apart: in the names they are stored under,
// and in the associated data.
type purpose string

const (
	events    purpose = "event"
	snapshots purpose = "snapshot"
)

// buffers hold the steps between payload and state. They are reused, because a
// new one for each event would cost more than the event.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

type buffer struct{ plain, packed, associated []byte }

// maxKept is the size above which a buffer is left to the garbage collector.
const maxKept = 64 << 10

func (b *buffer) release() {
	if cap(b.plain) <= maxKept && cap(b.packed) <= maxKept {
		buffers.Put(b)
	}
}

// ToStored maps an event. It returns a *MappingError, whose cause tells an
// unknown topic (*UnknownTopicError), a payload that is not of the topic's type
// (*eventtype.PayloadError) and what the transcoder, the compressor and the cipher
// say.
func (m *Mapper) ToStored(event domain.Event) (persistence.StoredEvent, error) {
	return m.toStored(events, event)
}

// ToDomain maps a stored event back. It returns a *MappingError, whose cause
// tells an unknown topic (*UnknownTopicError), a schema version newer than the
// program (*eventtype.VersionError) and what the cipher, the compressor and
// the transcoder say.
func (m *Mapper) ToDomain(stored persistence.StoredEvent) (domain.Event, error) {
	return m.toDomain(events, persistence.Notification{StoredEvent: stored})
}

// CopiesPlain reports whether the transcoder's copy of a value of the type is
// one of its memory, with times in UTC to the microsecond. It returns false if
// the transcoder has no method CopiesPlain(reflect.Type) bool that says so, and
// for the layout of the Python library, which has neither ids nor metadata.
func (m *Mapper) CopiesPlain(typ reflect.Type) bool {
	transcoder, ok := m.transcoder.(interface{ CopiesPlain(reflect.Type) bool })
	return ok && !m.pythonLayout && transcoder.CopiesPlain(typ)
}

// KnownTopics returns all names under which events of the definitions can be
// stored, today's and former ones, in no order.
func (m *Mapper) KnownTopics() []string { return slices.Collect(maps.Keys(m.kinds.Load().events)) }

// TopicsOfPayload returns the topics of the events that have payloads of a type
// when they are read: today's topic first, then those under which they were
// stored before, among them the topics of events that domain.UpcastToMany makes
// such payloads of. It returns none if the mapper knows no such events.
func (m *Mapper) TopicsOfPayload(payload reflect.Type) (topics []string) {
	var former []string
	for topic, kind := range m.kinds.Load().events {
		switch {
		case kind.GoType() == payload && kind.Topic() == topic && !kind.IsPast():
			topics = append(topics, topic)
		case kind.GoType() == payload && (!kind.IsPast() || kind.IsRetired()) || slices.Contains(kind.Into(), payload):
			former = append(former, topic)
		}
	}
	slices.Sort(topics)
	slices.Sort(former)
	return append(topics, former...)
}

// NotificationToDomain is ToDomain for an event from the log, which also knows
// its position. It returns an ErrNewerProgram for an event that means several
// today (eventtype.Payloads), which a caller that expects one payload would pass
// over: use NotificationToParts for those.
func (m *Mapper) NotificationToDomain(notification persistence.Notification) (domain.Event, error) {
	event, err := m.toDomain(events, notification)
	if _, several := event.Data.(eventtype.Payloads); several {
		return domain.Event{}, m.failed(&notification.StoredEvent, notification.ID, stageDecode, newer(errSeveral))
	}
	return event, err
}

var errSeveral = errors.New("domain.UpcastToMany makes several payloads of it, which this reader cannot take")

// NotificationToParts is NotificationToDomain for callers that take events
// which mean several today: its Parts are the events to process, all at
// its position.
func (m *Mapper) NotificationToParts(notification persistence.Notification) (domain.Event, error) {
	return m.toDomain(events, notification)
}

// SnapshotToStored maps a snapshot. It returns a *MappingError.
func (m *Mapper) SnapshotToStored(snapshot domain.Event) (persistence.StoredEvent, error) {
	return m.toStored(snapshots, snapshot)
}

// SnapshotToDomain maps a stored snapshot back, with errors as ToDomain.
func (m *Mapper) SnapshotToDomain(stored persistence.StoredEvent) (domain.Event, error) {
	return m.toDomain(snapshots, persistence.Notification{StoredEvent: stored})
}

func (m *Mapper) toStored(p purpose, event domain.Event) (persistence.StoredEvent, error) {
	stored := persistence.StoredEvent{OriginatorID: event.OriginatorID, OriginatorVersion: event.OriginatorVersion, Topic: event.Topic}
	kind, ok := m.find(p, event.Topic)
	if !ok {
		return stored, m.failed(&stored, 0, stageTopic, &UnknownTopicError{Topic: event.Topic})
	}
	if reflect.TypeOf(event.Data) != kind.GoType() || kind.IsPast() {
		_, isRetired := event.Data.(domain.RetiredEvent)
		return stored, m.failed(&stored, 0, stageEncode, &eventtype.PayloadError{
			Definition: kind.schema.Name(), Topic: event.Topic, Payload: reflect.TypeOf(event.Data), IsRetired: isRetired})
	}
	first := kind.schema.First()
	if p == events {
		stored.Begins = first > initialVersion && event.OriginatorVersion == first
		stored.Continues = first < initialVersion && event.OriginatorVersion == initialVersion
	}
	buf := buffers.Get().(*buffer)
	defer buf.release()
	written := event
	written.Data = kind.Downcast(event.Data)
	var err error
	switch {
	case m.pythonLayout:
		stored.Topic = pythonSnapshot
		if p == events {
			stored.Topic = pythonTopic(kind.Type, event.Topic)
		}
		buf.plain, err = m.appendPython(buf.plain[:0], p, kind, written)
	default:
		_, version := kind.Written()
		h := header{id: event.ID, timestamp: event.Timestamp, version: version, metadata: event.Metadata}
		if p == snapshots {
			h.metadata = withFingerprint(kind, event.Metadata)
		}
		if err = checkMetadata(event.Metadata); err == nil {
			buf.plain, err = m.transcoder.Encode(h.append(buf.plain[:0]), written.Data)
		}
	}
	if err == nil {
		err = m.checkDowncast(p, kind, buf.plain, event)
	}
	if err != nil {
		return stored, m.failed(&stored, 0, stageEncode, err)
	}
	return m.seal(p, stored, buf)
}

// seal makes the state out of the plain bytes in the buffer.
func (m *Mapper) seal(p purpose, stored persistence.StoredEvent, buf *buffer) (persistence.StoredEvent, error) {
	packed := buf.plain
	if m.compressor != nil {
		var err error
		if buf.packed, err = m.compressor.Compress(buf.packed[:0], buf.plain); err != nil {
			return stored, m.failed(&stored, 0, stageCompress, err)
		}
		if !isPlain(buf.packed) {
			packed = buf.packed
		}
	}
	if m.cipher == nil {
		stored.State = append(make([]byte, 0, len(packed)), packed...)
		return stored, nil
	}
	buf.associated = associate(buf.associated[:0], m.application, p, &stored)
	state, err := m.cipher.Encrypt(nil, packed, buf.associated)
	if err != nil {
		return stored, m.failed(&stored, 0, stageEncrypt, needs(err, true))
	}
	stored.State = state
	return stored, nil
}

func (m *Mapper) toDomain(p purpose, n persistence.Notification) (domain.Event, error) {
	buf := buffers.Get().(*buffer)
	defer buf.release()
	plain, stage, err := m.open(p, &n.StoredEvent, buf)
	if err != nil {
		return domain.Event{}, m.failed(&n.StoredEvent, n.ID, stage, err)
	}
	event := domain.Event{
		Application: m.application, NotificationID: n.ID,
		OriginatorID: n.OriginatorID, OriginatorVersion: n.OriginatorVersion, Topic: n.Topic,
	}
	if plain[0] == layoutPython {
		stage, err = m.decodePython(p, plain, &event)
	} else {
		stage, err = m.decode(p, plain, &event)
	}
	if err != nil {
		return domain.Event{}, m.failed(&n.StoredEvent, n.ID, stage, err)
	}
	return event, nil
}

// open makes the plain bytes out of a state. On failure it returns the stage as
// well.
func (m *Mapper) open(p purpose, stored *persistence.StoredEvent, buf *buffer) (plain []byte, stage string, err error) {
	plain = stored.State
	if m.cipher != nil {
		if err = m.decrypt(p, stored, buf); err != nil {
			return nil, stageDecrypt, undecrypted(stored.State, m.undecryptable(stored.State, err))
		}
		plain = buf.packed
	}
	switch {
	case isPlain(plain) && m.cipher == nil && mayBeSealed(plain):
		return nil, stageDecode, newer(m.unreadable(plain, errUnreadable))
	case isPlain(plain):
		return plain, "", nil
	case m.compressor == nil && m.lacksCipher(plain):
		return nil, stageDecrypt, newer(m.unreadable(plain, errEncrypted))
	case m.compressor == nil:
		return nil, stageDecode, m.unreadable(plain, m.uncompressed(plain, errUnreadable))
	}
	buf.plain, err = m.compressor.Decompress(buf.plain[:0], plain)
	switch {
	case err != nil && m.lacksCipher(plain):
		return nil, stageDecrypt, newer(m.unreadable(plain, errEncrypted))
	case err != nil:
		return nil, stageDecompress, m.undecompressed(plain, err)
	}
	if !isPlain(buf.plain) {
		return nil, stageDecode, newer(errUnreadable) // whole, but of another layout
	}
	return buf.plain, "", nil
}

// Layout is how a state is stored.
type Layout struct {
	// Stored, Packed and Plain are sizes in bytes: as it is stored, when it is
	// decrypted, and when it is decompressed as well. Packed and Plain are 0 if
	// that cannot be done.
	Stored, Packed, Plain int
	Encrypted, Compressed bool
	// Python is true for the layout of the Python library. Version is the schema
	// version of the payload, or 0 if it is not known.
	Python  bool
	Version int
}

// LayoutOf returns how the state of an event is stored.
func (m *Mapper) LayoutOf(stored persistence.StoredEvent) Layout { return m.layoutOf(events, stored) }

// SnapshotLayoutOf returns how a snapshot is stored.
func (m *Mapper) SnapshotLayoutOf(stored persistence.StoredEvent) Layout {
	return m.layoutOf(snapshots, stored)
}

func (m *Mapper) layoutOf(p purpose, stored persistence.StoredEvent) Layout {
	layout := Layout{Stored: len(stored.State), Encrypted: m.cipher != nil || m.lacksCipher(stored.State)}
	buf := &buffer{}
	plain, _, err := m.open(p, &stored, buf)
	if err != nil {
		return layout
	}
	layout.Plain, layout.Python = len(plain), plain[0] == layoutPython
	if layout.Python {
		layout.Version = m.pythonVersion(p, plain)
	} else if h, _, err := parseHeader(plain); err == nil {
		layout.Version = h.version
	}
	packed := stored.State
	if m.cipher != nil {
		packed = buf.packed
	}
	layout.Packed, layout.Compressed = len(packed), !isPlain(packed)
	return layout
}

// Settings returns what the compressor and the cipher are: the values of the
// settings that mean them, the types of those that no setting means, or "" for
// none.
func (m *Mapper) Settings() (compressor, cipher string) {
	if m.compressor != nil {
		compressor = settingOf(m.compressor)
	}
	if m.cipher != nil {
		cipher = settingOf(m.cipher)
	}
	return compressor, cipher
}

// settingOf does not print the value: a user's own may have a key in it.
func settingOf(value any) string {
	if named, ok := value.(interface{ Setting() string }); ok {
		return named.Setting()
	}
	return fmt.Sprintf("%T", value)
}

// lacksCipher reports whether an unreadable state is one that a cipher would
// open.
func (m *Mapper) lacksCipher(state []byte) bool {
	return m.cipher == nil && bytes.HasPrefix(state, []byte(envelopeMagic))
}

var errEncrypted = errors.New("the state is encrypted, and no cipher is configured")

var errUnreadable = errors.New("the state is not readable as it is: it was stored with a compressor or a cipher that " +
	"this application does not have, or it is damaged")

// decode fills the event from a state in the layout of this package.
func (m *Mapper) decode(p purpose, plain []byte, event *domain.Event) (stage string, err error) {
	h, payload, err := parseHeader(plain)
	if err != nil {
		return stageDecode, err
	}
	event.ID, event.Timestamp, event.Metadata = h.id, h.timestamp, h.metadata
	kind, ok := m.find(p, event.Topic)
	if !ok {
		return stageTopic, &UnknownTopicError{Topic: event.Topic}
	}
	if p == snapshots {
		if err := checkFingerprint(kind, h.version, event); err != nil {
			return stageDecode, err
		}
	}
	event.Data, err = kind.Decode(h.version, func(into any) error { return m.transcoder.Decode(payload, into) })
	return stageDecode, undecodable(err)
}

func (m *Mapper) find(p purpose, topic string) (kind, bool) {
	known := m.kinds.Load()
	topics := known.events
	if p == snapshots {
		topics = known.snapshots
	}
	k, ok := topics[topic]
	return k, ok
}

func (m *Mapper) failed(stored *persistence.StoredEvent, id int64, stage string, err error) error {
	return &persistence.MappingError{
		Application: m.application, OriginatorID: stored.OriginatorID, OriginatorVersion: stored.OriginatorVersion,
		NotificationID: id, Topic: stored.Topic, Stage: stage, Err: err,
	}
}

// decrypt opens a state into buf.packed. A state that was stored under a former
// name of the application is bound to that name.
func (m *Mapper) decrypt(p purpose, stored *persistence.StoredEvent, buf *buffer) error {
	open := func(application string) (err error) {
		buf.associated = associate(buf.associated[:0], application, p, stored)
		buf.packed, err = m.cipher.Decrypt(buf.packed[:0], stored.State, buf.associated)
		return err
	}
	err := open(m.application)
	if err == nil {
		return nil
	}
	for _, name := range m.formerNames {
		if open(name) == nil {
			return nil
		}
	}
	return err
}

// associate appends what the ciphertext is bound to. Each part follows its
// length, so that no two rows have the same bytes.
func associate(dst []byte, application string, p purpose, stored *persistence.StoredEvent) []byte {
	dst = appendString(dst, string(p))
	dst = appendString(dst, application)
	dst = appendString(dst, string(stored.OriginatorID[:]))
	dst = binary.BigEndian.AppendUint64(dst, uint64(stored.OriginatorVersion))
	return appendString(dst, stored.Topic)
}

// Identify is ToDomain for a caller that only has to know which event it is: in
// the layout of this package it decodes no payload, so Data is nil, and neither
// topic nor schema version need be known.
func (m *Mapper) Identify(stored persistence.StoredEvent) (domain.Event, error) {
	buf := buffers.Get().(*buffer)
	defer buf.release()
	plain, stage, err := m.open(events, &stored, buf)
	if err == nil && plain[0] == layoutPython {
		return m.ToDomain(stored)
	}
	event := domain.Event{
		Application: m.application, OriginatorID: stored.OriginatorID, OriginatorVersion: stored.OriginatorVersion, Topic: stored.Topic,
	}
	if err == nil {
		stage = stageDecode
		var h header
		h, _, err = parseHeader(plain)
		event.ID, event.Timestamp, event.Metadata = h.id, h.timestamp, h.metadata
	}
	if err != nil {
		return domain.Event{}, m.failed(&stored, 0, stage, err)
	}
	return event, nil
}

// idOf reads only the event id out of a stored event. It returns false for
// states without one.
func (m *Mapper) idOf(stored persistence.StoredEvent) (uuid.UUID, bool) {
	event, err := m.Identify(stored)
	return event.ID, err == nil && event.ID != uuid.Nil
}

// isSame reports whether two stored events say the same. Equal events have
// different states if a cipher draws a nonce for each, so the plain states are
// compared.
func (m *Mapper) isSame(a, b *persistence.StoredEvent) bool {
	if a.Topic != b.Topic {
		return false
	}
	bufA, bufB := buffers.Get().(*buffer), buffers.Get().(*buffer)
	defer bufA.release()
	defer bufB.release()
	plainA, _, errA := m.open(events, a, bufA)
	plainB, _, errB := m.open(events, b, bufB)
	return errA == nil && errB == nil && bytes.Equal(plainA, plainB)
}

// SchemaOf finds the definition that the events of a topic belong to.
func (m *Mapper) SchemaOf(topic string) (eventtype.Schema, bool) {
	k, ok := m.find(events, topic)
	return k.schema, ok
}

// CheckDefinition returns an ErrOriginatorType if a stored event belongs to
// another definition than the events of a topic. It returns nil if it does not,
// or if one of the topics is not known.
func (m *Mapper) CheckDefinition(stored persistence.StoredEvent, topic string) *persistence.Error {
	present, ok := m.SchemaOf(stored.Topic)
	wanted, known := m.SchemaOf(topic)
	if !ok || !known || present.Name() == wanted.Name() {
		return nil
	}
	return &persistence.Error{Class: persistence.ErrOriginatorType,
		Op:   fmt.Sprintf("%s: use originator %s as a %s", m.application, stored.OriginatorID, wanted.Name()),
		Hint: "it is a " + present.Name() + "; give each aggregate its own id, for example by a name for NewIDv5 that begins with its kind"}
}
