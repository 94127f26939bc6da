package gormstore_test

import (
	"os"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

func TestMain(m *testing.M) {
	if command := os.Getenv(childCommand); command != "" { // this process is a child of a test
		os.Exit(child(command))
	}
	os.Exit(testdb.Main(m))
}
