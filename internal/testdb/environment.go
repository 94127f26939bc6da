package testdb

import "os"

// Full reports whether tests should use their full figures, which the nightly
// run does by setting FULL=1.
func Full() bool { return enabled("FULL") }

// Figure returns full if [Full], and reduced otherwise. Use it for repetitions,
// sizes and worker counts whose full value is too slow for every run:
//
//	for range testdb.Figure(1_000, 1_000_000) { ... }
func Figure(reduced, full int) int {
	if Full() {
		return full
	}
	return reduced
}

// Sample returns whole if [Exhaustive], and part otherwise. Use it for the work
// by which a test searches beyond what it shows in any case, since go test runs
// on the machines of those who change the code, again and again:
//
//	for range testdb.Figure(testdb.Sample(100, 1_000), 1_000_000) { ... }
func Sample(part, whole int) int {
	if Exhaustive() {
		return whole
	}
	return part
}

// Exhaustive reports whether tests should try every combination of settings and
// databases: in continuous integration, which sets CI, and if [Full]. Otherwise
// they try each setting and each database, but not all of them together.
func Exhaustive() bool { return Full() || enabled("CI") }

// enabled reports whether the environment variable, a switch, is on.
func enabled(name string) bool {
	switch os.Getenv(name) {
	case "", "0", "false":
		return false
	}
	return true
}
