// Package memory keeps events in the memory of the process: for tests, for
// demonstrations, and as the reference implementation of the recorders of the
// package persistence. If it is unclear what a store must do, it does what this
// one does.
//
// A Store holds any number of applications, as a database does:
//
//	store := memory.New()
//	defer store.Close()
//	events, err := store.ProcessRecorder("TrainingSchool")
//	snapshots, err := store.SnapshotRecorder("TrainingSchool")
//
// Recorders of the same application share its events, however many are made.
// Two applications share nothing but the sequence that notification ids are
// drawn from, so the log of each has gaps, as it has in a database.
//
// One writer or transaction is at work at a time. Readers outside of a
// transaction do not wait, and see what was committed before. No lock is held
// while the body of a loop over a stream runs. A Store keeps every event for as
// long as it lives; nothing survives it.
package memory
