package remotelog

import (
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// format is the number of the format below. Fields may be added to it; it
// changes when one changes its meaning.
const format = 1

// headAnswer is the answer to GET head, and the beginning of others.
type headAnswer struct {
	Format      int    `json:"format"`
	Application string `json:"application"`
	// Head is the end of the log, read before anything else in the answer. It
	// is a pointer because an answer without it must not pass for an empty log.
	Head *int64 `json:"head"`
	// Newest is the position of the newest event, which may be above Head while
	// others are being written. Servers of before do not have it.
	Newest *int64 `json:"newest,omitempty"`
	// Held is sent if it was asked for and there is one.
	Held *hold `json:"held,omitempty"`
}

// hold is a persistence.LogHold. The clocks of two services differ, so it has
// how long the transaction has been open and not since when.
type hold struct {
	persistence.LogHold
	Since *struct{} `json:"since,omitempty"` // hides that of LogHold
	// OpenFor is in milliseconds, or nil if it is not known.
	OpenFor *int64 `json:"open_for_ms,omitempty"`
}

func holdToWire(h *persistence.LogHold) *hold {
	if h == nil {
		return nil
	}
	sent := &hold{LogHold: *h}
	if !h.Since.IsZero() {
		open := max(time.Since(h.Since), 0).Milliseconds()
		sent.OpenFor = &open
	}
	return sent
}

func holdFromWire(h *hold) *persistence.LogHold {
	if h == nil {
		return nil
	}
	got := h.LogHold
	got.Since = time.Time{}
	if h.OpenFor != nil {
		got.Since = time.Now().Add(-time.Duration(*h.OpenFor) * time.Millisecond).UTC()
	}
	return &got
}

// pageAnswer is the answer to GET notifications.
type pageAnswer struct {
	headAnswer
	// Complete says that nothing follows in the range that was asked for. Only
	// then may a page be the last.
	Complete      bool           `json:"complete"`
	Notifications []notification `json:"notifications"`
}

type notification struct {
	ID                int64     `json:"id"`
	OriginatorID      uuid.UUID `json:"originator_id"`
	OriginatorVersion int64     `json:"originator_version"`
	Topic             string    `json:"topic"`
	State             []byte    `json:"state"`
}

// errorAnswer is the body of an answer with another status than 200.
type errorAnswer struct {
	Format int    `json:"format"`
	Error  string `json:"error"`
}

func toWire(page []persistence.Notification) []notification {
	items := make([]notification, len(page)) // not nil, which would be null
	for i, n := range page {
		items[i] = notification{n.ID, n.OriginatorID, n.OriginatorVersion, n.Topic, n.State}
	}
	return items
}

func fromWire(items []notification) []persistence.Notification {
	page := make([]persistence.Notification, len(items))
	for i, n := range items {
		page[i] = persistence.Notification{ID: n.ID, StoredEvent: persistence.StoredEvent{
			OriginatorID: n.OriginatorID, OriginatorVersion: n.OriginatorVersion, Topic: n.Topic, State: n.State}}
	}
	return page
}

// maxMilliseconds is how many a time.Duration can have.
const maxMilliseconds = int64(math.MaxInt64 / time.Millisecond)

// problem says what is wrong with an answer whatever was asked, and is empty if
// nothing is.
func (a headAnswer) problem() string {
	switch {
	case a.Format == 0:
		return "it has no format, so it is no notification log"
	case a.Format != format:
		return fmt.Sprintf("it is in format %d, and this program knows format %d", a.Format, format)
	case a.Head == nil || *a.Head < 0:
		return "it does not say where the log ends"
	case a.Held != nil && a.Held.OpenFor != nil && (*a.Held.OpenFor < 0 || *a.Held.OpenFor > maxMilliseconds):
		return "it has a transaction that cannot be open for so long"
	}
	return ""
}

// problem says what is wrong with a page as an answer to a range.
func (a pageAnswer) problem(r persistence.NotificationRange) string {
	if len(a.Notifications) > r.Limit {
		return fmt.Sprintf("it has %d notifications where %d were asked for", len(a.Notifications), r.Limit)
	}
	if len(a.Notifications) == 0 && !a.Complete {
		return "it has no notifications and says that some follow"
	}
	wanted := topicSet(r.Topics)
	for after, i := r.After, 0; i < len(a.Notifications); i++ {
		n := &a.Notifications[i]
		if problem := n.problem(after, r.Stop, wanted); problem != "" {
			return fmt.Sprintf("notification %d %s", n.ID, problem)
		}
		after = n.ID
	}
	return ""
}

func (n *notification) problem(after, stop int64, wanted map[string]bool) string {
	switch {
	case n.ID <= after:
		return fmt.Sprintf("comes after %d", after)
	case stop > 0 && n.ID > stop:
		return fmt.Sprintf("is beyond %d, where the range ends", stop)
	case n.OriginatorID == uuid.Nil || n.OriginatorVersion < 0 || n.Topic == "" || n.State == nil:
		return "lacks a part"
	case wanted != nil && !wanted[n.Topic]:
		return fmt.Sprintf("has topic %.40q, which was not asked for", n.Topic)
	}
	return ""
}

// topicSet is nil where all topics are wanted.
func topicSet(topics []string) map[string]bool {
	if len(topics) == 0 {
		return nil
	}
	set := make(map[string]bool, len(topics))
	for _, topic := range topics {
		set[topic] = true
	}
	return set
}
