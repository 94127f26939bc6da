package domain_test

import (
	"errors"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
)

type pack struct {
	domain.Aggregate
	Given packGiven
}

type packBase struct{ Tags []string }

type packGiven struct {
	packBase
	Rate    big.Rat
	Names   []string
	Ages    map[string]int
	Leader  *string
	Any     any
	Nested  []struct{ Scores []int }
	Pairs   [2][]int
	At      time.Time
	Times   map[string]*time.Time
	Weight  *big.Int
	Nothing []string
	Empty   []string
}

func (e packGiven) Apply(p *pack) { p.Given = e }

type packChanged struct{}

// Apply changes everything that the state refers to in place.
func (packChanged) Apply(p *pack) { spoil(&p.Given) }

func spoil(g *packGiven) {
	g.Names[0], g.Ages["Fido"], *g.Leader = "spoilt", -1, "spoilt"
	g.Any.(map[string]any)["list"].([]any)[0] = "spoilt"
	g.Nested[0].Scores[0], g.Pairs[1][0] = -1, -1
	*g.Times["born"] = time.Time{}
	g.Weight.SetInt64(-1)
	g.Rate.SetInt64(-1)
	g.Tags[0] = "spoilt"
}

var packs = domain.Define("Pack", domain.On("Given", packGiven{}), domain.On("Changed", packChanged{}))

func newGiven() packGiven {
	leader, born := "Rex", time.Date(2026, 1, 2, 3, 4, 5, 6789, time.FixedZone("CET", 3600))
	return packGiven{
		packBase: packBase{[]string{"small"}}, Rate: *big.NewRat(1, 3),
		Names: []string{"Fido"}, Ages: map[string]int{"Fido": 3}, Leader: &leader,
		Any:    map[string]any{"list": []any{"a"}, "time": born},
		Nested: []struct{ Scores []int }{{[]int{1}}}, Pairs: [2][]int{{1}, {2}},
		At: born, Times: map[string]*time.Time{"born": &born}, Weight: big.NewInt(7), Empty: []string{},
	}
}

// wantGiven fails the test unless a payload is the one that was triggered, with
// its times as they are stored.
func wantGiven(t *testing.T, what string, got packGiven) {
	t.Helper()
	want := newGiven()
	born := time.Date(2026, 1, 2, 2, 4, 5, 6000, time.UTC)
	want.At, want.Times["born"], want.Any.(map[string]any)["time"] = born, &born, born
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s is\n%+v, want\n%+v", what, got, want)
	}
}

// The caller, the aggregate and the pending event do not see what another of
// them does to the payload.
func TestPayloadIsNotShared(t *testing.T) {
	t.Parallel()
	given := newGiven()
	p := packs.Create(uuid.New(), given)
	pending := func() packGiven { return p.PendingEvents()[0].Data.(packGiven) }
	wantGiven(t, "the state", p.Given)
	spoil(&given)
	wantGiven(t, "the pending event after the caller's changes", pending())
	wantGiven(t, "the state after the caller's changes", p.Given)
	domain.Trigger(p, packChanged{})
	wantGiven(t, "the pending event after Apply's changes", pending())
}

func TestPayloadOfFoldIsNotShared(t *testing.T) {
	t.Parallel()
	folds := domain.Define("Names", domain.Evolve("Given", func(_ []string, e packGiven) []string { return e.Names }))
	given := newGiven()
	fold := domain.StartFold(folds, uuid.New(), given)
	fold.State()[0] = "spoilt"
	given.Names[0] = "spoilt as well"
	if got := fold.PendingEvents()[0].Data.(packGiven).Names; !slices.Equal(got, []string{"Fido"}) {
		t.Errorf("the pending event has %q, want Fido", got)
	}
}

// A payload that refers to itself does not hang.
func TestPayloadThatRefersToItself(t *testing.T) {
	t.Parallel()
	given := newGiven()
	loop := map[string]any{}
	loop["loop"] = loop
	given.Any = loop
	p := packs.Create(uuid.New(), given)
	if n := len(p.PendingEvents()); n != 1 || !maps.Equal(p.Given.Ages, given.Ages) {
		t.Errorf("got %d pending events and ages %v, want 1 and %v", n, p.Given.Ages, given.Ages)
	}
}

type node struct {
	Parent   *node
	Children []*node
}

type pair struct{ A, B any }

// A copy takes no longer if many ways lead to one value, and refers to itself
// if the payload does.
func TestPayloadOfSharedValues(t *testing.T) {
	t.Parallel()
	root := &node{}
	for range 2 {
		root.Children = append(root.Children, &node{Parent: root})
	}
	var list, entries, pointers any = "x", "x", "x"
	for range 40 {
		list, entries = []any{list, list}, map[string]any{"a": entries, "b": entries}
		pointers = &pair{pointers, pointers}
	}
	for name, value := range map[string]any{"cycle": root, "lists": list, "maps": entries, "pointers": pointers} {
		given := newGiven()
		given.Any = value
		p := packs.Create(uuid.New(), given)
		if reflect.TypeOf(p.Given.Any) != reflect.TypeOf(value) {
			t.Errorf("%s: got a %T, want a %T", name, p.Given.Any, value)
		}
		if own, ok := p.Given.Any.(*node); ok && (own == root || own.Children[1].Parent != own || own.Children[0] == root.Children[0]) {
			t.Error("the copy of a cycle is not a cycle of its own")
		}
	}
}

// A payload of more values than can be stored is refused, however it is made.
func TestPayloadOfTooManyValues(t *testing.T) {
	t.Parallel()
	var value any = "x"
	for range 40 {
		value = pair{value, value} // which has no identity
	}
	given := newGiven()
	given.Any = value
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, domain.ErrEventSourcing) || !strings.Contains(err.Error(), "cannot be stored") {
			t.Errorf("got %v, want a refusal", err)
		}
	}()
	packs.Create(uuid.New(), given)
}
