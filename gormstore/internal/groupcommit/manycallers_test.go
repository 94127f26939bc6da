package groupcommit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// manyCallers are callers of one queue, whose writes fail now and then.
type manyCallers struct {
	queue   Queue[*work]
	writing atomic.Int32
	first   sync.Once

	mu      sync.Mutex // protects what follows
	written map[*work]int
	lost    map[*work]bool // were in a batch that panicked
	batches int
	wrong   []string
}

// manyWaiting is how many saves wait while the first batch is written. There are
// more callers than that whose first save is not canceled.
const manyWaiting = 10

var errRefused = errors.New("refused on purpose")

func (p *manyCallers) write(_ context.Context, batch []*work) {
	if p.writing.Add(1) != 1 {
		p.complain("two batches are written at once")
	}
	defer p.writing.Add(-1)
	p.first.Do(func() { // the next batch then has several saves, on one processor, too
		for waiting, _ := p.queue.State(); waiting < manyWaiting; waiting, _ = p.queue.State() {
			runtime.Gosched()
		}
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches++
	originators := map[uuid.UUID]bool{}
	breaks := rand.N(100) == 0
	for i, s := range batch {
		p.written[s]++
		p.lost[s] = breaks
		if originators[s.Key] {
			p.wrong = append(p.wrong, "an originator is twice in a batch")
		}
		originators[s.Key] = true
		s.ids, s.Err = []int64{s.version}, nil
		if s.version%7 == 0 {
			s.ids, s.Err = nil, errRefused
		}
		if breaks && i == len(batch)/2 {
			for _, lost := range batch {
				p.lost[lost] = true
			}
			panic(errInterrupted)
		}
	}
}

func (p *manyCallers) complain(format string, arguments ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = append(p.wrong, fmt.Sprintf(format, arguments...))
}

// save submits one save, perhaps cancelled at some moment, and checks its
// answer.
func (p *manyCallers) save(t *testing.T, r *rand.Rand, s *work) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cancelled, moments := r.IntN(3) == 0, r.IntN(4)
	if cancelled {
		go func() {
			for range moments {
				p.queue.mu.Lock() // which is when others move
				//lint:ignore SA2001 there is nothing to do while it is held
				p.queue.mu.Unlock()
			}
			cancel()
		}()
	}
	var ids []int64
	var err error
	panicked := func() (panicked bool) {
		defer func() { panicked = recover() != nil }()
		if err = p.queue.Do(ctx, s, p.write); err == nil {
			ids = s.ids
		}
		return false
	}()
	p.mu.Lock()
	times, lost := p.written[s], p.lost[s]
	p.mu.Unlock()
	switch {
	case panicked:
		if !lost {
			p.complain("a caller panicked whose batch did not")
		}
	case errors.Is(err, context.Canceled) && !errors.Is(err, persistence.ErrOutcomeUnknown):
		if times != 0 || ids != nil || !cancelled {
			p.complain("a cancelled save was written %d times, with ids %v", times, ids)
		}
	case errors.Is(err, persistence.ErrOutcomeUnknown):
		left := errors.Is(err, context.Canceled) && cancelled
		if !lost && !left || ids != nil {
			p.complain("the outcome of a save is unknown whose batch did not panic")
		}
	case errors.Is(err, errRefused):
		if times != 1 || ids != nil || s.version%7 != 0 {
			p.complain("a refused save was written %d times, with ids %v", times, ids)
		}
	default:
		if times != 1 || err != nil || !slices.Equal(ids, []int64{s.version}) {
			p.complain("a save was written %d times, with ids %v and error %v; want once, %d", times, ids, err, s.version)
		}
	}
}

// Whatever the callers do and whatever happens to the writes, every save has
// one answer, which is true.
func TestEachWriteHasOneTrueAnswer(t *testing.T) {
	t.Parallel()
	const callers, saves = 50, 200
	p := &manyCallers{written: map[*work]int{}, lost: map[*work]bool{}}
	originators := make([]uuid.UUID, 40)
	for i := range originators {
		originators[i] = uuid.New()
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(caller)))
			for i := range saves {
				version := int64(caller*saves + i + 1)
				s := saveFor("s", originators[r.IntN(len(originators))])
				if r.IntN(20) == 0 {
					s = saveFor("s", originators[r.IntN(20)], originators[20+r.IntN(20)])
				}
				s.version = version
				p.save(t, r, s)
			}
		})
	}
	group.Wait()
	for _, wrong := range p.wrong[:min(len(p.wrong), 10)] {
		t.Error(wrong)
	}
	if p.queue.led || len(p.queue.waiting) > 0 {
		t.Errorf("the queue has a leader: %v, and %d waiting; want neither", p.queue.led, len(p.queue.waiting))
	}
	if p.batches == 0 || p.batches >= callers*saves {
		t.Errorf("%d saves were written in %d batches, want fewer", callers*saves, p.batches)
	}
	t.Logf("%d saves, %d written, in %d batches", callers*saves, len(p.written), p.batches)
}
