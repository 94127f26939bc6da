package mapper

import (
	"iter"
	"reflect"
	"slices"

	"github.com/eventsourcing-go/eventsourcing/domain"
)

// Selection is which events of a log a reader wants.
type Selection struct {
	// Topics are those under which the events are stored; none means all.
	Topics []string

	wanted map[reflect.Type]bool
	whole  []kind // of domain.UpcastToMany, of which every part is wanted
}

// Select makes a selection of topics. A topic stands for the former names of its
// events as well, and for the events that domain.UpcastToMany makes them of.
func (m *Mapper) Select(topics []string) Selection {
	s := Selection{Topics: slices.Clone(topics), wanted: map[reflect.Type]bool{}}
	known := m.kinds.Load().events
	for _, topic := range topics {
		k, ok := known[topic]
		if !ok {
			continue // it is that of a program that this one does not have
		}
		if k.IsPast() {
			s.whole = append(s.whole, k)
		} else {
			s.wanted[k.GoType()] = true
		}
		for stored, other := range known {
			isPast := !k.IsPast() && other.schema == k.schema && slices.Contains(other.Into(), k.GoType())
			if (other == k || isPast) && !slices.Contains(s.Topics, stored) {
				s.Topics = append(s.Topics, stored)
			}
		}
	}
	return s
}

// Parts returns the parts of a stored event that are wanted.
func (m *Mapper) Parts(event domain.Event, s Selection) iter.Seq[domain.Event] {
	if len(s.Topics) == 0 {
		return event.Parts()
	}
	k, ok := m.kinds.Load().events[event.Topic]
	if !ok || len(k.Into()) == 0 || slices.Contains(s.whole, k) {
		return event.Parts()
	}
	return func(yield func(domain.Event) bool) {
		for part := range event.Parts() {
			if s.wanted[reflect.TypeOf(part.Data)] && !yield(part) {
				return
			}
		}
	}
}
