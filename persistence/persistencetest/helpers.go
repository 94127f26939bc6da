package persistencetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// at is an event with its own state.
func at(id uuid.UUID, version int64) persistence.StoredEvent {
	return topical(trickAdded, id, version)
}

// topical is an event with the given topic and its own state.
func topical(topic string, id uuid.UUID, version int64) persistence.StoredEvent {
	state := fmt.Sprintf(`{"topic":%q,"originator":%q,"version":%d}`, topic, id, version)
	return persistence.StoredEvent{OriginatorID: id, OriginatorVersion: version, Topic: topic, State: []byte(state)}
}

// history is n events of an originator, beginning with the version first.
func history(id uuid.UUID, first int64, n int) []persistence.StoredEvent {
	events := make([]persistence.StoredEvent, n)
	for i := range events {
		events[i] = at(id, first+int64(i))
	}
	return events
}

// beginning returns the events with the first one marked as the beginning of
// its originator.
func beginning(events ...persistence.StoredEvent) []persistence.StoredEvent {
	events[0].Begins = true
	return events
}

// tracking is a position.
func tracking(upstream string, id int64) persistence.Tracking {
	return persistence.Tracking{ApplicationName: upstream, NotificationID: id}
}

// collect returns the events of a stream, up to its end or its first error.
func collect(stream iter.Seq2[persistence.StoredEvent, error]) ([]persistence.StoredEvent, error) {
	var events []persistence.StoredEvent
	for e, err := range stream {
		if err != nil {
			return events, err
		}
		events = append(events, e)
	}
	return events, nil
}

func versions(events []persistence.StoredEvent) []int64 {
	var all []int64
	for _, e := range events {
		all = append(all, e.OriginatorVersion)
	}
	return all
}

func unnumbered(events []persistence.StoredEvent) []persistence.Notification {
	var all []persistence.Notification
	for _, e := range events {
		all = append(all, persistence.Notification{StoredEvent: e})
	}
	return all
}

// difference returns the first difference between two lists of events, and ""
// if there is none.
func difference(got, want []persistence.Notification) string {
	for i := range min(len(got), len(want)) {
		if !equal(got[i], want[i]) {
			return fmt.Sprintf("event %d of %d:\n\tgot  %s\n\twant %s", i+1, len(want), show(got[i]), show(want[i]))
		}
	}
	switch {
	case len(got) > len(want):
		return fmt.Sprintf("got %d events, want %d; the first one too many is\n\t%s",
			len(got), len(want), show(got[len(want)]))
	case len(got) < len(want):
		return fmt.Sprintf("got %d events, want %d; the first one missing is\n\t%s",
			len(got), len(want), show(want[len(got)]))
	}
	return ""
}

func equal(a, b persistence.Notification) bool {
	return a.ID == b.ID && a.OriginatorID == b.OriginatorID && a.OriginatorVersion == b.OriginatorVersion &&
		a.Topic == b.Topic && (a.State == nil) == (b.State == nil) && bytes.Equal(a.State, b.State)
}

func show(n persistence.Notification) string {
	const enough = 100
	state := fmt.Sprintf("%q", n.State[:min(len(n.State), enough)])
	switch {
	case n.State == nil:
		state = "nil"
	case len(n.State) > enough:
		state += fmt.Sprintf("… (%d bytes)", len(n.State))
	}
	return fmt.Sprintf("id %d, originator %s, version %d, topic %q, state %s",
		n.ID, n.OriginatorID, n.OriginatorVersion, n.Topic, state)
}

// wantConflict demands a version conflict.
func wantConflict(t testing.TB, err error) *persistence.ConflictError {
	t.Helper()
	conflict, ok := errors.AsType[*persistence.ConflictError](err)
	if !ok {
		t.Fatalf("got the error %v (%[1]T), want a *persistence.ConflictError", err)
	}
	wantClass(t, err, persistence.ErrIntegrity)
	return conflict
}

// wantBehind demands the error of a position that cannot move back.
func wantBehind(t testing.TB, err error, p *party, to persistence.Tracking, current int64) {
	t.Helper()
	if !errors.Is(err, persistence.ErrPositionMoved) {
		t.Fatalf("got the error %v (%[1]T), want a persistence.ErrPositionMoved", err)
	}
	for _, word := range []string{p.name, to.ApplicationName, strconv.FormatInt(to.NotificationID, 10), strconv.FormatInt(current, 10)} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("got the error %v, want %s in its text", err, word)
		}
	}
	if persistence.IsConflict(err) {
		t.Errorf("IsConflict(%v) is true, but no version is in conflict", err)
	}
}

// wantInvalid demands that a value was refused as such.
func wantInvalid(t testing.TB, what string, err error, class error) {
	t.Helper()
	if !errors.Is(err, class) || !errors.Is(err, domain.ErrEventSourcing) {
		t.Errorf("%s: got the error %v (%[2]T), want an error that is %v", what, err, class)
	}
}

// wantClass demands an error of a class.
func wantClass(t testing.TB, err, class error) {
	t.Helper()
	for _, c := range []error{class, persistence.ErrPersistence, domain.ErrEventSourcing} {
		if !errors.Is(err, c) {
			t.Errorf("errors.Is(%v, %v) is false", err, c)
		}
	}
}

// wantIs demands an error, whatever surrounds it.
func wantIs(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got the error %v, want %v", what, err, want)
	}
}

// must fails the row at the first error that is not nil.
func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// cancelled returns a context that has ended.
func cancelled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// race calls f(0) to f(n-1) at the same moment, each on its own goroutine, and
// returns their errors in this order.
func race(n int, f func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	group.Wait()
	return errs
}

// divided tells winners, who got no error, from losers.
func divided(errs []error) (winners int, losers []error) {
	for _, err := range errs {
		if err == nil {
			winners++
		} else {
			losers = append(losers, err)
		}
	}
	return winners, losers
}

// deadlock is how long finishes waits.
var deadlock = 30 * time.Second

// finishes fails the row where f does not end, instead of the whole test binary
// much later. f must not use t to end the row.
func finishes(t testing.TB, what string, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	case <-time.After(deadlock):
		t.Fatalf("%s: still waiting after %v", what, deadlock)
	}
}

// allBytes is n bytes in which every value occurs.
func allBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + i>>8)
	}
	return b
}

// filled repeats text and cuts it to n bytes.
func filled(text string, n int) string {
	return strings.Repeat(text, n/len(text)+1)[:n]
}

// interleave takes events from both lists in turn.
func interleave(a, b []persistence.StoredEvent) []persistence.StoredEvent {
	var all []persistence.StoredEvent
	for i := range max(len(a), len(b)) {
		if i < len(a) {
			all = append(all, a[i])
		}
		if i < len(b) {
			all = append(all, b[i])
		}
	}
	return all
}

// ascending reports whether ids ascend from 1.
func ascending(ids []int64) bool {
	return len(ids) == 0 || ids[0] >= 1 && slices.IsSorted(ids) && len(slices.Compact(slices.Clone(ids))) == len(ids)
}
