// Package groupcommit merges the writes of concurrent callers, so that one
// transaction, one round trip and one sync to disk serve all of them. It knows
// nothing of what is written, nor of the database.
//
// A [Queue] collects the writes. The caller defines the type of a write, which
// embeds [Entry]: what the queue needs to know of the write, and its outcome.
package groupcommit
