package application

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// SectionSize is the largest number of notifications in a section of a NotificationLog.
const SectionSize = 10

// NotificationLog presents the log of an application in sections, for readers that page through it. Followers in the
// same program read larger pages from the recorder. It is safe for concurrent use.
type NotificationLog struct {
	recorder persistence.ApplicationRecorder
	size     int
	ready    func(context.Context) error
}

// NewNotificationLog makes a log with sections of SectionSize.
func NewNotificationLog(recorder persistence.ApplicationRecorder) *NotificationLog {
	return &NotificationLog{recorder: recorder, size: SectionSize, ready: context.Context.Err}
}

// Section is a piece of a log.
type Section struct {
	// ID is "first,last" of the notifications that are really there; it is empty where there are none.
	ID string
	// NextID is the id to ask for next; it is empty where the section is not full, and so may be the last.
	NextID string
	Items  []persistence.Notification
}

// Section returns the notifications from a first to a last id, given as "first,last", at most as many as a section
// has. A malformed id is a *persistence.InvalidError.
func (l *NotificationLog) Section(ctx context.Context, id string) (Section, error) {
	first, last, err := parseSectionID(id)
	if err != nil {
		return Section{}, err
	}
	first = max(first, 1)
	if last < first {
		return Section{}, nil
	}
	limit := int(min(last-first+1, int64(l.size)))
	items, err := l.Select(ctx, persistence.NotificationRange{After: first - 1, Limit: limit})
	if err != nil || len(items) == 0 {
		return Section{}, err
	}
	end := items[len(items)-1].ID
	section := Section{ID: fmt.Sprintf("%d,%d", items[0].ID, end), Items: items}
	if len(items) == limit {
		section.NextID = fmt.Sprintf("%d,%d", end+1, end+int64(limit))
	}
	return section, nil
}

func parseSectionID(id string) (first, last int64, err error) {
	a, b, ok := strings.Cut(id, ",")
	first, errFirst := strconv.ParseInt(a, 10, 64)
	last, errLast := strconv.ParseInt(b, 10, 64)
	if !ok || errFirst != nil || errLast != nil {
		return 0, 0, &persistence.InvalidError{What: fmt.Sprintf("section id %.40q", id),
			Problem: `must be two whole numbers, "first,last"`, Class: persistence.ErrProgramming}
	}
	return first, last, nil
}

// Select returns a page of the log. A limit above the section size is a *persistence.InvalidError.
func (l *NotificationLog) Select(ctx context.Context, r persistence.NotificationRange) ([]persistence.Notification, error) {
	if r.Limit > l.size {
		return nil, &persistence.InvalidError{What: fmt.Sprintf("requested limit %d", r.Limit),
			Problem: fmt.Sprintf("is greater than section size %d", l.size), Class: persistence.ErrProgramming}
	}
	if err := l.ready(ctx); err != nil {
		return nil, err
	}
	return l.recorder.SelectNotifications(ctx, r)
}
