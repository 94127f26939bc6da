package persistencetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// bugs are those that real stores had, or nearly had.
var bugs = []bug{
	// Ranges of events.
	{name: "From is exclusive", spoil: eachRange(func(want *eventRange) {
		if want.From > 0 {
			want.From++
		}
	})},
	{name: "From begins one too early", spoil: eachRange(func(want *eventRange) {
		want.From = max(want.From-1, min(want.From, 0))
	})},
	{name: "From is ignored", spoil: eachRange(func(want *eventRange) { want.From = min(want.From, 0) })},
	{name: "Before is inclusive", spoil: eachRange(func(want *eventRange) {
		if want.Before > 0 {
			want.Before++
		}
	})},
	{name: "Before ends one too early", spoil: eachRange(func(want *eventRange) {
		if want.Before > 1 {
			want.Before--
		}
	})},
	{name: "Before is ignored", spoil: eachRange(func(want *eventRange) { want.Before = min(want.Before, 0) })},
	{name: "Limit of a stream is ignored", spoil: eachRange(func(want *eventRange) {
		want.Limit = min(want.Limit, 0)
	})},
	{name: "Limit of a stream is one too many", spoil: eachRange(func(want *eventRange) {
		if want.Limit > 0 {
			want.Limit++
		}
	})},
	{name: "Limit 0 selects nothing", spoil: eachStream(func(events []storedEvent, want eventRange) []storedEvent {
		if want.Limit == 0 {
			return nil
		}
		return modelOf(events).selected(originatorOf(events), want)
	})},
	{name: "Descending is ignored", spoil: eachRange(func(want *eventRange) { want.Descending = false })},
	{name: "Limit before Descending", spoil: eachStream(func(events []storedEvent, want eventRange) []storedEvent {
		descending := want.Descending
		want.Descending = false
		events = modelOf(events).selected(originatorOf(events), want)
		if descending {
			slices.Reverse(events)
		}
		return events
	})},
	{name: "negative ranges are taken for open ones", spoil: eachRange(func(want *eventRange) {
		want.From, want.Before, want.Limit = max(want.From, 0), max(want.Before, 0), max(want.Limit, 0)
	})},
	{name: "versions are ordered as text", spoil: eachStream(func(events []storedEvent, want eventRange) []storedEvent {
		events = modelOf(events).selected(originatorOf(events), want)
		slices.SortStableFunc(events, func(a, b storedEvent) int {
			// Their version is the last thing in it.
			return strings.Compare(string(a.State), string(b.State))
		})
		if want.Descending {
			slices.Reverse(events)
		}
		return events
	})},
	{name: "a stream ends after its first page", spoil: eachStream(func(events []storedEvent, want eventRange) []storedEvent {
		events = modelOf(events).selected(originatorOf(events), want)
		return events[:min(len(events), 500)]
	})},
	{name: "snapshots come in the order in which they were stored", fresh: storingOrder},

	// Snapshots that are replaced and deleted.
	{name: "all snapshots are kept", spoil: eachKeep(func(int) int { return 0 })},
	{name: "one snapshot too few is kept", spoil: eachKeep(func(n int) int { return max(n-1, min(n, 1)) })},
	{name: "one snapshot too many is kept", spoil: eachKeep(func(n int) int {
		if n > 0 {
			n++
		}
		return n
	})},
	{name: "keep 0 keeps one", spoil: eachKeep(func(n int) int { return max(n, 1) })},
	{name: "a snapshot that conflicts is stored", spoil: func(r *spoilt) {
		keep, replace := r.keep, r.replace
		r.keep = func(ctx context.Context, snapshot storedEvent, n int) error {
			err := keep(ctx, snapshot, n)
			if conflict, ok := errors.AsType[*conflictError](err); ok {
				_, err = replace(ctx, conflict.Stored[0].StoredEvent, snapshot)
			}
			return err
		}
	}},
	{name: "a snapshot is replaced whatever it is", spoil: func(r *spoilt) {
		selects, replace := r.selects, r.replace
		r.replace = func(ctx context.Context, old, snapshot storedEvent) (bool, error) {
			there := eventRange{From: old.OriginatorVersion, Before: old.OriginatorVersion + 1}
			if found, err := collect(selects(ctx, old.OriginatorID, there)); err == nil && len(found) == 1 {
				old = found[0]
			}
			return replace(ctx, old, snapshot)
		}
	}},
	{name: "a replacement says that it was done", spoil: func(r *spoilt) {
		replace := r.replace
		r.replace = func(ctx context.Context, old, snapshot storedEvent) (bool, error) {
			_, err := replace(ctx, old, snapshot)
			return err == nil, err
		}
	}},

	// Originators that are deleted.
	{name: "a deletion does nothing", spoil: func(r *spoilt) {
		r.remove = func(context.Context, uuid.UUID) (persistence.DeletedOriginator, error) {
			return persistence.DeletedOriginator{}, nil
		}
	}},
	{name: "a deletion counts nothing", spoil: func(r *spoilt) {
		remove := r.remove
		r.remove = func(ctx context.Context, id uuid.UUID) (persistence.DeletedOriginator, error) {
			_, err := remove(ctx, id)
			return persistence.DeletedOriginator{}, err
		}
	}},
	{name: "a deletion leaves the revision of settings", spoil: func(r *spoilt) {
		revision := r.revision
		r.revision = func(ctx context.Context, upstream string) (int64, *persistence.FollowerSettings, int64, error) {
			position, settings, _, err := revision(ctx, upstream)
			return position, settings, 0, err
		}
	}},
	{name: "a deletion ignores the transaction", spoil: func(r *spoilt) {
		remove := r.remove
		r.remove = func(ctx context.Context, id uuid.UUID) (persistence.DeletedOriginator, error) {
			if ctx.Value(transactionKey{}) != nil {
				return persistence.DeletedOriginator{}, nil
			}
			return remove(ctx, id)
		}
	}},
	{name: "a deletion leaves positions ahead of the log", spoil: func(r *spoilt) {
		var highest sync.Map
		move, position := r.move, r.position
		r.move = func(ctx context.Context, to destination) error {
			err := move(ctx, to)
			if err == nil {
				highest.Store(to.ApplicationName, to.NotificationID)
			}
			return err
		}
		r.position = func(ctx context.Context, upstream string) (int64, error) {
			got, err := position(ctx, upstream)
			if was, ok := highest.Load(upstream); ok && err == nil {
				got = max(got, was.(int64))
			}
			return got, err
		}
	}},

	// Pages.
	{name: "After is inclusive", spoil: eachPage(func(want *pageRange) {
		if want.After > 0 {
			want.After--
		}
	})},
	{name: "After skips one", spoil: eachPage(func(want *pageRange) {
		if want.After > 0 {
			want.After++
		}
	})},
	{name: "Stop is exclusive", spoil: eachPage(func(want *pageRange) {
		if want.Stop > 1 {
			want.Stop--
		}
	})},
	{name: "Stop ends one too late", spoil: eachPage(func(want *pageRange) {
		if want.Stop > 0 {
			want.Stop++
		}
	})},
	{name: "Stop is ignored", spoil: eachPage(func(want *pageRange) { want.Stop = min(want.Stop, 0) })},
	{name: "Limit of a page is ignored", spoil: eachPage(func(want *pageRange) {
		if want.Limit > 0 {
			want.Limit = persistence.MaxPage
		}
	})},
	{name: "a Limit over the cap is refused", spoil: func(r *spoilt) {
		page := r.page
		r.page = func(ctx context.Context, want pageRange) ([]notification, error) {
			if want.Limit > persistence.MaxPage {
				return nil, errors.New("too many")
			}
			return page(ctx, want)
		}
	}},
	{name: "pages are cut to 100", spoil: eachPage(func(want *pageRange) { want.Limit = min(want.Limit, 100) })},
	{name: "a Limit of 0 means the cap", spoil: eachPage(func(want *pageRange) {
		if want.Limit < 1 {
			want.Limit = persistence.MaxPage
		}
	})},
	{name: "Except is ignored", spoil: eachPage(func(want *pageRange) { want.Except = nil })},
	{name: "Except counts only its first topic", spoil: eachPage(func(want *pageRange) {
		want.Except = want.Except[:min(1, len(want.Except))]
	})},
	{name: "topics are ignored", spoil: eachPage(func(want *pageRange) { want.Topics = nil })},
	{name: "only the first topic counts", spoil: eachPage(func(want *pageRange) {
		want.Topics = want.Topics[:min(1, len(want.Topics))]
	})},
	{name: "topics are selected after the limit", spoil: filtered(func(topic, want string) bool { return topic == want })},
	{name: "topics are patterns", spoil: matched(func(topic, want string) bool {
		return topic == want || strings.HasSuffix(want, "%") && strings.HasPrefix(topic, strings.TrimSuffix(want, "%"))
	})},
	{name: "topics are compared without case", spoil: matched(strings.EqualFold)},
	{name: "topics are compared without the spaces behind", spoil: matched(func(topic, want string) bool {
		return strings.TrimRight(topic, " ") == strings.TrimRight(want, " ")
	})},
	{name: "the highest id is that of the store", fresh: func() spoiler {
		var highest atomic.Int64
		return func(r *spoilt) {
			eachResult(func(_ *spoilt, ids []int64, err error) ([]int64, error) {
				if len(ids) > 0 {
					highest.Store(max(highest.Load(), ids[len(ids)-1]))
				}
				return ids, err
			})(r)
			r.head = func(ctx context.Context) (int64, error) { return highest.Load(), ctx.Err() }
		}
	}},
	{name: "the highest id counts", spoil: func(r *spoilt) {
		page := r.page
		r.head = func(ctx context.Context) (int64, error) {
			got, err := page(ctx, pageRange{Limit: persistence.MaxPage})
			return int64(len(got)), err
		}
	}},

	// Ids.
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

	// Continuity.
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

	// Inserts.
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

	// Conflicts.
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

	// States, ids and topics as they are kept.
	{name: "empty states become nil", spoil: eachEvent(func(e *storedEvent) {
		if len(e.State) == 0 {
			e.State = nil
		}
	})},
	{name: "nil states become empty", spoil: eachInsert(mended(func(e *storedEvent) {
		if e.State == nil {
			e.State = []byte{}
		}
	}))},
	{name: "states end at a NUL", spoil: eachEvent(func(e *storedEvent) {
		if i := slices.Index(e.State, 0); i >= 0 {
			e.State = e.State[:i]
		}
	})},
	{name: "states are text", spoil: eachEvent(func(e *storedEvent) {
		e.State = []byte(strings.ToValidUTF8(string(e.State), "\uFFFD"))
	})},
	{name: "states are cut at 64 KiB", spoil: eachEvent(func(e *storedEvent) {
		e.State = e.State[:min(len(e.State), 1<<16-1)]
	})},
	{name: "stored states are the writer's", fresh: sharedWithWriter},
	{name: "stored states are the reader's", fresh: sharedWithReader},
	{name: "states in pages are the reader's", fresh: func() spoiler {
		states := &kept{states: map[place][]byte{}}
		return func(r *spoilt) {
			page := r.page
			r.page = func(ctx context.Context, want pageRange) ([]notification, error) {
				got, err := page(ctx, want)
				for i := range got {
					got[i].State = states.first(r, got[i].StoredEvent)
				}
				return got, err
			}
		}
	}},
	{name: "ids of digits become numbers", spoil: eachEvent(func(e *storedEvent) {
		if !strings.ContainsAny(e.OriginatorID.String(), "abcdef") {
			copy(e.OriginatorID[8:], make([]byte, 8))
		}
	})},
	{name: "ids lose zeros in front", spoil: eachEvent(func(e *storedEvent) {
		if e.OriginatorID[0] == 0 {
			copy(e.OriginatorID[:], e.OriginatorID[1:])
		}
	})},
	{name: "versions are floating point numbers", spoil: eachEvent(func(e *storedEvent) {
		if e.OriginatorVersion > 1<<53 {
			e.OriginatorVersion = int64(float64(e.OriginatorVersion/2)) * 2
		}
	})},
	{name: "topics lose spaces", spoil: eachInsert(mended(func(e *storedEvent) {
		if trimmed := strings.TrimSpace(e.Topic); trimmed != "" {
			e.Topic = trimmed
		}
	}))},
	{name: "topics are cut at 100 characters", spoil: eachInsert(mended(func(e *storedEvent) {
		if r := []rune(e.Topic); len(r) > 100 && len(e.Topic) <= 255 {
			e.Topic = string(r[:100])
		}
	}))},
	{name: "NUL is cut from topics", spoil: eachInsert(mended(func(e *storedEvent) {
		e.Topic = strings.ReplaceAll(e.Topic, "\x00", "")
	}))},
	{name: "topics are mended to UTF-8", spoil: eachInsert(mended(func(e *storedEvent) {
		e.Topic = strings.ToValidUTF8(e.Topic, "?")
	}))},
	{name: "long topics are cut", spoil: eachInsert(mended(func(e *storedEvent) {
		if len(e.Topic) > 255 {
			e.Topic = e.Topic[:252]
		}
	}))},
	{name: "the zero id is stored", spoil: eachInsert(mended(func(e *storedEvent) {
		if e.OriginatorID == uuid.Nil {
			e.OriginatorID = dog("Nobody")
		}
	}))},
	{name: "negative versions are mended", spoil: eachInsert(mended(func(e *storedEvent) {
		e.OriginatorVersion = max(e.OriginatorVersion, 0)
	}))},
	{name: "states over the limit are cut", spoil: eachInsert(mended(func(e *storedEvent) {
		if len(e.State) > persistence.MaxState {
			e.State = e.State[:persistence.MaxState]
		}
	}))},
	{name: "states of a mebibyte are refused", spoil: eachResultOf(func(events []storedEvent) error {
		for _, e := range events {
			if len(e.State) >= 1<<20 {
				return &persistence.InvalidError{What: "state", Problem: "is too long", Class: persistence.ErrData}
			}
		}
		return nil
	})},
	{name: "skipped versions are stored", fresh: func() spoiler {
		return eachInsert(func(events []storedEvent) []storedEvent {
			events = slices.Clone(events)
			for i := 1; i < len(events); i++ {
				if a, b := events[i-1], &events[i]; a.OriginatorID == b.OriginatorID && b.OriginatorVersion == a.OriginatorVersion+2 {
					b.OriginatorVersion--
				}
			}
			return events
		})
	}},

	// Applications.
	{name: "names are compared without case", rename: strings.ToLower},
	{name: "names are cut", rename: func(name string) string {
		if r := []rune(name); len(r) > 16 {
			return string(r[:16])
		}
		return name
	}},
	{name: "names are trimmed", rename: strings.TrimSpace},
	{name: "names over the limit are cut", rename: func(name string) string {
		if r := []rune(name); len(r) > 32 {
			return string(r[:32])
		}
		return name
	}},
	{name: "logs have the events of other applications", spoil: func(r *spoilt) {
		page := r.page
		r.page = func(ctx context.Context, want pageRange) ([]notification, error) {
			got, err := page(ctx, want)
			if err != nil || len(got) >= want.Limit || want.After > 0 {
				return got, err
			}
			other, err := r.factory.ProcessRecorder(strings.ToLower(r.application))
			if err != nil {
				return nil, err
			}
			leaked, err := other.SelectNotifications(ctx, pageRange{Limit: 1, Topics: want.Topics, Stop: want.Stop})
			return append(leaked, got...), err
		}
	}},
	{name: "originators have the events of other applications", spoil: func(r *spoilt) {
		if r.snapshots {
			return
		}
		selects := r.selects
		r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
			return func(yield func(storedEvent, error) bool) {
				empty := true
				for e, err := range selects(ctx, id, want) {
					empty = false
					if !yield(e, err) {
						return
					}
				}
				if other, err := r.factory.ProcessRecorder(strings.ToLower(r.application)); empty && err == nil {
					other.SelectEvents(ctx, id, want)(yield)
				}
			}
		}
	}},
	{name: "snapshots and events share a table", spoil: func(r *spoilt) {
		if events, err := r.factory.ProcessRecorder(r.application); err == nil && r.snapshots {
			r.insert = func(ctx context.Context, snapshots []storedEvent) ([]int64, error) {
				_, err := events.InsertEvents(ctx, snapshots)
				return nil, err
			}
			r.selects = events.SelectEvents
		}
	}},
	{name: "snapshots are replaced", spoil: func(r *spoilt) {
		if r.snapshots {
			eachConflict(func(*conflictError) error { return nil })(r)
		}
	}},

	// Positions.
	{name: "moves are lost", spoil: func(r *spoilt) { r.move = func(context.Context, destination) error { return nil } }},
	{name: "settings are shared by upstream applications", spoil: func(r *spoilt) {
		read, write := r.settings, r.writeSettings
		r.settings = func(ctx context.Context, upstream string) (int64, *persistence.FollowerSettings, error) {
			position, err := r.position(ctx, upstream)
			_, settings, failed := read(ctx, kennels)
			return position, settings, errors.Join(err, failed)
		}
		r.writeSettings = func(ctx context.Context, _ string, settings persistence.FollowerSettings) error {
			return write(ctx, kennels, settings)
		}
	}},
	{name: "settings do not know when the follower was paused", spoil: eachSettingsRead(func(_ *int64, s *persistence.FollowerSettings) {
		s.PausedAt = s.PausedAt.Truncate(time.Second)
	})},
	{name: "settings forget that a follower began at 0", spoil: eachSettingsRead(func(_ *int64, s *persistence.FollowerSettings) {
		if s.Began != nil && *s.Began == 0 {
			s.Began = nil
		}
	})},
	{name: "settings come without the position", spoil: eachSettingsRead(func(position *int64, _ *persistence.FollowerSettings) {
		*position = 0
	})},
	{name: "settings are written outside of the transaction", spoil: func(r *spoilt) {
		var mu sync.Mutex
		written := map[string]*persistence.FollowerSettings{}
		r.writeSettings = func(_ context.Context, upstream string, settings persistence.FollowerSettings) error {
			mu.Lock()
			defer mu.Unlock()
			written[upstream] = &settings
			return nil
		}
		read := func(inner readSettingsFunc) readSettingsFunc {
			return func(ctx context.Context, upstream string) (int64, *persistence.FollowerSettings, error) {
				position, settings, err := inner(ctx, upstream)
				mu.Lock()
				defer mu.Unlock()
				if kept := written[upstream]; kept != nil {
					settings = kept
				}
				return position, settings, err
			}
		}
		r.settings, r.lockSettings = read(r.settings), read(r.lockSettings)
	}},
	{name: "positions go back", fresh: func() spoiler { return overwritten(func(current, to int64) bool { return true }) }},
	{name: "positions go back where they were not", fresh: func() spoiler {
		return overwritten(func(current, to int64) bool { return to != current })
	}},
	{name: "a position can be reached twice", fresh: func() spoiler {
		return overwritten(func(current, to int64) bool { return to >= current })
	}},
	{name: "a position moves by one", spoil: func(r *spoilt) {
		move, position := r.move, r.position
		r.move = func(ctx context.Context, to destination) error {
			current, err := position(ctx, to.ApplicationName)
			if err == nil && to.NotificationID > current+1 {
				return errors.New("out of sequence")
			}
			return errors.Join(err, move(ctx, to))
		}
	}},
	{name: "one position for all upstream applications", spoil: func(r *spoilt) {
		move, position, process := r.move, r.position, r.process
		r.move = func(ctx context.Context, to destination) error {
			to.ApplicationName = kennels
			return move(ctx, to)
		}
		r.position = func(ctx context.Context, _ string) (int64, error) { return position(ctx, kennels) }
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			to.ApplicationName = kennels
			return process(ctx, events, to)
		}
	}},
	{name: "positions are shared by followers", spoil: func(r *spoilt) {
		if shared, err := r.factory.ProcessRecorder("shared"); err == nil && !r.snapshots {
			r.move, r.position = shared.InsertTracking, shared.MaxTrackingID
		}
	}},
	{name: "positions are 32 bits", spoil: func(r *spoilt) {
		position := r.position
		r.position = func(ctx context.Context, upstream string) (int64, error) {
			id, err := position(ctx, upstream)
			return int64(int32(id)), err
		}
	}},
	{name: "a position moves from anywhere", spoil: func(r *spoilt) {
		r.moveFrom = func(ctx context.Context, _ int64, to destination) error { return r.move(ctx, to) }
	}},
	{name: "tracking errors have no type", spoil: func(r *spoilt) {
		move := r.move
		r.move = func(ctx context.Context, to destination) error {
			err := move(ctx, to)
			if isTracking(err) {
				return &persistence.Error{Class: persistence.ErrIntegrity, Op: "move"}
			}
			return err
		}
	}},
	{name: "tracking errors do not know the position", spoil: func(r *spoilt) {
		move := r.move
		r.move = func(ctx context.Context, to destination) error {
			err := move(ctx, to)
			if behind, ok := errors.AsType[*persistence.TrackingError](err); ok {
				behind.Current = 0
			}
			return err
		}
	}},
	{name: "position 0 is stored", spoil: func(r *spoilt) {
		move := r.move
		r.move = func(ctx context.Context, to destination) error {
			if to.NotificationID < 1 {
				return nil
			}
			return move(ctx, to)
		}
	}},
	{name: "a position of none is 1", spoil: func(r *spoilt) {
		position := r.position
		r.position = func(ctx context.Context, upstream string) (int64, error) {
			id, err := position(ctx, upstream)
			return max(id, 1), err
		}
	}},

	// Processing.
	{name: "processing moves no position", spoil: func(r *spoilt) {
		r.process = func(ctx context.Context, events []storedEvent, _ destination) ([]int64, error) {
			return r.insert(ctx, events)
		}
	}},
	{name: "processing nothing moves no position", spoil: func(r *spoilt) {
		process := r.process
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			if len(events) == 0 {
				return nil, nil
			}
			return process(ctx, events, to)
		}
	}},
	{name: "the position is moved before the events are stored", spoil: func(r *spoilt) {
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			if err := errors.Join(persistence.ValidateEvents(r.application, events), r.move(ctx, to)); err != nil {
				return nil, err
			}
			return r.insert(ctx, events)
		}
	}},
	{name: "the events are stored before the position is moved", spoil: func(r *spoilt) {
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			if err := persistence.ValidateTracking(to); err != nil {
				return nil, err
			}
			ids, err := r.insert(ctx, events)
			if err != nil {
				return nil, err
			}
			return ids, r.move(ctx, to)
		}
	}},
	{name: "a conflict hides that the position is behind", spoil: func(r *spoilt) {
		process := r.process
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			ids, err := process(ctx, events, to)
			if isTracking(err) {
				if _, conflict := r.insert(ctx, slices.Concat(events, events)); conflict != nil && len(events) > 0 {
					return nil, conflict
				}
			}
			return ids, err
		}
	}},
	{name: "a repeated position is taken for done", spoil: func(r *spoilt) {
		process := r.process
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			ids, err := process(ctx, events, to)
			if isTracking(err) {
				return nil, nil
			}
			return ids, err
		}
	}},

	// Contexts.
	{name: "a cancelled context is ignored by writes", spoil: ignoringContext},
	{name: "a cancelled context is ignored by pages", spoil: func(r *spoilt) {
		page := r.page
		r.page = func(ctx context.Context, want pageRange) ([]notification, error) {
			return page(context.WithoutCancel(ctx), want)
		}
	}},
	{name: "a cancelled context is ignored by positions", spoil: func(r *spoilt) {
		position := r.position
		r.position = func(ctx context.Context, upstream string) (int64, error) {
			return position(context.WithoutCancel(ctx), upstream)
		}
	}},
	{name: "a cancelled context is not known by its error", spoil: eachResult(func(_ *spoilt, ids []int64, err error) ([]int64, error) {
		if errors.Is(err, context.Canceled) {
			return nil, errors.New("interrupted (9)")
		}
		return ids, err
	})},
	{name: "a cancelled insert is stored and an error", spoil: func(r *spoilt) {
		insert := r.insert
		r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
			ids, err := insert(context.WithoutCancel(ctx), events)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return ids, err
		}
	}},
	{name: "a cancelled stream is empty", spoil: func(r *spoilt) {
		selects := r.selects
		r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
			return func(yield func(storedEvent, error) bool) {
				for e, err := range selects(ctx, id, want) {
					if errors.Is(err, context.Canceled) || !yield(e, err) {
						return
					}
				}
			}
		}
	}},
	{name: "a stream goes on after its error", spoil: func(r *spoilt) {
		selects := r.selects
		r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
			return func(yield func(storedEvent, error) bool) {
				for e, err := range selects(ctx, id, want) {
					if !yield(e, err) || err != nil && !yield(e, err) {
						return
					}
				}
			}
		}
	}},
	{name: "a stream can be read once", spoil: func(r *spoilt) {
		selects := r.selects
		r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
			read := false
			return func(yield func(storedEvent, error) bool) {
				if !read {
					read = true
					selects(ctx, id, want)(yield)
				}
			}
		}
	}},
	{name: "a stream is read when it is made", spoil: func(r *spoilt) {
		selects := r.selects
		r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
			events, err := collect(selects(ctx, id, want))
			return func(yield func(storedEvent, error) bool) {
				for _, e := range events {
					if !yield(e, nil) {
						return
					}
				}
				if err != nil {
					yield(storedEvent{}, err)
				}
			}
		}
	}},
	{name: "a stream holds the only connection", fresh: oneConnection(false)},
	{name: "a stream that is left keeps the only connection", fresh: oneConnection(true)},

	// Opening and closing.
	{name: "a closed store works", unclosed: true},
	{name: "reopening loses everything", reopen: func(persistence.Factory) persistence.Factory {
		return &journalStore{journal: &journal{store: memory.New()}}
	}},
	{name: "reopening loses the last write", reopen: func(f persistence.Factory) persistence.Factory {
		old := f.(*journalStore).journal
		old.mu.RLock()
		writes := slices.Clone(old.writes[:len(old.writes)-1])
		old.mu.RUnlock()
		lost := &journal{store: memory.New(), writes: writes}
		for _, w := range writes {
			if err := w(lost.store); err != nil {
				panic(err)
			}
		}
		return &journalStore{journal: lost}
	}},

	// Locks.
	{name: "LockLog locks nothing", spoil: func(r *spoilt) {
		lock := r.lockLog
		r.lockLog = func(ctx context.Context) error {
			if ctx.Value(transactionKey{}) != nil {
				return nil
			}
			return lock(ctx)
		}
	}},
	{name: "LockLog needs no transaction", spoil: func(r *spoilt) {
		lock := r.lockLog
		r.lockLog = func(ctx context.Context) error {
			if ctx.Value(transactionKey{}) != nil {
				return lock(ctx)
			}
			return nil
		}
	}},
	{name: "TryLockSettings locks nothing", spoil: func(r *spoilt) {
		r.tryLockSettings = func(ctx context.Context, upstream string, _ time.Duration) (int64, *persistence.FollowerSettings, error) {
			return r.settings(ctx, upstream)
		}
	}},

	// Transactions.
	{name: "rollbacks are ignored", transaction: func(run transactionFunc) transactionFunc {
		return func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error {
			var failed error
			return errors.Join(run(ctx, f, func(ctx context.Context) error {
				failed = fn(ctx)
				return nil
			}), failed)
		}
	}},
	{name: "commits are lost", transaction: func(run transactionFunc) transactionFunc {
		return func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error {
			lost := errors.New("lost")
			err := run(ctx, f, func(ctx context.Context) error { return errors.Join(fn(ctx), lost) })
			if err.Error() == lost.Error() {
				return nil
			}
			return err
		}
	}},
	{name: "writes do not join the transaction", transaction: func(transactionFunc) transactionFunc {
		return func(ctx context.Context, _ persistence.Factory, fn func(ctx context.Context) error) error {
			return fn(ctx)
		}
	}},
	{name: "errors of transactions are swallowed", transaction: func(run transactionFunc) transactionFunc {
		return func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error {
			run(ctx, f, fn)
			return nil
		}
	}},
	{name: "reads do not join the transaction", spoil: func(r *spoilt) {
		head := r.head
		r.head = func(ctx context.Context) (int64, error) {
			return head(context.WithValue(ctx, transactionKey{}, nil))
		}
	}},
	{name: "a conflict spoils the transaction", fresh: func() spoiler {
		var aborted sync.Map
		return func(r *spoilt) {
			insert := r.insert
			r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
				transaction, inside := ctx.Value(transactionKey{}).(*fork)
				if _, ok := aborted.Load(transaction); inside && ok {
					return nil, errors.New("current transaction is aborted (25P02)")
				}
				ids, err := insert(ctx, events)
				if inside && persistence.IsConflict(err) {
					aborted.Store(transaction, true)
				}
				return ids, err
			}
		}
	}},
}

func TestThereAreManyBugs(t *testing.T) {
	if len(bugs) < 24 {
		t.Errorf("there are %d bugs, want at least 24", len(bugs))
	}
}
