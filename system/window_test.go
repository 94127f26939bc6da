package system

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// slowLeader is a leader whose reads fail if they cover more ids than it can
// read in time.
type slowLeader struct {
	Leader
	head, most int64
	wanted     int64 // the id of the only event with a wanted topic
	failed     int
}

func (l *slowLeader) Notifications(_ context.Context, r persistence.NotificationRange) ([]persistence.Notification, error) {
	if r.Stop == 0 || r.Stop > l.head || r.Stop-r.After > l.most {
		l.failed++
		return nil, fmt.Errorf("a read of %d to %d: %w", r.After, r.Stop, context.DeadlineExceeded)
	}
	if r.After < l.wanted && l.wanted <= r.Stop {
		return []persistence.Notification{{ID: l.wanted}}, nil
	}
	return nil, nil
}

// The events of a rare topic are found a window of ids at a time. A read that
// takes too long makes the window narrower, and it is not widened again beyond
// what could be read.
func TestWindows(t *testing.T) {
	l := &slowLeader{head: 100_000, most: 3000, wanted: 90_000}
	f := &followerLoop{leader: l}
	r := persistence.NotificationRange{Limit: 1, Topics: []string{"Rare"}}
	for reads := 1; ; reads++ {
		events, end, err := f.readEvents(t.Context(), r, l.head)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) > 0 {
			break
		}
		if end <= r.After || end > l.head || reads > 100 {
			t.Fatalf("read %d got from %d to %d, want at most %v and at most 100", reads, r.After, end, l.head)
		}
		r.After = end
	}
	if l.failed != 3 {
		t.Errorf("%d reads failed, want 3", l.failed)
	}
}

// A read that fails at the narrowest window too is an error.
func TestWindowsCannotHelp(t *testing.T) {
	f := &followerLoop{leader: &slowLeader{head: 100_000}}
	_, _, err := f.readEvents(t.Context(), persistence.NotificationRange{Limit: 1, Topics: []string{"Rare"}}, 100_000)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the error of the read", err)
	}
}
