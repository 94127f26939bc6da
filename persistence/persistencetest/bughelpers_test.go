package persistencetest

import (
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The types that bugs are about, by names that leave room for the bugs.
type (
	storedEvent   = persistence.StoredEvent
	notification  = persistence.Notification
	destination   = persistence.Tracking
	eventRange    = persistence.EventRange
	pageRange     = persistence.NotificationRange
	eventStream   = iter.Seq2[persistence.StoredEvent, error]
	conflictError = persistence.ConflictError
	spoiler       = func(r *spoilt)
)

// modelOf is a model that holds the events of one originator.
func modelOf(events []storedEvent) *model {
	m := &model{}
	m.add(make([]int64, len(events)), events)
	return m
}

func originatorOf(events []storedEvent) uuid.UUID {
	if len(events) == 0 {
		return uuid.Nil
	}
	return events[0].OriginatorID
}

// storingOrder selects snapshots in the order in which they were stored.
func storingOrder() spoiler {
	var mu sync.Mutex
	order := map[place]int{}
	return func(r *spoilt) {
		if !r.snapshots {
			return
		}
		insert := r.insert
		r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
			ids, err := insert(ctx, events)
			mu.Lock()
			defer mu.Unlock()
			for _, e := range events {
				if at := (place{r.application, e.OriginatorID, e.OriginatorVersion}); order[at] == 0 {
					order[at] = len(order) + 1
				}
			}
			return ids, err
		}
		eachStream(func(events []storedEvent, want eventRange) []storedEvent {
			events = modelOf(events).selected(originatorOf(events), want)
			mu.Lock()
			defer mu.Unlock()
			slices.SortFunc(events, func(a, b storedEvent) int {
				return order[place{r.application, a.OriginatorID, a.OriginatorVersion}] -
					order[place{r.application, b.OriginatorID, b.OriginatorVersion}]
			})
			return events
		})(r)
	}
}

// filtered selects topics from a page that was read without.
func filtered(match func(topic, want string) bool) spoiler {
	return func(r *spoilt) {
		page := r.page
		r.page = func(ctx context.Context, want pageRange) ([]notification, error) {
			topics := want.Topics
			want.Topics = nil
			got, err := page(ctx, want)
			return slices.DeleteFunc(got, func(n notification) bool { return !matches(n, topics, match) }), err
		}
	}
}

// matched selects topics with a given comparison, and is right otherwise.
func matched(match func(topic, want string) bool) spoiler {
	return func(r *spoilt) {
		page := r.page
		r.page = func(ctx context.Context, want pageRange) ([]notification, error) {
			want, err := want.Validate()
			if err != nil {
				return nil, err
			}
			topics, limit := want.Topics, want.Limit
			want.Topics, want.Limit = nil, persistence.MaxPage
			got, err := page(ctx, want)
			got = slices.DeleteFunc(got, func(n notification) bool { return !matches(n, topics, match) })
			return got[:min(len(got), limit)], err
		}
	}
}

func matches(n notification, topics []string, match func(topic, want string) bool) bool {
	return len(topics) == 0 || slices.ContainsFunc(topics, func(want string) bool { return match(n.Topic, want) })
}

// eachResultOf refuses inserts.
func eachResultOf(refuse func(events []storedEvent) error) spoiler {
	return func(r *spoilt) {
		insert := r.insert
		r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
			if err := refuse(events); err != nil {
				return nil, err
			}
			return insert(ctx, events)
		}
	}
}

// kept are states that others may change.
type kept struct {
	mu     sync.Mutex
	states map[place][]byte
}

func (k *kept) keep(r *spoilt, e storedEvent) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.states[placeOf(r, e)] = e.State
}

// first returns the state that was kept first for the event.
func (k *kept) first(r *spoilt, e storedEvent) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	if state, ok := k.states[placeOf(r, e)]; ok {
		return state
	}
	k.states[placeOf(r, e)] = e.State
	return e.State
}

// sharedWithWriter keeps the very states that it is given.
func sharedWithWriter() spoiler {
	states := &kept{states: map[place][]byte{}}
	return func(r *spoilt) {
		insert := r.insert
		r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
			ids, err := insert(ctx, events)
			for _, e := range events {
				if err == nil {
					states.keep(r, e)
				}
			}
			return ids, err
		}
		eachEvent(func(e *storedEvent) { e.State = states.first(r, *e) })(r)
	}
}

// sharedWithReader gives every reader the same states.
func sharedWithReader() spoiler {
	states := &kept{states: map[place][]byte{}}
	return func(r *spoilt) {
		eachEvent(func(e *storedEvent) { e.State = states.first(r, *e) })(r)
	}
}

// overwritten keeps positions that may move where allowed says so.
func overwritten(allowed func(current, to int64) bool) spoiler {
	type key struct{ follower, upstream string }
	var mu sync.Mutex
	positions := map[key]int64{}
	return func(r *spoilt) {
		if r.snapshots {
			return
		}
		r.move = func(_ context.Context, to destination) error {
			if err := persistence.ValidateTracking(to); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			at := key{r.application, to.ApplicationName}
			if current := positions[at]; !allowed(current, to.NotificationID) && to.NotificationID <= current {
				return capability.PositionMoved(r.application, to, current)
			}
			positions[at] = to.NotificationID
			return nil
		}
		r.position = func(_ context.Context, upstream string) (int64, error) {
			mu.Lock()
			defer mu.Unlock()
			return positions[key{r.application, upstream}], nil
		}
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			if err := r.move(ctx, to); err != nil {
				return nil, err
			}
			return r.insert(ctx, events)
		}
	}
}

// oneConnection is a pool of one connection, which a stream holds while the
// loop's body runs, or until it is read to its end.
func oneConnection(untilRead bool) func() spoiler {
	return func() spoiler {
		pool := make(chan struct{}, 1)
		acquire := func(ctx context.Context) error {
			select {
			case pool <- struct{}{}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return func(r *spoilt) {
			insert, selects := r.insert, r.selects
			r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
				if err := acquire(ctx); err != nil {
					return nil, err
				}
				defer func() { <-pool }()
				return insert(ctx, events)
			}
			r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
				return func(yield func(storedEvent, error) bool) {
					if err := acquire(ctx); err != nil {
						yield(storedEvent{}, err)
						return
					}
					if !untilRead {
						defer func() { <-pool }()
						selects(ctx, id, want)(yield)
						return
					}
					events, err := collect(selects(ctx, id, want))
					for _, e := range events {
						if !yield(e, nil) {
							return // and the connection is gone
						}
					}
					<-pool
					if err != nil {
						yield(storedEvent{}, err)
					}
				}
			}
		}
	}
}

// eachKeep changes how many snapshots are kept.
func eachKeep(change func(n int) int) spoiler {
	return func(r *spoilt) {
		keep := r.keep
		r.keep = func(ctx context.Context, snapshot storedEvent, n int) error { return keep(ctx, snapshot, change(n)) }
	}
}
