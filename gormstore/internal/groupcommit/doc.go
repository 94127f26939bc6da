// Package groupcommit merges the writes of concurrent callers, so that one
// transaction, one round trip and one sync to disk serve all of them. It knows
// nothing of what is written, nor of the database.
//
// A [Queue] is where the writes meet. What is written is a type of the caller's
// that embeds [Entry], which has what the queue needs to know of it, and gets
// its outcome.
package groupcommit
