package domain

import (
	"reflect"

	"github.com/google/uuid"
)

// Fold is an aggregate in the functional style: its state is any type S, and
// each event has a function from the old state to the new one. Use it if a
// struct with methods is more than is needed, or if states must not change.
//
// A Fold must not be used by two goroutines at once; its states may be, if S
// allows it.
type Fold[S any] struct {
	Aggregate
	state S
}

// Evolve defines an event of a fold over S, under a name that is unique within
// it. The function returns the state after the event; it must not change the
// one it is given.
func Evolve[S, E any](name string, evolve func(S, E) S, options ...TypeOption) Option[Fold[S]] {
	return func(d *Definition[Fold[S]]) {
		t := newEventType[E](d.name, name, d.name+"."+name, options)
		t.apply = func(fold, data any) {
			f := fold.(*Fold[S])
			f.state = evolve(f.state, data.(E))
		}
		d.add(t)
		if d.state == nil {
			d.state = foldState(func(state S) S { return state }, func(state S) S { return state }, nil)
		}
	}
}

// FoldState is State for folds: it says how the state S of a fold is kept in
// snapshots and in the cache, as an X. Without it S itself is stored.
func FoldState[S, X any](to func(S) X, from func(X) S, options ...TypeOption) Option[Fold[S]] {
	return func(d *Definition[Fold[S]]) { d.state = foldState(to, from, options) }
}

func foldState[S, X any](to func(S) X, from func(X) S, options []TypeOption) *stateFunctions {
	return newState(
		func(f *Fold[S]) X { return to(f.state) },
		func(stored X) *Fold[S] { return &Fold[S]{state: from(stored)} },
		options)
}

func (f *Fold[S]) self() any { return f }

// StartFold makes a new fold with its first event, which is pending until the
// fold is saved. It panics if the event is not in the definition.
func StartFold[S any](d *Definition[Fold[S]], id uuid.UUID, event any, options ...EventOption) *Fold[S] {
	fold := any(d.blank(id)).(*Fold[S])
	fold.Trigger(event, options...)
	return fold
}

func (f *Fold[S]) isFold() {}

// State is the state after the last event.
func (f *Fold[S]) State() S { return f.state }

// Trigger makes a new event of the fold and evolves its state. It panics if the
// event is not in the fold's definition.
func (f *Fold[S]) Trigger(event any, options ...EventOption) {
	f.trigger(event, func(data any) { f.schema.byType[reflect.TypeOf(data)].apply(f, data) }, options)
}
