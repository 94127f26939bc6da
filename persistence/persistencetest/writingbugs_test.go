package persistencetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// idBugs are bugs of ids of stored events.
var idBugs = []bug{
	{name: "ids are in descending order", spoil: eachResult(func(_ *spoilt, ids []int64, err error) ([]int64, error) {
		slices.Reverse(ids)
		return ids, err
	})},
	{name: "ids are nil", spoil: eachResult(func(_ *spoilt, _ []int64, err error) ([]int64, error) {
		return nil, err
	})},
	{name: "one id for the whole insert", spoil: eachResult(func(_ *spoilt, ids []int64, err error) ([]int64, error) {
		return ids[:min(1, len(ids))], err
	})},
	{name: "snapshots have ids", spoil: eachResult(func(r *spoilt, ids []int64, err error) ([]int64, error) {
		if r.snapshots && err == nil {
			return []int64{1}, nil
		}
		return ids, err
	})},
	{name: "snapshots have an empty list of ids", spoil: eachResult(func(r *spoilt, ids []int64, err error) ([]int64, error) {
		if r.snapshots && err == nil {
			return []int64{}, nil
		}
		return ids, err
	})},
	{name: "ids become visible in any order", fresh: func() spoiler {
		return (&numbering{ids: map[place]int64{}}).spoil
	}},
}

// continuityBugs are bugs of the continuity of streams.
var continuityBugs = []bug{
	{name: "streams begin anywhere", spoil: eachInsert(func(events []storedEvent) []storedEvent {
		events = slices.Clone(events)
		for i := range events {
			events[i].Begins = true
		}
		return events
	})},
	{name: "Begins is ignored", spoil: eachInsert(func(events []storedEvent) []storedEvent {
		events = slices.Clone(events)
		for i := range events {
			events[i].Begins = false
		}
		return events
	})},
	{name: "Continues is ignored", spoil: eachInsert(func(events []storedEvent) []storedEvent {
		events = slices.Clone(events)
		for i := range events {
			events[i].Continues = false
		}
		return events
	})},
	{name: "gaps are filled", spoil: func(r *spoilt) {
		insert := r.insert
		r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
			ids, err := insert(ctx, events)
			gap, ok := errors.AsType[*conflictError](err)
			if !ok || !gap.Gap || gap.Current < 0 || gap.Version > gap.Current+10 {
				return ids, err
			}
			var missing []storedEvent
			for version := gap.Current + 1; version < gap.Version; version++ {
				missing = append(missing, at(gap.OriginatorID, version))
			}
			if _, err := insert(ctx, missing); err != nil {
				return nil, err
			}
			return insert(ctx, events)
		}
	}},
	{name: "the gap is not told", spoil: eachConflict(func(conflict *conflictError) error { conflict.Gap = false; return conflict })},
	{name: "events of an insert are sorted by originator", spoil: eachInsert(func(events []storedEvent) []storedEvent {
		events = slices.Clone(events)
		slices.SortStableFunc(events, func(a, b storedEvent) int {
			return strings.Compare(a.OriginatorID.String(), b.OriginatorID.String())
		})
		return events
	})},
	{name: "the caller's events are sorted", spoil: eachInsert(func(events []storedEvent) []storedEvent {
		given := slices.Clone(events)
		slices.SortStableFunc(events, func(a, b storedEvent) int {
			return strings.Compare(a.OriginatorID.String(), b.OriginatorID.String())
		})
		return given
	})},
	{name: "the caller's topics are sorted", spoil: eachPage(func(want *pageRange) { slices.Sort(want.Topics) })},
}

// insertBugs are bugs of inserts.
var insertBugs = []bug{
	{name: "a failed insert leaves a part", spoil: func(r *spoilt) { oneByOne(r, 0, nil) }},
	{name: "an insert becomes visible in parts", fresh: func() spoiler {
		var whole sync.Mutex // makes it atomic for other writers only
		return func(r *spoilt) {
			atomically := r.insert
			parts := &spoilt{application: r.application, insert: r.insert}
			oneByOne(parts, 5, func() { time.Sleep(time.Millisecond) })
			r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
				whole.Lock()
				defer whole.Unlock()
				for _, e := range events {
					for range r.selects(ctx, e.OriginatorID, eventRange{From: e.OriginatorVersion}) {
						return atomically(ctx, events)
					}
				}
				return parts.insert(ctx, events)
			}
			process := r.process
			r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
				whole.Lock()
				defer whole.Unlock()
				return process(ctx, events, to)
			}
		}
	}},
	{name: "the last event of an insert is lost", spoil: eachInsert(func(events []storedEvent) []storedEvent {
		if len(events) < 2 {
			return events
		}
		return events[:len(events)-1]
	})},
	{name: "a large insert loses its end, and says nothing", spoil: func(r *spoilt) {
		insert := r.insert
		r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
			if len(events) <= 1_000 {
				return insert(ctx, events)
			}
			ids, err := insert(ctx, events[:1_000])
			for i := 1_000; err == nil && !r.snapshots && i < len(events); i++ {
				ids = append(ids, ids[i-1]+1)
			}
			return ids, err
		}
	}},
	{name: "a large insert has too many parameters", spoil: func(r *spoilt) {
		insert := r.insert
		r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
			if len(events) > 32766/5 {
				return nil, errors.New("too many SQL variables")
			}
			return insert(ctx, events)
		}
	}},
	{name: "inserting nothing is an error", spoil: func(r *spoilt) {
		insert := r.insert
		r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
			if len(events) == 0 {
				return nil, errors.New("empty slice found")
			}
			return insert(ctx, events)
		}
	}},
	{name: "conflicts are successes", spoil: eachConflict(func(*conflictError) error { return nil })},
	{name: "some conflicts are successes", fresh: func() spoiler {
		var n atomic.Int64
		return eachConflict(func(c *conflictError) error {
			if n.Add(1)%4 == 0 {
				return nil
			}
			return c
		})
	}},
	{name: "errors are swallowed", spoil: eachResult(func(_ *spoilt, ids []int64, _ error) ([]int64, error) {
		return ids, nil
	})},
	{name: "a repeated event is dropped", spoil: eachInsert(func(events []storedEvent) []storedEvent {
		return slices.CompactFunc(slices.Clone(events), func(a, b storedEvent) bool {
			return a.OriginatorID == b.OriginatorID && a.OriginatorVersion == b.OriginatorVersion
		})
	})},
}

// conflictBugs are bugs of conflicts.
var conflictBugs = []bug{
	{name: "conflicts have no type", spoil: eachConflict(func(*conflictError) error {
		return errors.New("UNIQUE constraint failed: stored_events.application_name")
	})},
	{name: "conflicts are a class only", spoil: eachConflict(func(c *conflictError) error {
		return &persistence.Error{Class: persistence.ErrIntegrity, Op: c.Application}
	})},
	{name: "conflicts have no events", spoil: eachConflict(func(c *conflictError) error {
		c.Stored = nil
		return c
	})},
	{name: "conflicts have the first event only", spoil: eachConflict(func(c *conflictError) error {
		c.Stored = c.Stored[:min(1, len(c.Stored))]
		return c
	})},
	{name: "conflicts have no ids", spoil: eachConflict(func(c *conflictError) error {
		for i := range c.Stored {
			c.Stored[i].ID = 0
		}
		return c
	})},
	{name: "conflicts name the wrong version", spoil: eachConflict(func(c *conflictError) error {
		c.Version++
		return c
	})},
	{name: "conflicts name the wrong current version", spoil: eachConflict(func(c *conflictError) error {
		c.Current = c.Version
		return c
	})},
	{name: "conflicts name no application", spoil: eachConflict(func(c *conflictError) error {
		c.Application = ""
		return c
	})},
}
