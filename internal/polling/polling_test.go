package polling_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/polling"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// insertTracking moves the position in the log of Upstream.
func insertTracking(t *testing.T, recorder persistence.TrackingRecorder, id int64) {
	t.Helper()
	if err := recorder.InsertTracking(t.Context(), persistence.Tracking{ApplicationName: "Upstream", NotificationID: id}); err != nil {
		t.Error(err)
	}
}

func TestWaitForReachedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		recorder, _ := newRecorder()
		insertTracking(t, recorder, 22)
		start := time.Now()
		for _, id := range []int64{0, 21, 22} {
			if err := polling.WaitFor(t.Context(), recorder, "Upstream", id); err != nil {
				t.Errorf("%d: %v", id, err)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v for what was there, want 0", waited)
		}
	})
}

// What happens later is seen within half a second, however long it took, and
// the waiting costs few reads.
func TestWaitForReachedLater(t *testing.T) {
	t.Parallel()
	for _, later := range []time.Duration{time.Millisecond, time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			recorder, _ := newRecorder()
			reads := 0
			counting := &doctored.Recorder{ProcessRecorder: recorder, Position: func(ctx context.Context, upstream string) (int64, error) {
				reads++
				return recorder.MaxTrackingID(ctx, upstream)
			}}
			start := time.Now()
			go func() {
				time.Sleep(later)
				insertTracking(t, recorder, 22)
			}()
			if err := polling.WaitFor(t.Context(), counting, "Upstream", 22); err != nil {
				t.Error(err)
			}
			if waited := time.Since(start); waited < later || waited > later+500*time.Millisecond {
				t.Errorf("waited %v, want %v and at most half a second", waited, later)
			}
			if most := 10 + int(2*later/time.Second); reads > most {
				t.Errorf("read the position %d times in %v, want at most %d times", reads, later, most)
			}
		})
	}
}

func TestWaitForEnds(t *testing.T) {
	t.Parallel()
	const text = `waiting for notification 22 of application "x" to be processed: OperationalError: `
	errCause := errors.New("the service is stopping")
	tests := []struct {
		name   string
		limit  func(context.Context) (context.Context, context.CancelFunc)
		cause  error
		waited time.Duration
	}{
		{"deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 100*time.Millisecond)
		}, context.DeadlineExceeded, 100 * time.Millisecond},
		{"cancelled before", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}, context.Canceled, 0},
		{"cancelled while waiting", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Minute, cancel)
			return ctx, cancel
		}, context.Canceled, time.Minute},
		{"cause", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, time.Second, errCause)
		}, errCause, time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				recorder, _ := newRecorder()
				start := time.Now()
				ctx, cancel := test.limit(t.Context())
				defer cancel()
				err := polling.WaitFor(ctx, recorder, "x", 22)
				expect.ErrorText(t, err, text+test.cause.Error())
				if !errors.Is(err, test.cause) || !errors.Is(err, persistence.ErrOperational) {
					t.Errorf("%v is not %v and an ErrOperational", err, test.cause)
				}
				if waited := time.Since(start); waited != test.waited {
					t.Errorf("waited %v, want %v", waited, test.waited)
				}
			})
		})
	}
}

func TestWaitForBrokenRecorder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		recorder, _ := newRecorder()
		reads := 0
		broken := &doctored.Recorder{ProcessRecorder: recorder, Position: func(context.Context, string) (int64, error) {
			if reads++; reads < 3 {
				return 21, nil
			}
			return 0, doctored.ErrBroken
		}}
		if err := polling.WaitFor(t.Context(), broken, "Upstream", 22); err != doctored.ErrBroken {
			t.Errorf("got %v, want %v", err, doctored.ErrBroken)
		}
	})
}

// insertDogs stores events with these topics, one after the other.
func insertDogs(t *testing.T, recorder persistence.AggregateRecorder, name string, topics ...string) {
	t.Helper()
	for i, topic := range topics {
		stored := persistence.StoredEvent{OriginatorID: school.DogID(name), OriginatorVersion: int64(i + 1), Topic: topic, State: []byte{}}
		if _, err := recorder.InsertEvents(t.Context(), []persistence.StoredEvent{stored}); err != nil {
			t.Error(err)
		}
	}
}

// subscribed reads a subscription until the last id.
func subscribed(t *testing.T, recorder persistence.ApplicationRecorder, after, last int64, topics ...string) (ids []int64) {
	t.Helper()
	for n, err := range polling.Subscribe(t.Context(), recorder, nil, after, topics...) {
		if err != nil {
			t.Error(err)
			return ids
		}
		ids = append(ids, n.ID)
		if n.ID == last {
			return ids
		}
	}
	return append(ids, -1) // it ended by itself
}

func wantIDs(t *testing.T, got []int64, want ...int64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got ids %v, want %v", got, want)
	}
}

// TestSubscribe is what a subscription delivers: what is recorded already and
// then what comes.
func TestSubscribe(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		after  int64
		topics []string
		last   int64
		want   []int64
	}{
		{"everything", 0, nil, 6, []int64{1, 2, 3, 4, 5, 6}},
		{"behind a position", 2, nil, 6, []int64{3, 4, 5, 6}},
		{"behind the end", 4, nil, 6, []int64{5, 6}},
		{"behind what is to come", 5, nil, 6, []int64{6}},
		{"one topic", 0, []string{"b"}, 6, []int64{2, 4, 6}},
		{"two topics", 1, []string{"a", "b"}, 6, []int64{2, 3, 4, 5, 6}},
		{"a topic that is only to come", 0, []string{"c"}, 7, []int64{7}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				recorder, _ := newRecorder()
				insertDogs(t, recorder, "Fido", "a", "b", "a", "b")
				start := time.Now()
				go func() {
					time.Sleep(time.Hour)
					insertDogs(t, recorder, "Rex", "a", "b", "c")
				}()
				wantIDs(t, subscribed(t, recorder, test.after, test.last, test.topics...), test.want...)
				if waited := time.Since(start); waited > time.Hour+500*time.Millisecond {
					t.Errorf("waited %v for what came after an hour, want at most %v", waited, time.Hour+500*time.Millisecond)
				}
			})
		})
	}
}

// A subscription reads in pages, and may be ranged over again.
func TestSubscribePages(t *testing.T) {
	t.Parallel()
	recorder, _ := newRecorder()
	var stored []persistence.StoredEvent
	for version := range int64(1234) {
		stored = append(stored, persistence.StoredEvent{OriginatorID: sampleID, OriginatorVersion: version, Topic: "a", State: []byte{}})
	}
	if _, err := recorder.InsertEvents(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	stream := polling.Subscribe(t.Context(), recorder, nil, 0)
	for range 2 {
		next := int64(1)
		for n, err := range stream {
			if err != nil || n.ID != next || n.OriginatorVersion != next-1 {
				t.Fatalf("got %+v, error %v, want id %d", n, err, next)
			}
			if next++; next > 1234 {
				break
			}
		}
	}
}

// TestSubscribePassesOver has a log in which nothing is wanted: the position
// moves all the same, so that nothing is searched twice, and the recorder has
// peace in between.
func TestSubscribePassesOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		recorder, _ := newRecorder()
		var behind []int64
		watched := &doctored.Recorder{ProcessRecorder: recorder,
			Page: func(ctx context.Context, r persistence.NotificationRange) ([]persistence.Notification, error) {
				behind = append(behind, r.After)
				return recorder.SelectNotifications(ctx, r)
			}}
		go func() {
			for i := range 1000 {
				time.Sleep(time.Millisecond)
				insertDogs(t, recorder, fmt.Sprint(i), "a")
			}
			insertDogs(t, recorder, "Fido", "b")
		}()
		wantIDs(t, subscribed(t, watched, 0, 1001, "b"), 1001)
		if !slices.IsSorted(behind) || behind[len(behind)-1] < 900 {
			t.Errorf("read behind %v, want a position that moves", behind)
		}
		if len(behind) > 110 {
			t.Errorf("read %d times in a second, want at most 110", len(behind))
		}
	})
}

// A position may be beyond the end of the log, as after a restored backup. It
// does not move back.
func TestSubscribeBehindTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		recorder, _ := newRecorder()
		insertDogs(t, recorder, "Fido", "a", "a", "a")
		go func() {
			time.Sleep(time.Second)
			insertDogs(t, recorder, "Rex", "a", "a", "a")
		}()
		wantIDs(t, subscribed(t, recorder, 5, 6, "a"), 6)
	})
}

// A subscription ends without an error when its context does: before it begins,
// while it waits, and within a page.
func TestSubscribeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		recorder, _ := newRecorder()
		insertDogs(t, recorder, "Fido", "a", "b", "a", "b")
		for _, test := range []struct {
			after   time.Duration
			cancel  int64 // at this id
			topics  []string
			want    []int64
			waiting time.Duration
		}{
			{0, 0, nil, nil, 0},
			{time.Minute, 0, nil, []int64{1, 2, 3, 4}, time.Minute},
			{time.Minute, 0, []string{"b"}, []int64{2, 4}, time.Minute},
			{time.Minute, 0, []string{"c"}, nil, time.Minute},
			{time.Minute, 2, nil, []int64{1, 2}, 0},
		} {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), test.after)
			var got []int64
			for n, err := range polling.Subscribe(ctx, recorder, nil, 0, test.topics...) {
				if err != nil {
					t.Error(err)
				}
				if got = append(got, n.ID); n.ID == test.cancel {
					cancel()
				}
			}
			cancel()
			wantIDs(t, got, test.want...)
			if waited := time.Since(start); waited != test.waiting {
				t.Errorf("ended after %v, want %v", waited, test.waiting)
			}
		}
	})
}

// The first error of the recorder ends a subscription.
func TestSubscribeEndsWithAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		recorder, _ := newRecorder()
		insertDogs(t, recorder, "Fido", "a", "b")
		reads := 0
		brokenPage := &doctored.Recorder{ProcessRecorder: recorder,
			Page: func(ctx context.Context, r persistence.NotificationRange) ([]persistence.Notification, error) {
				if reads++; reads > 3 {
					return nil, doctored.ErrBroken
				}
				return recorder.SelectNotifications(ctx, r)
			}}
		brokenHead := &doctored.Recorder{ProcessRecorder: recorder, Head: func(context.Context) (int64, error) { return 0, doctored.ErrBroken }}
		for name, stream := range map[string]struct {
			recorder persistence.ApplicationRecorder
			topics   []string
			want     []int64
		}{
			"of a page": {brokenPage, nil, []int64{1, 2}}, "of the head": {brokenHead, []string{"a"}, nil},
		} {
			var got []int64
			var failures []error
			for n, err := range polling.Subscribe(t.Context(), stream.recorder, nil, 0, stream.topics...) {
				if err != nil {
					failures = append(failures, err)
					continue
				}
				got = append(got, n.ID)
			}
			wantIDs(t, got, stream.want...)
			if len(failures) != 1 || failures[0] != doctored.ErrBroken {
				t.Errorf("%s: got errors %v, want one", name, failures)
			}
		}
	})
}

func TestSubscribeRefusesNegativePositions(t *testing.T) {
	t.Parallel()
	recorder, _ := newRecorder()
	for _, err := range polling.Subscribe(t.Context(), recorder, nil, -1) {
		expect.ErrorAs[*invalid.Error](t, err)
	}
}
