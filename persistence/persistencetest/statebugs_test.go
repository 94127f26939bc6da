package persistencetest

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/limits"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// stateBugs are bugs of states, ids and topics as they are kept.
var stateBugs = []bug{
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
		if len(e.State) > limits.State {
			e.State = e.State[:limits.State]
		}
	}))},
	{name: "states of a mebibyte are refused", spoil: eachResultOf(func(events []storedEvent) error {
		for _, e := range events {
			if len(e.State) >= 1<<20 {
				return &persistence.Error{Class: persistence.ErrData, Op: "store a state", Hint: "it is too long"}
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
}

// applicationBugs are bugs of the applications of a store.
var applicationBugs = []bug{
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
}
