package natsstore

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
)

// writeID is in all messages of one call, so that a write whose answer was lost
// is recognised.
type writeID [12]byte

func newWriteID() (id writeID) {
	rand.Read(id[:]) // it never fails
	return id
}

// The kinds of messages.
const (
	eventKind    byte = 'e'
	beginKind    byte = 'b' // an originator begins at a version after its first chunk
	positionKind byte = 'p' // the state has the settings of the follower
	parkedKind   byte = 'k' // a follower has parked an event
	unparkedKind byte = 'u' // and has forgotten it
	statusKind   byte = 'h'
	snapshotKind byte = 's'
	fillerKind   byte = 'f' // takes the place of an id that a copied log does not have
)

const frameFormat = 1

// frame is the payload of a message.
type frame struct {
	kind  byte
	first bool // the event is the first of its originator
	write writeID
	// number is the version of an event or a snapshot, or a position.
	number int64
	topic  string
	state  []byte
}

func (f *frame) encode() []byte {
	b := make([]byte, 0, 3+len(f.write)+2*binary.MaxVarintLen64+len(f.topic)+len(f.state))
	flags := byte(0)
	if f.first {
		flags = 1
	}
	b = append(b, frameFormat, f.kind, flags)
	b = append(b, f.write[:]...)
	b = binary.AppendUvarint(b, uint64(f.number))
	b = binary.AppendUvarint(b, uint64(len(f.topic)))
	b = append(b, f.topic...)
	return append(b, f.state...)
}

var errFrame = errors.New("the payload is not one that this version knows")

func decodeFrame(b []byte) (f frame, err error) {
	if len(b) < 3+len(f.write) || b[0] != frameFormat || b[2] > 1 {
		return f, errFrame
	}
	f.kind, f.first = b[1], b[2] == 1
	switch f.kind {
	case eventKind, beginKind, positionKind, parkedKind, unparkedKind, statusKind, snapshotKind, fillerKind:
	default:
		return f, errFrame
	}
	b = b[3+copy(f.write[:], b[3:]):]
	number, n := binary.Uvarint(b)
	if n <= 0 || int64(number) < 0 {
		return f, errFrame
	}
	b = b[n:]
	length, n := binary.Uvarint(b)
	if n <= 0 || length > uint64(len(b)-n) {
		return f, errFrame
	}
	f.number, f.topic, f.state = int64(number), string(b[n:n+int(length)]), b[n+int(length):]
	return f, nil
}
