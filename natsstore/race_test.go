//go:build race

package natsstore_test

func init() { looksForRaces = true }
