package pglisten_test

import (
	"os"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }
