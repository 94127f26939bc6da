package natsstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// processRecorder keeps the events of an application, and its positions as a
// follower.
type processRecorder struct{ *stream }

// InsertEvents implements persistence.AggregateRecorder. In a transaction it
// returns no ids, because they are given to the events by its commit.
func (r *processRecorder) InsertEvents(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
	if err := persistence.ValidateEvents(r.application, events); err != nil {
		return nil, err
	}
	const op = "insert events"
	ctx, tx, cancel, err := r.beginWrite(ctx, op)
	if err != nil {
		return nil, err
	}
	defer cancel()
	switch {
	case len(events) == 0:
		return nil, nil
	case tx != nil:
		return nil, tx.stage(r.stream, op, func(st *stage) error { return st.insert(ctx, op, events) })
	}
	return r.newSave(op, events, nil).run(ctx)
}

// SelectEvents implements persistence.AggregateRecorder. The stream has the
// events that are stored when the loop begins.
func (r *processRecorder) SelectEvents(
	ctx context.Context, originatorID uuid.UUID, want persistence.EventRange,
) iter.Seq2[persistence.StoredEvent, error] {
	return func(yield func(persistence.StoredEvent, error) bool) {
		left := false
		err := want.Validate()
		if err == nil {
			staged := r.store.transaction(ctx).stagedEvents(r.stream, originatorID)
			err = r.eachWithStaged(ctx, "select events", originatorID, want, staged, func(e persistence.StoredEvent) bool {
				left = !yield(e, nil)
				return !left
			})
		}
		if err != nil && !left {
			yield(persistence.StoredEvent{}, err)
		}
	}
}

// eachWithStaged calls f with the events of a range, of which the last ones are
// staged in a transaction.
func (r *processRecorder) eachWithStaged(
	ctx context.Context, op string, id uuid.UUID, want persistence.EventRange, staged []persistence.StoredEvent,
	f func(persistence.StoredEvent) bool,
) error {
	stored, left, more := want, want.Limit, true
	if len(staged) > 0 {
		begin := staged[0].OriginatorVersion
		if stored.Before == 0 || stored.Before > begin {
			stored.Before = begin
		}
		more = begin > want.From // some may be stored
		staged = slices.DeleteFunc(slices.Clone(staged), func(e persistence.StoredEvent) bool {
			return e.OriginatorVersion < want.From || want.Before > 0 && e.OriginatorVersion >= want.Before
		})
	}
	each := func(e persistence.StoredEvent) bool {
		left--
		return f(e) && left != 0
	}
	if want.Descending {
		for _, e := range slices.Backward(staged) {
			if !each(e) {
				return nil
			}
		}
		stored.Limit = max(left, 0)
	}
	wanted := true
	if more {
		err := r.eachEvent(ctx, op, id, stored, func(m message) bool {
			wanted = each(r.notification(m, id).StoredEvent)
			return wanted
		})
		if err != nil {
			return err
		}
	}
	for i := 0; !want.Descending && wanted && i < len(staged); i++ {
		wanted = each(staged[i])
	}
	return nil
}

// eachEvent calls f with the events of a range, until it returns false. Each
// request to the servers has the time of Config.Timeout.
func (s *stream) eachEvent(
	ctx context.Context, op string, id uuid.UUID, want persistence.EventRange, f func(message) bool,
) error {
	newest, found, err := s.newestMessage(ctx, op, id)
	if err != nil || !found {
		return err
	}
	low, high := want.From, newest.number
	if want.Before > 0 {
		high = min(high, want.Before-1)
	}
	if low > high {
		return nil
	}
	left := want.Limit
	if left == 0 {
		left = -1
	}
	if want.Descending && want.Limit == 1 && high == newest.number {
		f(newest)
		return nil
	}
	if want.Descending {
		return s.descending(ctx, op, id, low, high, newest, limited(want.Limit, f))
	}
	return s.ascending(ctx, op, id, low, high, newest, limited(want.Limit, f))
}

// limited returns f, but returns false with the last message of the limit.
func limited(limit int, f func(message) bool) func(message) bool {
	if limit == 0 {
		return f
	}
	return func(m message) bool {
		limit--
		return f(m) && limit > 0
	}
}

func (s *stream) ascending(
	ctx context.Context, op string, id uuid.UUID, low, high int64, newest message, f func(message) bool,
) error {
	for c := chunkOf(low); c <= chunkOf(high); c++ {
		read, err := s.readChunk(ctx, op, id, c, newest)
		if err != nil {
			return err
		}
		if len(read.events) == 0 && read.begin > low { // the originator begins later
			c = max(c, chunkOf(read.begin)-1)
			continue
		}
		for _, m := range read.events {
			if m.number >= low && m.number <= high && !f(m) {
				return nil
			}
		}
	}
	return nil
}

func (s *stream) descending(
	ctx context.Context, op string, id uuid.UUID, low, high int64, newest message, f func(message) bool,
) error {
	for c := chunkOf(high); c >= chunkOf(low); c-- {
		read, err := s.readChunk(ctx, op, id, c, newest)
		if err != nil {
			return err
		}
		for _, m := range slices.Backward(read.events) {
			if m.number >= low && m.number <= high && !f(m) {
				return nil
			}
		}
		if len(read.events) == 0 || read.events[0].first {
			return nil
		}
	}
	return nil
}

// chunkRead is what was read of a chunk.
type chunkRead struct {
	events []message
	// begin is the version that the originator begins at, if the chunk has no
	// events because it begins later.
	begin int64
}

// readChunk reads the events of a chunk, from whatever replica, up to the
// newest one that the leader knew of.
func (s *stream) readChunk(ctx context.Context, op string, id uuid.UUID, c int64, newest message) (read chunkRead, err error) {
	ctx, cancel, err := s.begin(ctx, op)
	if err != nil {
		return read, err
	}
	defer cancel()
	from := s.firstSequence()
	err = s.retry(ctx, op, func() error {
		page, err := s.page(ctx, op, s.names.chunk(id, c), from, chunk+1)
		if err != nil {
			return err
		}
		for _, m := range page {
			from = m.seq + 1
			if m.kind == beginKind {
				read.begin = m.number
				continue
			}
			if err := s.follows(id, c, read.events, m); err != nil {
				return err
			}
			read.events = append(read.events, m)
		}
		if n := len(read.events); n > 0 && (read.events[n-1].number == c*chunk+chunk-1 || read.events[n-1].seq >= newest.seq) {
			return nil
		}
		if len(read.events) == 0 && c < chunkOf(newest.number) {
			read.begin, err = s.laterBegin(ctx, op, id, c)
			if err != nil || read.begin > 0 {
				return err
			}
		}
		return errAgain{errBehind}
	})
	return read, err
}

var errBehind = errors.New("the replicas lack messages that the leader has")

// follows returns a *DamageError unless an event of a chunk is the one after
// those before it.
func (s *stream) follows(id uuid.UUID, c int64, before []message, m message) error {
	want := c * chunk
	if n := len(before); n > 0 {
		want = before[n-1].number + 1
	}
	if m.number == want || len(before) == 0 && m.first {
		return nil
	}
	problem := fmt.Sprintf("version %d is missing before version %d", want, m.number)
	if m.number < want {
		problem = fmt.Sprintf("version %d is stored again after version %d", m.number, want-1)
	}
	return s.damage(DamageError{OriginatorID: id, Version: want, Problem: problem})
}

// laterBegin returns the version that an originator begins at, if that is after
// a chunk, and 0 if it is not.
func (s *stream) laterBegin(ctx context.Context, op string, id uuid.UUID, c int64) (int64, error) {
	m, found, err := s.leaderNext(ctx, op, s.names.originator(id), s.firstSequence())
	begins := m.kind == beginKind || m.kind == eventKind && m.first
	if err != nil || !found || !begins || chunkOf(m.number) <= c {
		return 0, err
	}
	return m.number, nil
}

// newestMessage returns the newest event of an originator as the leader has it.
func (s *stream) newestMessage(ctx context.Context, op string, id uuid.UUID) (message, bool, error) {
	ctx, cancel, err := s.begin(ctx, op)
	if err != nil {
		return message{}, false, err
	}
	defer cancel()
	known, _ := s.newest.get(id)
	m, found, err := s.leaderLast(ctx, op, s.names.originator(id), known.seq)
	if err == nil && found {
		s.remember(id, mark{m.number, m.seq})
	}
	return m, found, err
}
