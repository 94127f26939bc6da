package system_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// With snapshots, and a cache that hands out its own aggregates. A handler that
// fails leaves nothing of what it changed.
func TestSnapshotsAndCache(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		r := p.runner(t, counting(application.WithSnapshotting(map[string]int{"Counter": 2}), application.WithEnv(map[string]string{
			"AGGREGATE_CACHE_MAXSIZE": "10", "DEEPCOPY_FROM_AGGREGATE_CACHE": "n", "AGGREGATE_CACHE_FASTFORWARD": "n"})))
		dogs, c := get[*school.TrainingSchool](t, r, schoolName), get[*counters](t, r, countersName)
		var mu sync.Mutex
		failed := map[int64]bool{}
		c.become(func(ctx context.Context, event domain.Event, processing *collector) error {
			if err := c.count(ctx, event, processing); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if event.OriginatorVersion%4 == 0 && !failed[event.NotificationID] {
				failed[event.NotificationID] = true
				return errors.New("the first attempt fails")
			}
			return nil
		})
		register(t, dogs, 7, "Fido")
		_ = r.Start(t.Context())
		for single, ok := r.(*system.SingleThreadedRunner); ok && single.Sync(t.Context()) != nil; {
		}
		p.sync(t, r)
		if got := c.counted(t, "sit"); got != 7 {
			t.Errorf("counted %d, want 7", got)
		}
		for snapshot, err := range bridge.Of(c).Snapshots().Get(t.Context(), counterID("sit"), persistence.EventRange{Descending: true, Limit: 1}) {
			if err != nil || snapshot.OriginatorVersion != 6 {
				t.Errorf("the newest snapshot is of version %d, %v; want 6", snapshot.OriginatorVersion, err)
			}
		}
	})
}

// commits takes down which events were committed together.
type commits struct {
	mu      sync.Mutex // protects what follows
	pending []int64
	batches [][]int64
}

func (c *commits) policy(ctx context.Context, event domain.Event, _ *collector) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) == 0 {
		txscope.OnRollback(ctx, func(context.Context) { c.end(false) })
		persistence.OnCommit(ctx, func(context.Context) { c.end(true) })
	}
	c.pending = append(c.pending, event.NotificationID)
	return nil
}

func (c *commits) end(committed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if committed {
		c.batches = append(c.batches, c.pending)
	}
	c.pending = nil
}

func (c *commits) sizes() (sizes []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, batch := range c.batches {
		sizes = append(sizes, len(batch))
	}
	return sizes
}

// Events are processed in batches with one commit. After an error they are
// processed one at a time up to the end that the batch would have had, and then
// in batches again.
func TestBatches(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		var c commits
		r, err := newSingle(newSystem(t, counting()), application.WithStore(gormstore.New(db)))
		closing(t, r, err)
		dogs, counters := get[*school.TrainingSchool](t, r, schoolName), get[*counters](t, r, countersName)
		fail := errors.New("fail")
		failing := true
		counters.become(func(ctx context.Context, event domain.Event, processing *collector) error {
			if failing && event.OriginatorVersion == 2 { // before which a batch may end by time
				return fail
			}
			return errors.Join(c.policy(ctx, event, processing), counters.count(ctx, event, processing))
		})
		register(t, dogs, 4, "Fido")
		if err := r.Start(t.Context()); !errors.Is(err, fail) {
			t.Fatalf("got %v, want an error that is %v", err, fail)
		}
		failing = false
		register(t, dogs, 9, "Rex")
		if got, want := c.sizes()[:5], []int{1, 1, 1, 1, 1}; !slices.Equal(got, want) {
			t.Errorf("got batches of %v, want %v", got, want)
		}
		// Later events of a batch see what was made of earlier ones. A slow
		// machine may need more batches.
		if rest := c.sizes()[5:]; len(rest) == 10 {
			t.Errorf("got batches of %v, want larger ones", rest)
		}
		if got := counters.counted(t, "sit"); got != 13 {
			t.Errorf("counted %d, want 13", got)
		}
	})
}

// A batch whose handlers take long ends early, so that others can write.
func TestBatchEndsByTime(t *testing.T) {
	t.Parallel()
	var c commits
	slow := func(ctx context.Context, event domain.Event, processing *collector) error {
		time.Sleep(30 * time.Millisecond) // the work of the handler
		return c.policy(ctx, event, processing)
	}
	r, err := newSingle(newSystem(t, pipe(app(schoolName, school.New), followerLoop("F", slow))),
		application.WithStore(gormstore.New(migrated(t, testdb.SQLiteMemory(t)))))
	closing(t, r, err)
	dogs := get[*school.TrainingSchool](t, r, schoolName)
	register(t, dogs, 3, "Fido")
	start(t, r)
	if got := c.sizes(); !slices.Equal(got, []int{1, 1, 1, 1}) {
		t.Errorf("got batches of %v, want each event by itself", got)
	}
	if got := position(t, get[*follower](t, r, "F").Application, schoolName); got != head(t, dogs.Application) {
		t.Errorf("the position is %d, want %d", got, head(t, dogs.Application))
	}
}
