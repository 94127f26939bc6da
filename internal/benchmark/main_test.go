package benchmark

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

var (
	rounds     = flag.Int("rounds", 1, "turns of each way")
	preload    = flag.Int("preload", 20_000, "rows in the table before each turn of a save")
	backlog    = flag.Int("backlog", 100_000, "events to catch up with in CatchUp and ScaleServers")
	deliveries = flag.Int("deliveries", 100, "saves in each turn of Delivery")
	followed   = flag.Int("followed", 1_000_000, "events to follow in Following")
	idle       = flag.Duration("idle", 20*time.Second, "how long Idle watches a follower")
	placed     = flag.Int("orders", 5_000, "orders to process in Contention")
	slow       = flag.Int("slow", 2_000, "events of 5 ms each in ScaleFollowers")
)

// workerVariable makes the test binary a worker; see [TestWorker].
const workerVariable = "BENCHMARK_WORKER"

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }

// The ways that others are compared with, and the one that matters.
const (
	ours     = "ours"
	raw      = "raw"
	original = "original"
)

// A way is one way of doing the work of a cell.
type way struct {
	name string
	open func(b *testing.B) turn // prepares the way
}

// A turn does the work of a way b.N times. It returns the time of an operation,
// or 0 if that is not to be compared.
type turn func(b *testing.B) float64

// unprepared is a way that has nothing to prepare.
func unprepared(name string, t turn) way {
	return way{name, func(*testing.B) turn { return t }}
}

// compare gives every way a turn in each round. The ways that others are
// compared with come first.
func compare(b *testing.B, ways ...way) {
	b.Helper()
	turns := make([]turn, len(ways))
	for i, w := range ways {
		turns[i] = w.open(b)
	}
	for round := range *rounds {
		taken := map[string]float64{} // by way
		for i, w := range ways {
			b.Run(fmt.Sprintf("round=%d/way=%s", round+1, w.name), func(b *testing.B) {
				b.StopTimer()
				b.ResetTimer() // only what measure measures counts for the time of a turn
				mine := turns[i](b)
				for _, other := range []string{raw, original} {
					if taken[other] > 0 && mine > 0 {
						b.ReportMetric(taken[other]/mine, "x-"+other)
					}
				}
				taken[w.name] = mine
			})
		}
	}
}
