package mapper

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The plain state of an event, before compression and encryption, is a header
// and after it the transcoded payload:
//
//	1 byte    layout, 0x01
//	16 bytes  event id; zero for an event without one
//	8 bytes   timestamp, microseconds since 1970 in UTC, big-endian
//	uvarint   schema version of the payload
//	uvarint   number of metadata entries; for each, in the order of their keys:
//	          uvarint length and bytes of the key, uvarint length and bytes of the value
//	rest      payload
//
// The states of the Python library are JSON objects and so begin with '{'. A
// state that begins with neither byte is a compressed one; if a compressor's
// output begins with one of them, the plain state is stored in its place.
//
// The layout never changes: testdata/header.txt has examples of it.
const (
	layoutOne    = 0x01
	layoutPython = '{'
)

// errHeader is one error for every damaged header, because its bytes must not
// be shown.
var errHeader = errors.New("header of the state is damaged")

// isPlain reports whether the bytes are a state that was not compressed.
func isPlain(state []byte) bool {
	return len(state) > 0 && (state[0] == layoutOne || state[0] == layoutPython)
}

// header is what the framework itself keeps in the state of an event.
type header struct {
	id        uuid.UUID
	timestamp time.Time
	version   int
	metadata  domain.Metadata
}

// append appends the header's bytes to dst.
func (h *header) append(dst []byte) []byte {
	dst = append(dst, layoutOne)
	dst = append(dst, h.id[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.timestamp.UnixMicro()))
	dst = binary.AppendUvarint(dst, uint64(h.version))
	dst = binary.AppendUvarint(dst, uint64(len(h.metadata)))
	if len(h.metadata) == 0 {
		return dst
	}
	for _, key := range slices.Sorted(maps.Keys(h.metadata)) {
		dst = appendString(dst, key)
		dst = appendString(dst, h.metadata[key])
	}
	return dst
}

// checkMetadata refuses text that programs in other languages and tools that
// print events would show as another, as the transcoder does for payloads.
func checkMetadata(m domain.Metadata) error {
	for key, value := range m {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return &invalid.Error{What: "metadata", Class: persistence.ErrData,
				Problem: "has a key or value that is not valid UTF-8; encode bytes as text, for example as base64"}
		}
	}
	return nil
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// parseHeader splits a plain state into its header and the payload.
func parseHeader(state []byte) (h header, payload []byte, err error) {
	const fixed = 1 + 16 + 8
	if len(state) < fixed || state[0] != layoutOne {
		return h, nil, errHeader
	}
	copy(h.id[:], state[1:17])
	h.timestamp = time.UnixMicro(int64(binary.BigEndian.Uint64(state[17:fixed]))).UTC()
	r := reader{rest: state[fixed:]}
	h.version = int(min(r.uvarint(), 1<<31-1))
	h.metadata = r.metadata()
	if r.damaged {
		return h, nil, errHeader
	}
	return h, r.rest, nil
}

// reader takes values from the front of rest, and remembers when there was none
// to take.
type reader struct {
	rest    []byte
	damaged bool
}

func (r *reader) uvarint() uint64 {
	value, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.damaged, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return value
}

func (r *reader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.damaged, r.rest = true, nil
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

// metadata reads the entries. The count comes from the database, so the map
// only grows with what is really there; an entry has two bytes at least.
func (r *reader) metadata() domain.Metadata {
	n := r.uvarint()
	if n == 0 || n > uint64(len(r.rest))/2 {
		r.damaged = r.damaged || n != 0
		return nil
	}
	m := make(domain.Metadata, min(n, 16))
	for i := uint64(0); i < n && !r.damaged; i++ {
		key := r.string()
		m[key] = r.string()
	}
	return m
}
