// Package mapper turns domain events into stored events and back, and keeps
// the events and snapshots of an application in recorders.
//
// A [Mapper] transcodes a payload, writes a header before it, compresses the
// result and then encrypts it. An [EventStore] and a [SnapshotStore] are a
// Mapper over a recorder. The layout of a state is described in header.go, and
// the layout of the Python library in pythonlayout.go.
package mapper
