package persistencetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// bug is a mistake that a store may have. Every one of them must fail at least
// one row.
type bug struct {
	name string
	// spoil changes what a recorder does.
	spoil spoiler
	// fresh makes spoil for one store, if the bug keeps a state.
	fresh func() spoiler
	// rename changes the names of applications.
	rename func(name string) string
	// reopen is what happens when a store is opened again.
	reopen func(f persistence.Factory) persistence.Factory
	// transaction changes how transactions are run.
	transaction func(run transactionFunc) transactionFunc
	// unclosed ignores Close.
	unclosed bool
}

// every is more rows than there are.
const every = 1_000

// enough returns how many rows have to find a bug: one is the proof, and a
// second one shows that the bug does not depend on a single row.
func enough() int {
	switch {
	case enabled("FULL"):
		return every
	case enabled("CI"):
		return 2
	}
	return 1
}

type transactionFunc func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error

// TestSeededBugs runs the suite against stores with known bugs. With FULL=1 it
// runs every row against each bug; otherwise it stops when enough rows have
// found it.
func TestSeededBugs(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range bugs {
		if seen[b.name] {
			t.Errorf("there are two bugs %q", b.name)
		}
		seen[b.name] = true
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			caught := b.caught(t, enough())
			if len(caught) == 0 {
				t.Fatal("no row fails")
			}
			t.Logf("caught by:\n\t%s", strings.Join(caught, "\n\t"))
		})
	}
	t.Logf("%d bugs", len(bugs))
}

// TestNoBug shows that the wrapping of stores is not itself what the rows fail
// on.
func TestNoBug(t *testing.T) {
	t.Parallel()
	b := bug{spoil: func(*spoilt) {}}
	if caught := b.caught(t, 1); len(caught) > 0 {
		t.Errorf("fails without a bug: %v, want 0 of them", caught)
	}
}

// caught runs rows against a store with the bug until enough of them have
// failed, the quick ones first.
func (b bug) caught(t *testing.T, enough int) []string {
	rows, _ := divide(b.harness())
	slices.SortStableFunc(rows, func(x, y row) int {
		switch {
		case x.heavy == y.heavy:
			return 0
		case x.heavy:
			return 1
		}
		return -1
	})
	var caught []string
	for _, r := range rows {
		if r.heavy && len(caught) > 0 && enough < every {
			break
		}
		if record(t, func(t testing.TB) { r.exercise(t, b.harness()) }).Failed() {
			if caught = append(caught, r.fullName()); len(caught) == enough {
				break
			}
		}
	}
	return caught
}

// harness is the one of a correct store, spoilt by the bug.
func (b bug) harness() Harness {
	h := transactional()
	run := transactionFunc(h.Transaction)
	if b.transaction != nil {
		run = b.transaction(run)
	}
	return Harness{
		New: func(t testing.TB) persistence.Factory {
			spoil := b.spoil
			if b.fresh != nil {
				spoil = b.fresh()
			}
			return &spoiltStore{Factory: h.New(t), bug: b, spoil: spoil}
		},
		Reopen: func(t testing.TB, f persistence.Factory) persistence.Factory {
			old := f.(*spoiltStore)
			if b.reopen != nil {
				return &spoiltStore{Factory: b.reopen(old.Factory), bug: b, spoil: old.spoil}
			}
			return &spoiltStore{Factory: h.Reopen(t, old.Factory), bug: b, spoil: old.spoil}
		},
		Concurrent: true,
		Transaction: func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error {
			return run(ctx, f.(*spoiltStore).Factory, fn)
		},
	}
}

// eachSettingsRead changes all settings that are read.
func eachSettingsRead(change func(position *int64, s *capability.FollowerSettings)) spoiler {
	return func(r *spoilt) {
		spoilt := func(read readSettingsFunc) readSettingsFunc {
			return func(ctx context.Context, upstream string) (int64, *capability.FollowerSettings, error) {
				position, settings, err := read(ctx, upstream)
				if settings != nil {
					change(&position, settings)
				}
				return position, settings, err
			}
		}
		r.settings, r.lockSettings = spoilt(r.settings), spoilt(r.lockSettings)
	}
}

// eachEvent changes every event that is read, from a stream or from a page.
func eachEvent(change func(e *storedEvent)) spoiler {
	return func(r *spoilt) {
		selects, page := r.selects, r.page
		r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
			return func(yield func(storedEvent, error) bool) {
				for e, err := range selects(ctx, id, want) {
					if err == nil {
						change(&e)
					}
					if !yield(e, err) {
						return
					}
				}
			}
		}
		r.page = func(ctx context.Context, want pageRange) ([]notification, error) {
			got, err := page(ctx, want)
			for i := range got {
				change(&got[i].StoredEvent)
			}
			return got, err
		}
	}
}

// eachRange changes the ranges of streams.
func eachRange(change func(want *eventRange)) spoiler {
	return func(r *spoilt) {
		selects := r.selects
		r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
			change(&want)
			return selects(ctx, id, want)
		}
	}
}

// eachStream changes all events of a stream together.
func eachStream(change func(events []storedEvent, want eventRange) []storedEvent) spoiler {
	return func(r *spoilt) {
		selects := r.selects
		r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
			return func(yield func(storedEvent, error) bool) {
				if err := want.Validate(); err != nil {
					yield(storedEvent{}, err)
					return
				}
				events, err := collect(selects(ctx, id, eventRange{}))
				if err != nil {
					yield(storedEvent{}, err)
					return
				}
				for _, e := range change(events, want) {
					if !yield(e, nil) {
						return
					}
				}
			}
		}
	}
}

// eachPage changes the ranges of pages.
func eachPage(change func(want *pageRange)) spoiler {
	return func(r *spoilt) {
		page := r.page
		r.page = func(ctx context.Context, want pageRange) ([]notification, error) {
			change(&want)
			return page(ctx, want)
		}
	}
}

// eachInsert changes the events that are inserted, by whatever method.
func eachInsert(change func(events []storedEvent) []storedEvent) spoiler {
	return func(r *spoilt) {
		insert, process := r.insert, r.process
		r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
			return insert(ctx, change(events))
		}
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			return process(ctx, change(events), to)
		}
	}
}

// eachResult changes what inserts return, by whatever method.
func eachResult(change func(r *spoilt, ids []int64, err error) ([]int64, error)) spoiler {
	return func(r *spoilt) {
		insert, process := r.insert, r.process
		r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
			ids, err := insert(ctx, events)
			return change(r, ids, err)
		}
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			ids, err := process(ctx, events, to)
			return change(r, ids, err)
		}
	}
}

// eachConflict changes the conflicts that inserts return.
func eachConflict(change func(c *conflictError) error) spoiler {
	return eachResult(func(_ *spoilt, ids []int64, err error) ([]int64, error) {
		if conflict, ok := errors.AsType[*conflictError](err); ok {
			return ids, change(conflict)
		}
		return ids, err
	})
}

// oneByOne is an insert that is not atomic. Inserts of so many events also take
// a pause in the middle.
func oneByOne(r *spoilt, paused int, pause func()) {
	insert := r.insert
	r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
		if err := persistence.ValidateEvents(r.application, events); err != nil {
			return nil, err
		}
		var all []int64
		for i := range events {
			if i == 2 && len(events) == paused {
				pause()
			}
			ids, err := insert(ctx, events[i:i+1])
			if err != nil {
				return nil, err
			}
			all = append(all, ids...)
		}
		return all, nil
	}
}

// mended makes changed copies of events.
func mended(change func(e *storedEvent)) func(events []storedEvent) []storedEvent {
	return func(events []storedEvent) []storedEvent {
		events = slices.Clone(events)
		for i := range events {
			change(&events[i])
		}
		return events
	}
}

// ignoringContext calls inserts with a context that never ends.
func ignoringContext(r *spoilt) {
	insert, process, move := r.insert, r.process, r.move
	r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
		return insert(context.WithoutCancel(ctx), events)
	}
	r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
		return process(context.WithoutCancel(ctx), events, to)
	}
	r.move = func(ctx context.Context, to destination) error { return move(context.WithoutCancel(ctx), to) }
}

// bugs are those that real stores had, or nearly had.
var bugs = slices.Concat(
	rangeBugs, snapshotBugs, deletionBugs, pageBugs, idBugs,
	continuityBugs, insertBugs, conflictBugs, stateBugs, applicationBugs,
	positionBugs, processingBugs, contextBugs, lifecycleBugs, lockBugs,
	transactionBugs,
)

func TestThereAreManyBugs(t *testing.T) {
	if len(bugs) < 24 {
		t.Errorf("there are %d bugs, want at least 24", len(bugs))
	}
}
