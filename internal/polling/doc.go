// Package polling reads what other processes write to a store, which works on
// every store: [WaitFor] waits for the position of a follower, [Subscribe]
// streams a log and what is added to it, and [Read] what is there.
package polling
