package persistencetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// rangeBugs are bugs of ranges of events.
var rangeBugs = []bug{
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
}

// pageBugs are bugs of pages of the log.
var pageBugs = []bug{
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
	{name: "the newest event is not known", spoil: func(r *spoilt) {
		r.newest = func(context.Context) (int64, error) { return 0, nil }
	}},
	{name: "the highest id counts", spoil: func(r *spoilt) {
		page := r.page
		r.head = func(ctx context.Context) (int64, error) {
			got, err := page(ctx, pageRange{Limit: persistence.MaxPage})
			return int64(len(got)), err
		}
	}},
}
