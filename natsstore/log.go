package natsstore

import (
	"context"
	"math"
	"slices"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// SelectNotifications implements persistence.ApplicationRecorder. Topics are
// chosen by the client: the servers send the whole log.
func (r *processRecorder) SelectNotifications(
	ctx context.Context, want persistence.NotificationRange,
) ([]persistence.Notification, error) {
	want, err := want.Validate()
	if err != nil {
		return nil, err
	}
	const op = "select notifications"
	var selected []persistence.Notification
	after := min(want.After, math.MaxInt64-1)
	end := int64(-1) // the last sequence, as the leader knows it; -1 if it was not asked
	for {
		if want.Stop > 0 && after >= want.Stop || len(selected) == want.Limit {
			return selected, nil
		}
		page, next, last, err := r.logPage(ctx, op, after, end)
		if err != nil {
			return nil, err
		}
		for _, m := range page {
			if want.Stop > 0 && m.seq > want.Stop || len(selected) == want.Limit {
				break
			}
			if m.kind != eventKind || len(want.Topics) > 0 && !slices.Contains(want.Topics, m.topic) || slices.Contains(want.Except, m.topic) {
				continue
			}
			id, ok := r.names.originatorOf(m.subject)
			if !ok {
				return nil, r.failure(op, persistence.ErrInternal, "subject "+m.subject+" was not written by this store", nil)
			}
			selected = append(selected, r.notification(m, id))
		}
		if end = last; end >= 0 && next >= end {
			return selected, nil
		}
		after = next
	}
}

// logPage reads the messages after a sequence, from whatever replica. It
// returns the last sequence that was read. If the page is not full, it also asks
// the leader for the end of the log, unless the caller knows an end.
func (s *stream) logPage(ctx context.Context, op string, after, end int64) (page []message, next, last int64, err error) {
	ctx, cancel, err := s.begin(ctx, op)
	if err != nil {
		return nil, 0, 0, err
	}
	defer cancel()
	after = max(after, s.firstSequence()-1)
	err = s.retry(ctx, op, func() error {
		if end >= 0 && after >= end {
			page = nil
			return nil
		}
		page, err = s.page(ctx, op, ">", after+1, persistence.MaxPage)
		if err == nil {
			err = s.contiguous(page, after)
		}
		if err == nil && len(page) < persistence.MaxPage && end < 0 {
			var newest message
			newest, _, err = s.leaderLast(ctx, op, ">", s.highest())
			end = newest.seq
		}
		if err == nil && len(page) == 0 && after < end {
			err = errAgain{errBehind}
		}
		return err
	})
	next = after
	if n := len(page); n > 0 {
		next = page[n-1].seq
	}
	return page, next, end, err
}

// contiguous returns a *DamageError if a page has a hole. Nothing is deleted,
// so a sequence that is missing was lost.
func (s *stream) contiguous(page []message, after int64) error {
	for _, m := range page {
		if m.seq != after+1 {
			if err := s.damage(DamageError{From: after + 1, To: m.seq - 1}); err != nil {
				return err
			}
		}
		after = m.seq
	}
	return nil
}

// MaxNotificationID implements persistence.ApplicationRecorder.
func (r *processRecorder) MaxNotificationID(ctx context.Context) (int64, error) {
	const op = "read the highest notification id"
	ctx, cancel, err := r.begin(ctx, op)
	if err != nil {
		return 0, err
	}
	defer cancel()
	newest, found, err := r.leaderLast(ctx, op, ">", r.highest())
	if err != nil || !found {
		return 0, err
	}
	if newest.kind == eventKind {
		r.sawHead(newest.seq)
		return newest.seq, nil
	}
	return r.lastEvent(ctx, op, newest.seq)
}

// NewestNotificationID implements persistence.ApplicationRecorder.
func (r *processRecorder) NewestNotificationID(ctx context.Context) (int64, error) {
	return r.MaxNotificationID(ctx)
}

// lastEvent finds the newest event before a message that is none. It halves the
// part of the log in which there may be one, because the leader can only find
// the next event after a sequence quickly.
func (s *stream) lastEvent(ctx context.Context, op string, last int64) (int64, error) {
	s.mu.Lock()
	head, low, high := s.head, max(s.head+1, s.first), last
	s.mu.Unlock()
	// Mostly there is none after the one that is known.
	for middle := low; low <= high; middle = low + (high-low)/2 {
		m, found, err := s.leaderNext(ctx, op, s.names.allEvents(), middle)
		if err != nil {
			return 0, err
		}
		if found {
			head, low = m.seq, m.seq+1
		} else {
			high = middle - 1
		}
	}
	s.sawHead(head)
	return head, nil
}

func (s *stream) sawHead(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head = max(s.head, id)
}
