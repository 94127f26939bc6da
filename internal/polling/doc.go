// Package polling waits for what other processes write to a store, which works
// on every store: [WaitFor] waits for the position of a follower, and
// [Subscribe] streams a log and what is added to it.
package polling
