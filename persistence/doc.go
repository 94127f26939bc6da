// Package persistence is what a store of events and its callers agree on: the
// interfaces of recorders, stored events, errors, and transactions.
//
// A service needs little of it: [IsConflict], [IsRetryable],
// [ErrOutcomeUnknown] and the other errors to choose its answer, [OnCommit] for
// what is to happen after a commit, and the types that packages application and
// system return: [DeletedOriginator], [ParkedEvent], [PartitionSet], [LogHold].
// The rest is for authors of stores.
//
// # The way of an event
//
// An application turns each event into a [StoredEvent]:
//
//	payload -> transcode -> put a header before it -> compress -> encrypt -> state
//
// and a recorder stores it. Reading goes the other way. Beside the payload, the
// state holds the event's id, time, schema version and metadata, so all of that
// is protected too; the originator's id, the version and the topic are columns,
// and the ciphertext is bound to them. [Transcoder], [Compressor] and [Cipher]
// are the three steps.
//
// # Recorders
//
// A store implements the recorder interfaces, each containing the one before:
// [AggregateRecorder], [ApplicationRecorder], [ProcessRecorder]. They promise:
//
//  1. InsertEvents stores all its events or none.
//  2. An originator has one event of each version: of several writers of the
//     same version exactly one wins, and the others get a *ConflictError.
//  3. Notification ids become visible in ascending order: a reader that has
//     read the log up to an id never finds a lower one there later.
//  4. The ids of one save ascend. Those of concurrent saves may interleave.
//  5. A position (Tracking) only moves forward, and moves together with the
//     events that a follower made, or not at all.
//  6. What one database accepts every other accepts, and reads back the same.
//
// The package persistencetest holds a store to these promises. The stores of
// this module can do more, such as keep what a follower has parked or delete an
// originator. How they do so is internal: a store without these abilities is
// complete.
//
// # Errors
//
// Every error belongs to a class, which errors.Is finds: [ErrIntegrity],
// [ErrOperational] and so on. [IsConflict] and [IsRetryable] answer the most
// common questions. [ErrOutcomeUnknown] is the third outcome of a write, beside
// success and failure.
//
// # Transactions
//
// [OnCommit] runs a function after the transaction of a context is committed. A
// store that has transactions is a [Transactor], and puts each into the context
// with [NewTransaction].
package persistence
