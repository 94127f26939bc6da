package natsstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/natsstore/internal/logcopy"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A batch of a copy has at most so many messages and bytes. Servers take 1,000
// messages unless they are told otherwise.
const (
	copyBatch      = 500
	copyBatchBytes = 8 << 20
)

func init() {
	logcopy.Copy = func(
		ctx context.Context, to persistence.Factory, from persistence.ApplicationRecorder, application string, progress func(id int64),
	) error {
		return to.(*Store).copyFrom(ctx, from, application, progress)
	}
}

// copyFrom is logcopy.Copy.
func (s *Store) copyFrom(
	ctx context.Context, from persistence.ApplicationRecorder, application string, progress func(id int64),
) error {
	stream, err := s.stream(application, ofEvents)
	if err != nil {
		return err
	}
	const op = "copy a log"
	page, err := from.SelectNotifications(ctx, persistence.NotificationRange{Limit: 1})
	if err != nil || len(page) == 0 {
		return err
	}
	c := copying{stream: stream, op: op, from: from, known: map[uuid.UUID]bool{}, progress: progress}
	if err := c.prepare(ctx, page[0].ID); err != nil {
		return err
	}
	return c.run(ctx)
}

// copying is a copy of a log to a stream.
type copying struct {
	*stream
	op       string
	from     persistence.ApplicationRecorder
	known    map[uuid.UUID]bool // originators whose first event was copied
	end      int64              // the last sequence of the stream
	progress func(int64)
}

// prepare makes the stream, and finds out where to go on.
func (c *copying) prepare(ctx context.Context, first int64) error {
	bounded, cancel := context.WithTimeoutCause(ctx, c.store.config.Timeout, errTimedOut)
	defer cancel()
	settings := c.names.settings(ofEvents, c.store.config.Replicas, first)
	if err := c.store.create(bounded, settings); err != nil {
		return err
	}
	checked, end, err := c.begin(ctx, c.op)
	if err != nil {
		return err
	}
	defer end()
	newest, found, err := c.leaderLast(checked, c.op, ">", 0)
	if err != nil {
		return err
	}
	if c.firstSequence() != first {
		return c.differs(first, fmt.Sprintf("the stream begins at sequence %d", c.firstSequence()))
	}
	c.end = first - 1
	if !found {
		return nil
	}
	return c.resume(ctx, newest.seq)
}

// resume reads the part of the other log that the stream has, and compares it
// with the stream.
func (c *copying) resume(ctx context.Context, end int64) error {
	copied := processRecorder{c.stream}
	for after := int64(0); ; {
		want := persistence.NotificationRange{After: after, Stop: end, Limit: persistence.MaxPage}
		theirs, err := c.from.SelectNotifications(ctx, want)
		if err != nil {
			return err
		}
		ours, err := copied.SelectNotifications(ctx, want)
		if err != nil {
			return err
		}
		for i := range max(len(theirs), len(ours)) {
			if i >= len(theirs) || i >= len(ours) || !isSame(&theirs[i], &ours[i]) {
				return c.differs(after+1, "the stream has other events")
			}
			c.known[theirs[i].OriginatorID] = true
			after = theirs[i].ID
		}
		if len(theirs) == 0 {
			c.end = end
			return nil
		}
	}
}

func isSame(a, b *persistence.Notification) bool {
	return a.ID == b.ID && a.OriginatorID == b.OriginatorID && a.OriginatorVersion == b.OriginatorVersion &&
		a.Topic == b.Topic && string(a.State) == string(b.State)
}

func (c *copying) differs(id int64, problem string) error {
	return c.failure(c.op, persistence.ErrIntegrity, "copy to a stream that does not exist",
		fmt.Errorf("the logs differ from id %d on: %s", id, problem))
}

func (c *copying) run(ctx context.Context) error {
	var batch []outgoing
	size, next := 0, c.end+1
	add := func(subject string, f frame) error {
		m := outgoing{subject: subject, data: f.encode()}
		if len(batch) == copyBatch || len(batch) > 0 && size+len(m.data) > copyBatchBytes {
			if err := c.publishBatch(ctx, batch); err != nil {
				return err
			}
			batch, size = nil, 0
		}
		batch, size, next = append(batch, m), size+len(m.data), next+1
		return nil
	}
	for {
		page, err := c.from.SelectNotifications(ctx, persistence.NotificationRange{After: next - 1, Limit: persistence.MaxPage})
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return c.publishBatch(ctx, batch)
		}
		for i := range page {
			n := &page[i]
			for next < n.ID {
				if err := add(c.names.filler(), frame{kind: fillerKind}); err != nil {
					return err
				}
			}
			f := frame{kind: eventKind, first: !c.known[n.OriginatorID], number: n.OriginatorVersion, topic: n.Topic, state: n.State}
			c.known[n.OriginatorID] = true
			if err := add(c.names.chunk(n.OriginatorID, chunkOf(n.OriginatorVersion)), f); err != nil {
				return err
			}
		}
	}
}

// publishBatch stores a batch at the end of the stream. A refusal after a lost answer
// means that it is stored.
func (c *copying) publishBatch(ctx context.Context, batch []outgoing) error {
	if len(batch) == 0 {
		return nil
	}
	ctx, cancel, err := c.begin(ctx, c.op)
	if err != nil {
		return err
	}
	defer cancel()
	end := c.end
	batch[0].end = &end
	w := c.newWriting(c.op)
	first, err := w.publish(ctx, batch)
	if errors.Is(err, errRefused) {
		var newest message
		newest, _, err = c.leaderLast(ctx, c.op, ">", 0)
		if err == nil && (!w.unknown || newest.seq != end+int64(len(batch))) {
			err = c.differs(end+1, "another program writes to the stream")
		}
		first = end + 1
	}
	if err != nil {
		return err
	}
	if first != end+1 {
		return c.differs(end+1, "the stream did not keep an id")
	}
	c.end += int64(len(batch))
	if c.progress != nil {
		c.progress(c.end)
	}
	return nil
}
