// Package eventtype is what package domain shows of definitions to the packages
// of this module that store events, and not to its users. Package definitions
// makes it of a domain.Definition.
package eventtype

import (
	"reflect"
	"time"
)

// Inside returns the inside of a *domain.Definition, which is a
// definitions.Definition. Package domain sets it when it is initialised.
var Inside func(definition any) any

// Schema is the part of a definition that does not depend on the type of the
// aggregate. It is immutable and safe for concurrent use.
type Schema interface {
	// Name is the name given to Define.
	Name() string
	// EventTypes are the types of the events, in the order in which they were
	// defined, including the retired ones.
	EventTypes() []Type
	// SnapshotType is the type of the aggregate's snapshots, or nil in the
	// schema of a log.
	SnapshotType() Type
	// First is the version of the first event.
	First() int64
	// Kind finds the event type of a payload by its Go type.
	Kind(data any) (Type, bool)
}

// Type is one kind of payload: its stored names, its Go type, and how payloads
// written in older schema versions become today's. It is immutable and safe for
// concurrent use.
type Type interface {
	// Topic is the name that new payloads are stored under.
	Topic() string
	// Aliases are further names that stored payloads are read under.
	Aliases() []string
	// GoType is the type of today's payloads; for a retired type it is
	// domain.RetiredEvent.
	GoType() reflect.Type
	// Version is the schema version of today's payloads, from 1.
	Version() int
	// Written is the type and the schema version that new payloads are written
	// in: today's, or with domain.Downcast an earlier one.
	Written() (goType reflect.Type, version int)
	// Downcast makes the payload that is written out of one of today.
	Downcast(data any) any
	// Fingerprint identifies the structure of the state in snapshots of a
	// schema version. A snapshot with another fingerprint was made by a program
	// whose state has other fields, so it lacks some or means something else by
	// them. It is "" for events, for versions that cannot be read, and for a
	// state that any structure can be read into.
	Fingerprint(version int) string
	// Decode makes today's payload out of one stored in the given schema
	// version; decode fills the pointer it is given with the stored payload, and
	// may be called more than once.
	//
	// It returns a *VersionError if the version is newer than the program, or
	// older than its oldest upcaster. A retired type has domain.RetiredEvent for
	// every version and decodes nothing. domain.UpcastToMany makes Payloads.
	Decode(version int, decode func(into any) error) (any, error)
	// Copy returns a copy of a payload or of the state of a snapshot that shares
	// no memory with it, except what unexported fields refer to. Times in the
	// copy are in UTC to the microsecond. It returns false if there are too many
	// values.
	Copy(data any) (own any, ok bool)
	// Into returns the types of the payloads that domain.UpcastToMany makes of
	// events of this type.
	Into() []reflect.Type
	// IsPast reports whether events of the type can only be read, because the
	// type is retired or upcast to many.
	IsPast() bool
	// IsRetired reports whether events of the type are read as
	// domain.RetiredEvent.
	IsRetired() bool
}

// Payloads is the Data of a stored event that domain.UpcastToMany has made
// several payloads of, in their order. It may be empty.
type Payloads []any

// SnapshotState is the payload of a snapshot: the state S of an aggregate at
// one version, with the times that an aggregate has beside its state.
type SnapshotState[S any] struct {
	CreatedOn  time.Time
	ModifiedOn time.Time
	State      S
}
