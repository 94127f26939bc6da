// The program benchmark measures how fast events are saved, aggregates loaded
// and logs followed, and prints the figures as tables of medians and ratios:
//
//	go run ./internal/benchmark
//	go run ./internal/benchmark -rows save,transaction -databases postgres -preload 5000000
//	go run ./internal/benchmark -rows save,latency -writers 16 -databases postgres -seconds 1 -rounds 5
//
// A figure alone says more about the machine than about the code, so everything
// is measured against something else in the same run:
//
//   - "raw" is the limit of the database: for a save one prepared INSERT and
//     its commit, without a lock, through the same driver; for a load the rows
//     and encoding/json alone; for a follower pages of 500 rows, encoding/json,
//     and one UPDATE of the position for each page.
//   - "original" is the Python library's way, in Go: a transaction that locks
//     the table and has GORM create one row for each event.
//
// # Method
//
// The ways of a cell take turns within a round, so that whatever else the
// machine does meets all of them. Each turn of a save begins with the same
// table: filled once with rows of the same log (-preload), without what turns
// before have added, vacuumed and analysed. It warms up, is measured, and is
// then checked: a way that has lost a row, or has left a gap in the versions of
// an aggregate, is no figure but an error. Every writer appends to its own
// aggregate, which it changes for a new one after 100 events.
//
// The PostgreSQL server is a private one that syncs every commit; its automatic
// vacuum and its timed checkpoints are off, because they would meet one way or
// another by chance. SQLite files are in WAL mode with synchronous=FULL. Both
// are in the temporary folder: set TMPDIR to measure another disk.
//
// # Rows
//
//   - save: stored events at the level of the recorder.
//   - application: Application.Save with JSON, zlib and AES, against rows of
//     the same size.
//   - load: Repository.Get, with and without compression, snapshots and the
//     cache.
//   - latency: a save at 16 writers.
//   - processes: four processes that write to one application.
//   - slowdisk: a disk whose syncs take a millisecond longer (needs a C
//     compiler; Linux).
//   - memory: one writer or reader; its columns of memory are the ones to look
//     at.
//   - catchup: a follower that has a whole log before it. A turn is all of the
//     log.
//   - delivery: from the return of a save to the policy of a running follower,
//     in the same process or in another one.
//   - following: how far the heap grows, and what a follower with nothing to do
//     asks of the database.
//   - scale: a server with a synchronous standby on the same machine against
//     one without; a follower on another server than its leader; a follower of
//     5 ms for each event in one process and divided among several
//     (PostgreSQL).
//   - contention: a follower that changes aggregates which 16 direct writers
//     change as well, against the same follower without them; with the two idle
//     connections that database/sql keeps by default, and with 20.
//
// In the row load an "event" is one that is loaded, in rows of followers one
// that is processed; elsewhere, one that is saved.
package main
