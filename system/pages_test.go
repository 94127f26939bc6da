package system

import (
	"context"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// pagedLeader is a leader of events with the ids 1 to head, whose pages are no
// longer than most.
type pagedLeader struct {
	Leader
	head int64
	most int
}

func (l *pagedLeader) Notifications(_ context.Context, r persistence.NotificationRange) (page []persistence.Notification, err error) {
	for id := r.After + 1; id <= l.head && len(page) < min(r.Limit, l.most); id++ {
		page = append(page, persistence.Notification{ID: id})
	}
	return page, nil
}

// A read ends at the last event that it returns, although the page is shorter
// than was asked for: no event after it is passed over.
func TestShortPage(t *testing.T) {
	f := &followerLoop{leader: &pagedLeader{head: 3000, most: persistence.MaxPage}}
	events, end, err := f.readEvents(t.Context(), persistence.NotificationRange{Limit: 2000}, 3000)
	if err != nil || len(events) != persistence.MaxPage || end != persistence.MaxPage {
		t.Errorf("got %d events up to %d, %v; want %d up to the last of them", len(events), end, err, persistence.MaxPage)
	}
	events, end, err = f.readEvents(t.Context(), persistence.NotificationRange{After: 3000, Limit: 2000}, 3005)
	if err != nil || len(events) != 0 || end != 3005 {
		t.Errorf("got %d events up to %d, %v; want none up to 3005", len(events), end, err)
	}
}

// However many events a batch had time for, the next one is no longer than a
// batch may be, and so than a page of a store.
func TestBatchesStayWithinAPage(t *testing.T) {
	f := &followerLoop{limit: batchEvents, config: Config{BatchEvents: batchEvents}}
	for processed := range batchEvents + 1 {
		f.adapt(processed, batchEvents)
		if f.limit > batchEvents || f.limit < fewestEvents {
			t.Fatalf("after %d of %d events, %d are read at once, want limit at least %v", processed, batchEvents, f.limit, fewestEvents)
		}
	}
	if batchEvents > persistence.MaxPage {
		t.Errorf("a batch of %d events exceeds a page of %d", batchEvents, persistence.MaxPage)
	}
}
