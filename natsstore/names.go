package natsstore

import (
	"encoding/base32"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// chunk is how many versions of an originator share a subject. A server keeps
// each subject in memory, so a subject for each event would be too many; one
// for each originator would make a read of its newest events begin at the
// oldest.
const chunk = 256

func chunkOf(version int64) int64 { return version / chunk }

// names are the names of the streams and subjects of an application.
type names struct {
	events    string // the stream of events and positions
	snapshots string // the stream of snapshots
	statuses  string // the stream of the statuses of all followers
	prefix    string // of all subjects, with the dot
}

func namesOf(namespace, application string) names {
	t := token(application)
	return names{events: namespace + "_ev_" + t, snapshots: namespace + "_sn_" + t, statuses: namespace + "_status",
		prefix: namespace + "." + t + "."}
}

// statusNames are the names of the stream that has the statuses of the
// followers of all applications. No application has its first token.
func statusNames(namespace string) names {
	n := namesOf(namespace, "")
	n.prefix = namespace + ".=status."
	return n
}

// kind is a kind of stream.
type kind int

const (
	ofEvents kind = iota
	ofSnapshots
	ofStatuses
)

func (n names) stream(k kind) string {
	return [...]string{ofEvents: n.events, ofSnapshots: n.snapshots, ofStatuses: n.statuses}[k]
}

// The subjects of the stream of events.
func (n names) allEvents() string    { return n.prefix + "e.*.*" }
func (n names) allPositions() string { return n.prefix + "t.*" }
func (n names) allParked() string    { return n.prefix + "p.*" }
func (n names) filler() string       { return n.prefix + "f" }

func (n names) originator(id uuid.UUID) string {
	return n.prefix + "e." + hex.EncodeToString(id[:]) + ".*"
}

func (n names) chunk(id uuid.UUID, c int64) string {
	return n.prefix + "e." + hex.EncodeToString(id[:]) + "." + strconv.FormatInt(c, 36)
}

func (n names) position(upstream string) string { return n.prefix + "t." + token(upstream) }
func (n names) parked(upstream string) string   { return n.prefix + "p." + token(upstream) }

// The subjects of the stream of statuses.
func (n names) allStatuses() string { return n.prefix + "*.*" }

func (n names) status(follower, upstream string) string {
	return n.prefix + token(follower) + "." + token(upstream)
}

// The subjects of the stream of snapshots.
func (n names) allSnapshots() string { return n.prefix + "s.*.*" }

func (n names) snapshotsOf(id uuid.UUID) string {
	return n.prefix + "s." + hex.EncodeToString(id[:]) + ".*"
}

func (n names) snapshot(id uuid.UUID, version int64) string {
	return n.prefix + "s." + hex.EncodeToString(id[:]) + "." + strconv.FormatInt(version, 10)
}

// wake is the subject on which the server tells of stored events.
func (n names) wake() string { return n.prefix + "w" }

// originatorOf returns the id in the subject of an event or a snapshot.
func (n names) originatorOf(subject string) (uuid.UUID, bool) {
	tokens := strings.Split(strings.TrimPrefix(subject, n.prefix), ".")
	if len(tokens) != 3 {
		return uuid.Nil, false
	}
	raw, err := hex.DecodeString(tokens[1])
	if err != nil {
		return uuid.Nil, false
	}
	id, err := uuid.FromBytes(raw)
	return id, err == nil
}

// versionOf returns the version in the subject of a snapshot.
func versionOf(subject string) (int64, bool) {
	version, err := strconv.ParseInt(subject[strings.LastIndexByte(subject, '.')+1:], 10, 64)
	return version, err == nil
}

var encoding = base32.HexEncoding.WithPadding(base32.NoPadding)

// token returns a name as one token of a subject. Plain names are their own
// tokens; others begin with a sign that no plain name has.
func token(name string) string {
	if isPlain(name) {
		return name
	}
	return "=" + encoding.EncodeToString([]byte(name))
}

// nameOf is the name of a token.
func nameOf(token string) (string, bool) {
	encoded, ok := strings.CutPrefix(token, "=")
	if !ok {
		return token, isPlain(token)
	}
	name, err := encoding.DecodeString(encoded)
	return string(name), err == nil
}

func isPlain(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return name != ""
}
