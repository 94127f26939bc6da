package natsstore

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// save is a call of InsertEvents or InsertProcessed.
type save struct {
	*writing
	events  []persistence.StoredEvent
	streams []*originatorPart     // in the order of their first events
	moves   *persistence.Tracking // nil if no position is moved
	// settings are stored with the position.
	settings []byte
}

// originatorPart is what a save has of one originator.
type originatorPart struct {
	id     uuid.UUID
	first  *persistence.StoredEvent
	last   int64 // the highest version
	begins bool  // the first event may begin the originator
}

func (s *stream) newSave(op string, events []persistence.StoredEvent, moves *persistence.Tracking) *save {
	v := &save{writing: s.newWriting(op), events: events, moves: moves}
	parts := map[uuid.UUID]*originatorPart{}
	for i := range events {
		e := &events[i]
		part := parts[e.OriginatorID]
		if part == nil {
			part = &originatorPart{id: e.OriginatorID, first: e,
				begins: e.Begins || e.OriginatorVersion <= 1 && !e.Continues}
			parts[e.OriginatorID] = part
			v.streams = append(v.streams, part)
		}
		part.last = e.OriginatorVersion
	}
	return v
}

// run stores the events and moves the position, or does neither. It returns the
// ids of the events.
func (v *save) run(ctx context.Context) ([]int64, error) {
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		messages, err := v.plan(ctx)
		if err == nil {
			var first int64
			if first, err = v.publish(ctx, messages); err == nil {
				if v.moves != nil {
					v.rememberPosition(v.moves.ApplicationName, positionMark{mark{v.moves.NotificationID, first}, v.id, v.settings})
				}
				return v.stored(first + int64(len(messages)-len(v.events))), nil
			}
		}
		if !errors.Is(err, errRefused) {
			return nil, err
		}
		ids, err := v.resolve(ctx)
		if ids != nil || err != nil {
			return ids, err
		}
		if !sleep(ctx, pause) { // another write was in flight
			return nil, v.ended(ctx, errRefused)
		}
	}
}

// plan makes the messages. It returns errRefused if what is stored does not let
// the events be stored.
func (v *save) plan(ctx context.Context) ([]outgoing, error) {
	messages := make([]outgoing, 0, len(v.events)+len(v.streams)+1)
	if v.moves != nil {
		known, err := v.knownPosition(ctx, v.op, v.moves.ApplicationName)
		switch {
		case err != nil:
			return nil, err
		case known.number >= v.moves.NotificationID:
			return nil, errRefused
		}
		v.settings = known.settings
		messages = append(messages, v.position(v.moves.ApplicationName, v.moves.NotificationID, known.settings, known.seq))
	}
	starts := make(map[uuid.UUID]mark, len(v.streams))
	for _, part := range v.streams {
		start, err := v.start(ctx, part)
		if err != nil {
			return nil, err
		}
		starts[part.id] = start
	}
	return v.appendEvents(messages, starts), nil
}

// appendEvents appends the messages of the events, whose originators have their
// newest events at starts.
func (v *save) appendEvents(messages []outgoing, starts map[uuid.UUID]mark) []outgoing {
	for _, part := range v.streams {
		if starts[part.id] == beginning && chunkOf(part.first.OriginatorVersion) > 0 {
			// Two writers that begin at versions of different chunks exclude
			// each other by a message in the first one.
			f := frame{kind: beginKind, write: v.id, number: part.first.OriginatorVersion}
			messages = append(messages, outgoing{subject: v.names.chunk(part.id, 0), data: f.encode(), expect: true})
		}
	}
	for i := range v.events {
		messages = append(messages, v.outgoing(&v.events[i], starts))
	}
	return messages
}

// beginning is the place of an originator without events.
var beginning = mark{number: -1}

// start returns the newest event of an originator, after which the save
// continues.
func (v *save) start(ctx context.Context, part *originatorPart) (mark, error) {
	version := part.first.OriginatorVersion
	known, ok := v.newest.get(part.id)
	switch {
	case ok && known.number == version-1:
		return known, nil
	case !ok && version <= 1 && part.begins:
		return beginning, nil // the server knows better, and refuses what is wrong
	}
	known, err := v.newestOf(ctx, v.op, part.id)
	if err != nil {
		return known, err
	}
	if known.number == version-1 && version > 0 || known == beginning && part.begins {
		return known, nil
	}
	return known, errRefused
}

// newestOf asks the leader for the newest event of an originator.
func (s *stream) newestOf(ctx context.Context, op string, id uuid.UUID) (mark, error) {
	known, _ := s.newest.get(id)
	m, found, err := s.leaderLast(ctx, op, s.names.originator(id), known.seq)
	if err != nil || !found {
		return beginning, err
	}
	if m.kind != eventKind {
		return beginning, s.damage(DamageError{From: m.seq + 1, To: m.seq + 1, OriginatorID: id,
			Problem: "the first event of an originator is missing"})
	}
	newest := mark{m.number, m.seq}
	s.remember(id, newest)
	return newest, nil
}

// outgoing makes the message of an event. Only the first one of each subject
// has an expectation, which is all that the server can compare.
func (v *save) outgoing(e *persistence.StoredEvent, starts map[uuid.UUID]mark) outgoing {
	f := frame{kind: eventKind, write: v.id, number: e.OriginatorVersion, topic: e.Topic, state: e.State}
	m := outgoing{subject: v.names.chunk(e.OriginatorID, chunkOf(e.OriginatorVersion))}
	start, isFirst := starts[e.OriginatorID]
	switch {
	case isFirst:
		delete(starts, e.OriginatorID)
		f.first, m.expect = start == beginning, true
		if !f.first && chunkOf(start.number) == chunkOf(e.OriginatorVersion) {
			m.last = start.seq
		}
	case e.OriginatorVersion%chunk == 0: // the first of its subject
		m.expect = true
	}
	m.data = f.encode()
	return m
}

// stored remembers what was stored, and returns the ids of the events.
func (v *save) stored(first int64) []int64 {
	ids := make([]int64, len(v.events))
	newest := make(map[uuid.UUID]mark, len(v.streams))
	for i := range v.events {
		ids[i] = first + int64(i)
		newest[v.events[i].OriginatorID] = mark{v.events[i].OriginatorVersion, ids[i]}
	}
	for id, m := range newest {
		v.remember(id, m)
	}
	if len(ids) > 0 {
		v.sawHead(ids[len(ids)-1])
	}
	return ids
}

// resolve looks at what is stored after a refusal. It returns the ids of the
// events if an earlier try has stored them, an error if they cannot be stored,
// and neither if the save can be tried again.
func (v *save) resolve(ctx context.Context) ([]int64, error) {
	conflict, ids, err := v.conflict(ctx)
	if err != nil || ids != nil {
		return ids, err
	}
	if v.moves != nil { // read after the conflict, so that both of another process are seen
		known, err := v.positionOf(ctx, v.op, v.moves.ApplicationName)
		switch {
		case err != nil:
			return nil, v.unresolved(err)
		case known.write == v.id:
			return make([]int64, 0), nil
		case known.number >= v.moves.NotificationID:
			return nil, v.behind(*v.moves, known.number)
		}
	}
	if conflict != nil {
		return nil, conflict
	}
	return nil, nil
}

// unresolved is the error of a save whose outcome could not be read.
func (v *save) unresolved(err error) error {
	if v.unknown {
		return v.outcomeUnknown(err)
	}
	return err
}

// conflict finds what is in the way of the events.
func (v *save) conflict(ctx context.Context) (conflict *persistence.ConflictError, ids []int64, err error) {
	var gap *persistence.ConflictError
	for _, part := range v.streams {
		newest, err := v.newestOf(ctx, v.op, part.id)
		if err != nil {
			return nil, nil, v.unresolved(err)
		}
		version := part.first.OriginatorVersion
		if newest == beginning && part.begins || newest.number == version-1 && version > 0 {
			continue
		}
		stored, err := v.storedOf(ctx, part)
		if err != nil {
			return nil, nil, v.unresolved(err)
		}
		if i := slices.IndexFunc(stored, func(m message) bool { return m.write == v.id }); i >= 0 {
			return nil, v.stored(v.firstID(part.id, stored[i])), nil
		}
		current := persistence.ConflictError{Application: v.application, OriginatorID: part.id, Version: version, Current: newest.number}
		if len(stored) == 0 {
			current.Gap = true
			gap = &current
			continue
		}
		if conflict == nil {
			current.Version = stored[0].number
			conflict = &current
		}
		for _, m := range stored {
			conflict.Stored = append(conflict.Stored, v.notification(m, part.id))
		}
	}
	if conflict == nil {
		conflict = gap
	}
	return conflict, nil, nil
}

// firstID is the id of the first event of the save, of which a message is one.
func (v *save) firstID(id uuid.UUID, m message) int64 {
	i := slices.IndexFunc(v.events, func(e persistence.StoredEvent) bool {
		return e.OriginatorID == id && e.OriginatorVersion == m.number
	})
	return m.seq - int64(i)
}

// storedOf returns the stored messages at the places of a part of the save.
func (v *save) storedOf(ctx context.Context, part *originatorPart) (stored []message, err error) {
	want := persistence.EventRange{From: part.first.OriginatorVersion}
	if part.last < 1<<63-1 {
		want.Before = part.last + 1
	}
	err = v.eachEvent(ctx, v.op, part.id, want, func(m message) bool {
		stored = append(stored, m)
		return true
	})
	return stored, err
}

func (s *stream) notification(m message, id uuid.UUID) persistence.Notification {
	return persistence.Notification{ID: m.seq, StoredEvent: persistence.StoredEvent{
		OriginatorID: id, OriginatorVersion: m.number, Topic: m.topic, State: m.state}}
}
