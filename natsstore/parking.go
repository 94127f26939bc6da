package natsstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// storedChange is the state of a message about a parked event. Its frame has
// the event's id and topic. What is parked of an upstream application is the sum
// of all messages of a subject, because nothing is deleted from the stream.
type storedChange struct {
	// Change is the number of the message on its subject, from 1.
	Change  int64     `json:"change"`
	ID      uuid.UUID `json:"originator,omitzero"`
	Version int64     `json:"version,omitempty"`
	Error   string    `json:"error,omitempty"`
	At      time.Time `json:"at,omitzero"`
}

// parkedView is what is parked of an upstream application after a message. It
// never changes.
type parkedView struct {
	seq    int64
	change int64
	events map[int64]persistence.ParkedEvent // by notification id
}

// apply returns the view after a change.
func (v *parkedView) with(event persistence.ParkedEvent, parked bool) *parkedView {
	next := &parkedView{seq: v.seq, change: v.change, events: maps.Clone(v.events)}
	if parked {
		next.events[event.NotificationID] = event
	} else {
		delete(next.events, event.NotificationID)
	}
	return next
}

// sorted returns the parked events in the order of their ids.
func (v *parkedView) sorted() []persistence.ParkedEvent {
	return slices.SortedFunc(maps.Values(v.events), func(a, b persistence.ParkedEvent) int {
		return cmp.Compare(a.NotificationID, b.NotificationID)
	})
}

// stagedParking is what a transaction changes.
type stagedParking struct {
	stored  *parkedView // as it was read
	view    *parkedView // with the changes
	changes []parkedChange
}

type parkedChange struct {
	event  persistence.ParkedEvent
	parked bool // and not unparked
}

func (p *stagedParking) clone() *stagedParking {
	return &stagedParking{stored: p.stored, view: p.view, changes: slices.Clip(p.changes)}
}

func (p *stagedParking) change(event persistence.ParkedEvent, parked bool) {
	p.changes = append(p.changes, parkedChange{event, parked})
	p.view = p.view.with(event, parked)
}

// messages makes the messages of the changes.
func (p *stagedParking) messages(w *writing, upstream string) []outgoing {
	messages := make([]outgoing, len(p.changes))
	for i, c := range p.changes {
		state := storedChange{Change: p.stored.change + int64(i) + 1}
		f := frame{kind: unparkedKind, write: w.id, number: c.event.NotificationID}
		if c.parked {
			f.kind, f.topic = parkedKind, c.event.Topic
			state.ID, state.Version, state.Error, state.At = c.event.OriginatorID, c.event.OriginatorVersion, c.event.Error, c.event.ParkedAt.UTC()
		}
		f.state, _ = json.Marshal(state) // JSON can encode every field
		messages[i] = outgoing{subject: w.names.parked(upstream), data: f.encode(), expect: i == 0, last: p.stored.seq}
	}
	return messages
}

// parkedView reads what is parked of an upstream application: what has changed
// since this process has read it last.
func (s *stream) parkedView(ctx context.Context, op, upstream string) (*parkedView, error) {
	s.mu.Lock()
	view := s.parked[upstream]
	s.mu.Unlock()
	if view == nil {
		view = &parkedView{events: map[int64]persistence.ParkedEvent{}}
	}
	subject := s.names.parked(upstream)
	newest, _, err := s.leaderLast(ctx, op, subject, view.seq)
	if err != nil || newest.seq == view.seq {
		return view, err
	}
	next := &parkedView{seq: view.seq, change: view.change, events: maps.Clone(view.events)}
	err = s.retry(ctx, op, func() error {
		for next.seq < newest.seq {
			page, err := s.page(ctx, op, subject, max(next.seq+1, s.firstSequence()), persistence.MaxPage)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				return errAgain{errBehind}
			}
			for _, m := range page {
				if err := s.applyParked(next, upstream, m); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.parked[upstream]; known == nil || known.seq < next.seq {
		s.parked[upstream] = next
	}
	return next, nil
}

// applyParked adds a message to a view.
func (s *stream) applyParked(v *parkedView, upstream string, m message) error {
	var state storedChange
	if err := json.Unmarshal(m.state, &state); err != nil {
		return s.failure("read parked events", persistence.ErrInternal, "they were written by another program, or by a newer version of this one", err)
	}
	if state.Change != v.change+1 {
		err := s.damage(DamageError{Problem: fmt.Sprintf("after change %d of the parked events of %s comes change %d", v.change, upstream, state.Change)})
		if err != nil {
			return err
		}
	}
	v.seq, v.change = m.seq, state.Change
	if m.kind == unparkedKind {
		delete(v.events, m.number)
		return nil
	}
	v.events[m.number] = persistence.ParkedEvent{ApplicationName: s.application, UpstreamApplicationName: upstream,
		NotificationID: m.number, OriginatorID: state.ID, OriginatorVersion: state.Version, Topic: m.topic,
		Error: state.Error, ParkedAt: state.At.UTC()}
	return nil
}

// parking returns what is parked of an upstream application, to be changed.
func (st *stage) parking(ctx context.Context, op, upstream string) (*stagedParking, error) {
	if p := st.parked[upstream]; p != nil {
		return p, nil
	}
	view, err := st.parkedView(ctx, op, upstream)
	if err != nil {
		return nil, err
	}
	p := &stagedParking{stored: view, view: view}
	st.parked[upstream] = p
	return p, nil
}

// ParkEvent implements capability.ParkingRecorder.
func (r *processRecorder) ParkEvent(ctx context.Context, event persistence.ParkedEvent) error {
	event.ApplicationName, event.ParkedAt = r.application, event.ParkedAt.UTC()
	return r.changeParked(ctx, "park an event", event.UpstreamApplicationName, func(p *stagedParking) error {
		if _, ok := p.view.events[event.NotificationID]; !ok {
			p.change(event, true)
		}
		return nil
	})
}

// UnparkEvent implements capability.ParkingRecorder.
func (r *processRecorder) UnparkEvent(ctx context.Context, upstream string, notificationID int64) error {
	const op = "unpark an event"
	return r.changeParked(ctx, op, upstream, func(p *stagedParking) error {
		event, ok := p.view.events[notificationID]
		if !ok {
			return r.failure(op, persistence.ErrProgramming, "", fmt.Errorf("event %d of %s is not parked", notificationID, upstream))
		}
		p.change(event, false)
		return nil
	})
}

// changeParked changes what is parked of an upstream application, in the
// transaction that ctx carries or in its own.
func (r *processRecorder) changeParked(ctx context.Context, op, upstream string, change func(*stagedParking) error) error {
	ctx, tx, cancel, err := r.beginWrite(ctx, op)
	if err != nil {
		return err
	}
	defer cancel()
	if tx != nil {
		return tx.stage(r.stream, op, func(st *stage) error {
			p, err := st.parking(ctx, op, upstream)
			if err != nil {
				return err
			}
			return change(p)
		})
	}
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		view, err := r.parkedView(ctx, op, upstream)
		if err != nil {
			return err
		}
		p := stagedParking{stored: view, view: view}
		if err := change(&p); err != nil || len(p.changes) == 0 {
			return err
		}
		w := r.newWriting(op)
		if _, err := w.publishExpected(ctx, p.messages(w, upstream)); !errors.Is(err, errRefused) {
			return err
		}
		if !sleep(ctx, pause) { // another process has changed it
			return r.unavailable(ctx, op, errRefused)
		}
	}
}

// viewOf returns what is parked of an upstream application, as the transaction
// in ctx has it.
func (r *processRecorder) viewOf(ctx context.Context, op, upstream string) (*parkedView, error) {
	if view := r.store.transaction(ctx).stagedParking(r.stream, upstream); view != nil {
		return view, nil
	}
	ctx, cancel, err := r.begin(ctx, op)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return r.parkedView(ctx, op, upstream)
}

// stagedParking returns what is parked as a transaction has it, or nil.
func (tx *transaction) stagedParking(s *stream, upstream string) *parkedView {
	if tx == nil {
		return nil
	}
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if st := tx.stages[s]; st != nil && st.parked[upstream] != nil {
		return st.parked[upstream].view
	}
	return nil
}

// ParkedEvents implements capability.ParkingRecorder.
func (r *processRecorder) ParkedEvents(ctx context.Context, upstream string) ([]persistence.ParkedEvent, error) {
	const op = "read parked events"
	upstreams := []string{upstream}
	if upstream == "" {
		var err error
		if upstreams, err = r.parkedUpstreams(ctx, op); err != nil {
			return nil, err
		}
	}
	events := []persistence.ParkedEvent{}
	for _, upstream := range upstreams {
		view, err := r.viewOf(ctx, op, upstream)
		if err != nil {
			return nil, err
		}
		events = append(events, view.sorted()...)
	}
	slices.SortStableFunc(events, func(a, b persistence.ParkedEvent) int { return cmp.Compare(a.NotificationID, b.NotificationID) })
	return events, nil
}

// parkedUpstreams returns the names of the upstream applications of which events
// were ever parked.
func (r *processRecorder) parkedUpstreams(ctx context.Context, op string) (upstreams []string, err error) {
	bounded, cancel, err := r.begin(ctx, op)
	if err != nil {
		return nil, err
	}
	defer cancel()
	err = r.retry(bounded, op, func() error {
		info, err := r.info(bounded, op, r.names.allParked())
		if err != nil {
			return err
		}
		upstreams = upstreams[:0]
		for subject := range info.State.Subjects {
			if name, ok := nameOf(subject[strings.LastIndexByte(subject, '.')+1:]); ok {
				upstreams = append(upstreams, name)
			}
		}
		return nil
	})
	upstreams = append(upstreams, r.store.transaction(ctx).stagedUpstreams(r.stream)...)
	slices.Sort(upstreams)
	return slices.Compact(upstreams), err
}

// stagedUpstreams returns the names of the upstream applications whose parked
// events a transaction has read.
func (tx *transaction) stagedUpstreams(s *stream) []string {
	if tx == nil {
		return nil
	}
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if st := tx.stages[s]; st != nil {
		return slices.Collect(maps.Keys(st.parked))
	}
	return nil
}

// ParkedOriginators implements capability.ParkingRecorder.
func (r *processRecorder) ParkedOriginators(ctx context.Context, upstream string, among []uuid.UUID) (map[uuid.UUID]int64, error) {
	found := map[uuid.UUID]int64{}
	if len(among) == 0 {
		return found, ctx.Err()
	}
	view, err := r.viewOf(ctx, "read parked events", upstream)
	if err != nil {
		return nil, err
	}
	wanted := make(map[uuid.UUID]bool, len(among))
	for _, id := range among {
		wanted[id] = true
	}
	for id, event := range view.events {
		if first, ok := found[event.OriginatorID]; wanted[event.OriginatorID] && (!ok || id < first) {
			found[event.OriginatorID] = id
		}
	}
	return found, nil
}

// CountParked implements capability.ParkingRecorder.
func (r *processRecorder) CountParked(ctx context.Context, upstream string) (int64, error) {
	view, err := r.viewOf(ctx, "count parked events", upstream)
	if err != nil {
		return 0, err
	}
	return int64(len(view.events)), nil
}
