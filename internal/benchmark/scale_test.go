package benchmark

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/system"
)

const partitionTime = 5 * time.Millisecond // of a handler

// newReplicated makes a database on a server with a synchronous standby on this
// machine.
func newReplicated(b *testing.B) *database {
	b.Helper()
	server := newServer(b)
	server.NewStandby(b)
	d := newPostgres(b, server)
	d.execute(b, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
	for d.number(b, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	return d
}

// BenchmarkScaleSave is the row ScaleSave.
func BenchmarkScaleSave(b *testing.B) {
	onPostgres(b, func(b *testing.B, single *database) {
		double := newReplicated(b)
		for _, writers := range writers {
			b.Run("writers="+strconv.Itoa(writers), func(b *testing.B) {
				var ways []way
				for _, d := range []*database{single, double} {
					name := "one-server"
					if d == double {
						name = "synchronous-standby"
					}
					_, save := openOurs(b, d, writers, 1)
					ways = append(ways, unprepared(name, func(b *testing.B) float64 {
						return saving(b, d, newWriters(writers, 1, sampleTopic, sampleState, save), b.N)
					}))
				}
				compare(b, ways...)
			})
		}
	})
}

// BenchmarkScaleServers is the row ScaleServers: a follower in the database of
// its leader, and one on another server.
func BenchmarkScaleServers(b *testing.B) {
	onPostgres(b, func(b *testing.B, single *database) {
		other := newPostgres(b, newServer(b))
		h := &history{application: applicationName, events: *backlog}
		single.record(b, h)
		follow := func(own *database) func(t testing.TB) reader {
			return func(t testing.TB) reader {
				return newPair(t, setting{db: single.gorm(t, 2)}, setting{db: own.gorm(t, 2)}, h.application, nil, nil).catchUp(t, nil)
			}
		}
		compare(b, single.following("one-database", h, follow(single)), single.followingElsewhere("two-servers", h, other, follow(other)))
	})
}

// prepareShare makes the follower of one of the processes of a divided one. The
// log is that of the database.
func (d *database) prepareShare(t testing.TB, partitions int, position int64) func() (any, error) {
	t.Helper()
	at := setting{db: d.gorm(t, 4)}
	p := newPair(t, at, at, applicationName, func(context.Context, domain.Event) error {
		time.Sleep(partitionTime)
		return nil
	}, nil, system.Partitions(partitions))
	return func() (any, error) {
		p.run(t, system.Config{PartitionLease: time.Second})
		err := p.follower.WaitForPosition(t.Context(), p.leader, position)
		return p.events.Load(), err
	}
}

// BenchmarkScaleFollowers is the row ScaleFollowers.
func BenchmarkScaleFollowers(b *testing.B) {
	onPostgres(b, func(b *testing.B, d *database) {
		d.record(b, &history{application: applicationName, events: *slow})
		// Each event has its own originator.
		d.execute(b, "UPDATE stored_events SET originator_id = gen_random_uuid(), originator_version = 1")
		position := d.number(b, "SELECT MAX(id) FROM stored_events")
		var ways []way
		for processes := range 5 {
			name, partitions, n := fmt.Sprintf("%d-processes", processes), 16, processes
			switch processes {
			case 0:
				name, partitions, n = "not-divided", 1, 1
			case 3:
				continue
			}
			ways = append(ways, unprepared(name, func(b *testing.B) (taken float64) {
				for range b.N {
					d.forget(b)
					total := 0
					elapsed, err := runWorkers(b, n, job{Kind: d.kind, DSN: d.dsn, Partitions: partitions, Position: position}, nil,
						func(result json.RawMessage) error {
							var handled int
							err := json.Unmarshal(result, &handled)
							total += handled
							return err
						})
					expect.NoError(b, err)
					if total < *slow { // more if a batch lost its lease
						b.Fatalf("void: %d of %d events were processed", total, *slow)
					}
					taken = float64(elapsed) / float64(*slow)
					b.ReportMetric(taken, "ns/op")
				}
				return taken
			}))
		}
		compare(b, ways...)
	})
}
