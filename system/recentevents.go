package system

import (
	"maps"
	"reflect"
	"sync"
	"unicode/utf8"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// pushedEvents is how many events are kept. For a follower with a greater lag
// they are decoded.
const pushedEvents = 1024

// recentEvents are the events that were saved last in this process, by their
// position in the log. Followers need not decode them. Events whose data are
// not plain are left out: a follower would share memory with the aggregate that
// they come from, or be given what is not stored.
type recentEvents struct {
	mu    sync.RWMutex // protects what follows
	ring  [pushedEvents]mapper.Recording
	next  int
	at    map[int64]int // places in the ring
	plain map[reflect.Type]bool
}

func (p *recentEvents) add(recordings []mapper.Recording, copiesPlain func(reflect.Type) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at == nil {
		p.at, p.plain = make(map[int64]int, pushedEvents), map[reflect.Type]bool{}
	}
	for _, recording := range recordings {
		if !p.isPlain(reflect.TypeOf(recording.Event.Data), copiesPlain) || !isText(reflect.ValueOf(recording.Event.Data)) {
			continue
		}
		n := recording.Notification
		if n.ID == 0 { // a store that gives no ids before the commit
			continue
		}
		if i, ok := p.at[n.ID]; ok && string(p.ring[i].Notification.State) == string(n.State) {
			continue // every follower of the leader has it remembered
		}
		if last := p.ring[p.next].Notification.ID; p.at[last] == p.next {
			delete(p.at, last)
		}
		recording.Event.Metadata = maps.Clone(recording.Event.Metadata) // which is the saver's
		p.ring[p.next] = recording
		p.at[n.ID] = p.next
		p.next = (p.next + 1) % pushedEvents
	}
}

// event finds the event of a notification. A log that was restored may have
// another one at the same position, in which the state differs: every state has
// a random id or nonce in it.
func (p *recentEvents) event(n persistence.Notification) (domain.Event, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	i, ok := p.at[n.ID]
	if !ok || string(p.ring[i].Notification.State) != string(n.State) {
		return domain.Event{}, false
	}
	event := p.ring[i].Event
	event.Metadata = maps.Clone(event.Metadata) // every follower has its own
	return event, true
}

// isText is true of values whose strings are all valid; a store has other ones
// mended.
func isText(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		return utf8.ValidString(v.String())
	case reflect.Struct:
		for i := range v.NumField() {
			if !isText(v.Field(i)) {
				return false
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			if !isText(v.Index(i)) {
				return false
			}
		}
	}
	return true
}

// isPlain reports whether copies of a type's values share no memory and come out
// of the leader's store as they went in, which copiesPlain knows.
func (p *recentEvents) isPlain(t reflect.Type, copiesPlain func(reflect.Type) bool) bool {
	known, ok := p.plain[t]
	if !ok {
		known = t != nil && sharesNothing(t) && copiesPlain(t)
		p.plain[t] = known
	}
	return known
}

// sharesNothing reports whether copies of a type's values have no memory in
// common. Values with fields that are not exported, such as times, do not come
// out of a store as they went in.
func sharesNothing(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); !f.IsExported() || !sharesNothing(f.Type) {
				return false
			}
		}
		return true
	case reflect.Array:
		return sharesNothing(t.Elem())
	case reflect.Interface, reflect.Pointer, reflect.Slice, reflect.Map, reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return false
	}
	return true
}
