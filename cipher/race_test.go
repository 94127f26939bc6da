//go:build race

package cipher_test

// raceEnabled is true where sync.Pool drops values on purpose, so that
// allocations cannot be counted.
const raceEnabled = true
