// Package polling finds what other processes write by reading again and again,
// which works on every store: [WaitFor] waits for the position of a follower,
// [Subscribe] streams a log and what is added to it, and [Read] streams the log
// as it is.
package polling
