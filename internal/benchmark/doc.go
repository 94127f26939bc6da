// Package benchmark measures how fast events are saved, aggregates loaded and
// logs followed. It has nothing but benchmarks, whose output is for benchstat:
//
//	cd internal/benchmark
//	go test -bench . -timeout 2h | tee figures.txt
//	go tool benchstat -col /way -ignore /round figures.txt
//
//	go test -bench 'Save/database=postgres/writers=16' -rounds 5 -benchtime 1s
//	go test -bench Transaction -preload 5000000 # on a long log
//
// The flags of go test choose what is measured and how long (-bench, -benchtime,
// -cpuprofile), those of this package (go test -args -h) how much there is.
//
// A figure alone says more about the machine than about the code, so everything
// is measured against something else in the same run: "raw" is the limit of the
// database, "original" the Python library's way, in Go. The ways of a row take
// turns in each round (-rounds), and x-raw and x-original are how many times as
// fast a way was as those two in the same round. A way that has lost a row, or
// has left out an event, is no figure but a failure. docs/performance.md has the
// method and the figures.
//
// # Figures
//
//   - sec/op, B/op and allocs/op are for a save, for a load or for an event that
//     is followed. What drivers allocate in C is not counted.
//   - p50 and p99 are quantiles of the times of operations.
//   - cpu is the processor time of this process and the server for each
//     operation; it needs Linux.
//
// # Rows
//
//   - Save: stored events at the level of the recorder.
//   - Application: Application.Save with JSON, zlib and AES, against rows of
//     the same size.
//   - Load: Repository.Get, with and without compression, snapshots and the
//     cache.
//   - Processes: four processes that write to one application.
//   - SlowDisk: a disk whose syncs take a millisecond longer (needs a C
//     compiler; Linux).
//   - Transaction: a save and a row of the caller in one transaction.
//   - CatchUp: a follower that has a whole log before it.
//   - Delivery: from the return of a save to the handler of a running follower,
//     in the same process or in another one.
//   - Following: how far the heap grows.
//   - Idle: what a follower with nothing to do asks of the database.
//   - Contention: a follower that changes aggregates which 16 direct writers
//     change as well, against the same follower without them; with the two idle
//     connections that database/sql keeps by default, and with 20.
//   - ScaleSave: a server with a synchronous standby on the same machine against
//     one without.
//   - ScaleServers: a follower on another server than its leader.
//   - ScaleFollowers: a follower of 5 ms for each event in one process and
//     divided among several.
//
// The last four are for PostgreSQL.
package benchmark
