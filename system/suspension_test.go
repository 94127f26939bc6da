package system_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// stallingStore is the store of a process whose leases are not renewed from
// some time on, as if it was suspended.
type stallingStore struct {
	*gormstore.Store
	stalled atomic.Bool
	// unfenced leaves out the comparison of the fence.
	unfenced bool
}

var errStalled = errors.New("the process is suspended")

func (s *stallingStore) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	recorder, err := s.Store.ProcessRecorder(application)
	if err != nil {
		return nil, err
	}
	return stallingRecorder{recorder.(partitionedRecorder), s}, nil
}

type stallingRecorder struct {
	partitionedRecorder
	store *stallingStore
}

func (r stallingRecorder) RenewLeases(
	ctx context.Context, upstream, process string, numbers []int, duration time.Duration,
) (persistence.PartitionSet, error) {
	if r.store.stalled.Load() {
		return persistence.PartitionSet{}, errStalled
	}
	return r.partitionedRecorder.RenewLeases(ctx, upstream, process, numbers, duration)
}

func (r stallingRecorder) MovePartitions(
	ctx context.Context, upstream, process string, leases []capability.PartitionLease, to int64,
) error {
	if !r.store.unfenced {
		return r.partitionedRecorder.MovePartitions(ctx, upstream, process, leases, to)
	}
	tx, err := gormstore.Tx(ctx)
	if err != nil {
		return err
	}
	for _, lease := range leases {
		err = errors.Join(err, tx.Table("follower_partitions").Where("number = ?", lease.Number).Update("position", to).Error)
	}
	return err
}

// suspend has a process stop in the middle of a batch for longer than its
// leases, while another one processes everything. It returns when both are
// done.
func suspend(t *testing.T, db *gorm.DB, unfenced bool) {
	t.Helper()
	expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
	first := &stallingStore{Store: gormstore.New(db), unfenced: unfenced}
	begun, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	var once sync.Once
	write := writeEffect("first")
	a := newDivided(t, first, func(ctx context.Context, event domain.Event) error {
		err := write(ctx, event)
		once.Do(func() {
			first.stalled.Store(true)
			close(begun)
			<-goOn
			first.stalled.Store(false)
		})
		return err
	}, system.Partitions(4))
	b := newDivided(t, gormstore.New(db), writeEffect("second"), system.Partitions(4))
	a.save(t, 20, 1)
	a.start(t)
	<-begun
	b.start(t)
	b.waitFor(t)
	release()
	if !unfenced {
		a.waitFor(t)
	}
}

// A process that goes on after others have taken its partitions has no effects.
func TestSuspendedProcessIsFenced(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.OpenPostgres(t))
	suspend(t, db, false)
	if by := checkEffects(t, db, 40); by["first"] > 0 && by["second"] == 0 {
		t.Errorf("the second process has processed nothing: %v", by)
	}
}

// The control does not compare the fence, and has effects twice.
func TestSuspendedProcessControl(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.OpenPostgres(t))
	suspend(t, db, true)
	expect.Until(t, "events have effects twice without the fence", func() bool {
		var effects int64
		expect.NoError(t, db.Model(&DividedEffect{}).Count(&effects).Error)
		return effects > 40
	})
}
