package domain_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
)

func TestTopics(t *testing.T) {
	dogs := domain.Define("Hound",
		domain.On("Signed", Registered{}, domain.Alias("Kennel.In"), domain.Alias("training_school.domain:Dog.Registered")),
		domain.On("TrickAdded", TrickAdded{}, domain.StoredAs("tricks/added")),
		domain.FormerName[Dog]("Dog", "training_school.domain:Dog"),
	)
	registered, _ := definitions.Of(dogs).Kind(Registered{})
	if got, want := registered.Topic(), "Hound.Signed"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	want := []string{"Kennel.In", "training_school.domain:Dog.Registered", "Dog.Signed", "training_school.domain:Dog.Signed"}
	if got := registered.Aliases(); !slices.Equal(got, want) {
		t.Errorf("got aliases %q, want %q", got, want)
	}
	added, _ := definitions.Of(dogs).Kind(TrickAdded{})
	if got, want := added.Topic(), "tricks/added"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := definitions.Of(dogs).SnapshotType().Aliases(), []string{"Dog", "training_school.domain:Dog"}; !slices.Equal(got, want) {
		t.Errorf("got snapshot aliases %q, want %q", got, want)
	}
	registered.Aliases()[0] = "changed"
	if registered.Aliases()[0] != "Kennel.In" {
		t.Error("aliases can be changed from outside")
	}
	if dog := dogs.Create(uuid.New(), Registered{}); dog.PendingEvents()[0].Topic != "Hound.Signed" {
		t.Errorf("got new topic %q, want %q", dog.PendingEvents()[0].Topic, "Hound.Signed")
	}
}

// Four versions of one event.
type (
	SizedV1 struct{ A string }
	SizedV2 struct{ AA string }
	SizedV3 struct {
		AA string
		B  int
	}
	SizedV4 struct {
		AA string
		B  int
		C  []string
	}
)

func (e SizedV4) Apply(d *Dog) { d.Name, d.Tricks = e.AA, e.C }

var upcasts = []domain.TypeOption{
	domain.Upcast(func(e SizedV1) SizedV2 { return SizedV2{AA: strings.ToUpper(e.A)} }),
	domain.Upcast(func(e SizedV2) SizedV3 { return SizedV3{AA: e.AA, B: 1} }),
	domain.Upcast(func(e SizedV3) SizedV4 { return SizedV4{AA: e.AA, B: e.B, C: []string{"c"}} }),
}

func TestDecode(t *testing.T) {
	dogs := domain.Define("Dog", domain.On("Sized", SizedV4{}, upcasts...))
	kind, _ := definitions.Of(dogs).Kind(SizedV4{})
	if got := kind.Version(); got != 4 {
		t.Fatalf("got version %d, want 4", got)
	}
	for version, test := range []struct {
		stored string
		want   SizedV4
	}{
		{`{"A":"text"}`, SizedV4{AA: "TEXT", B: 1, C: []string{"c"}}},
		{`{"AA":"text"}`, SizedV4{AA: "text", B: 1, C: []string{"c"}}},
		{`{"AA":"text","B":2}`, SizedV4{AA: "text", B: 2, C: []string{"c"}}},
		{`{"AA":"text","B":2,"C":["d"]}`, SizedV4{AA: "text", B: 2, C: []string{"d"}}},
	} {
		got, err := kind.Decode(version+1, decoder(test.stored))
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("version %d: got %+v, %v; want %+v", version+1, got, err, test.want)
		}
	}
	for _, version := range []int{5, 0, -1} {
		_, err := kind.Decode(version, decoder(`{}`))
		got, ok := errors.AsType[*eventtype.VersionError](err)
		if !ok || *got != (eventtype.VersionError{Topic: "Dog.Sized", Stored: version, Oldest: 1, Known: 4}) {
			t.Errorf("version %d: got %v, want a VersionError", version, err)
		}
	}
	for version := range 4 {
		if _, err := kind.Decode(version+1, decoder(`{`)); err == nil {
			t.Errorf("version %d: a damaged payload is no error", version+1)
		}
	}
}

func decoder(stored string) func(any) error {
	return func(into any) error { return json.Unmarshal([]byte(stored), into) }
}

func TestDecodeSnapshot(t *testing.T) {
	dogs := domain.Define("Dog", domain.On("Sized", SizedV4{}),
		domain.State(func(d *Dog) SizedV4 { return SizedV4{AA: d.Name, C: d.Tricks} },
			func(s SizedV4) *Dog { return &Dog{Name: s.AA, Tricks: s.C} }, upcasts...))
	kind := definitions.Of(dogs).SnapshotType()
	if got, want := definitions.Of(dogs).StateType(), reflect.TypeFor[SizedV4](); got != want {
		t.Errorf("got state type %v, want %v", got, want)
	}
	for version, state := range []string{`{"A":"text"}`, `{"AA":"TEXT"}`, `{"AA":"TEXT"}`, `{"AA":"TEXT","C":["c"]}`} {
		data, err := kind.Decode(version+1, decoder(`{"CreatedOn":"2000-01-01T00:00:00Z","ModifiedOn":"2001-01-01T00:00:00Z","State":`+state+`}`))
		if err != nil {
			t.Errorf("version %d: %v", version+1, err)
			continue
		}
		id := uuid.New()
		dog, err := definitions.Restore(dogs, domain.Event{OriginatorID: id, OriginatorVersion: 9, Topic: "Dog", Data: data})
		if err != nil || dog.Name != "TEXT" || !slices.Equal(dog.Tricks, []string{"c"}) || dog.ID() != id || dog.Version() != 9 ||
			!dog.CreatedOn().Equal(day(2000)) || !dog.ModifiedOn().Equal(day(2001)) {
			t.Errorf("version %d: got %+v, %v, want no error, Name %q, Tricks %q, ID %v, Version 9, CreatedOn %v and ModifiedOn %v", version+1, dog, err, "TEXT", []string{"c"}, id, day(2000), day(2001))
		}
		if _, err := kind.Decode(version+1, decoder(`[]`)); err == nil {
			t.Errorf("version %d: a damaged snapshot is no error", version+1)
		}
	}
	if _, err := kind.Decode(5, decoder(`{}`)); !errors.Is(err, domain.ErrEventSourcing) {
		t.Errorf("got %v, want a VersionError", err)
	}
}

func TestUpcastersMustFit(t *testing.T) {
	definitionError(t, "upcaster 1 of Dog.Sized returns domain_test.SizedV2, but the next version is domain_test.SizedV4", func() {
		domain.Define("Dog", domain.On("Sized", SizedV4{}, upcasts[0]))
	})
	definitionError(t, "upcaster 1 of Dog.Sized returns domain_test.SizedV3, but the next version is domain_test.SizedV1", func() {
		domain.Define("Dog", domain.On("Sized", SizedV4{}, upcasts[1], upcasts[0], upcasts[2]))
	})
}

var downcasts = []domain.TypeOption{
	domain.Downcast(func(e SizedV4) SizedV3 { return SizedV3{AA: e.AA, B: e.B} }),
	domain.Downcast(func(e SizedV3) SizedV2 { return SizedV2{AA: e.AA} }),
	domain.Downcast(func(e SizedV2) SizedV1 { return SizedV1{A: strings.ToLower(e.AA)} }),
}

func TestDowncast(t *testing.T) {
	for steps, want := range []any{
		SizedV4{AA: "TEXT", B: 1, C: []string{"c"}}, SizedV3{AA: "TEXT", B: 1}, SizedV2{AA: "TEXT"}, SizedV1{A: "text"},
	} {
		dogs := domain.Define("Dog", domain.On("Sized", SizedV4{}, slices.Concat(upcasts, downcasts[:steps])...))
		kind, _ := definitions.Of(dogs).Kind(SizedV4{})
		if kind.Version() != 4 {
			t.Errorf("%d steps: got version %d, want 4", steps, kind.Version())
		}
		if goType, version := kind.Written(); goType != reflect.TypeOf(want) || version != 4-steps {
			t.Errorf("%d steps: got %v in version %d, want %T in %d", steps, goType, version, want, 4-steps)
		}
		if got := kind.Downcast(SizedV4{AA: "TEXT", B: 1, C: []string{"c"}}); !reflect.DeepEqual(got, want) {
			t.Errorf("%d steps: got %+v, want %+v", steps, got, want)
		}
	}
	late := domain.Define("Dog", domain.On("Sized", SizedV4{}, upcasts[2], downcasts[0], domain.SchemaVersion(9)))
	kind, _ := definitions.Of(late).Kind(SizedV4{})
	if goType, version := kind.Written(); goType != reflect.TypeFor[SizedV3]() || version != 8 {
		t.Errorf("with a SchemaVersion: got %v in version %d, want %v and 8", goType, version, reflect.TypeFor[SizedV3]())
	}
}

func TestDowncastersMustFit(t *testing.T) {
	on := func(options ...domain.TypeOption) func() {
		return func() { domain.Define("Dog", domain.On("Sized", SizedV4{}, options...)) }
	}
	state := func() {
		domain.Define("Dog", domain.On("Registered", Registered{}),
			domain.State(func(*Dog) SizedV4 { return SizedV4{} }, func(SizedV4) *Dog { return &Dog{} }, slices.Concat(upcasts, downcasts)...))
	}
	for _, test := range []struct {
		name, want string
		f          func()
	}{
		{"nothing to undo", "Dog.Sized has 1 downcasters and 0 upcasters", on(downcasts[0])},
		{"oldest first", "downcaster 1 of Dog.Sized makes domain_test.SizedV1 of domain_test.SizedV2, " +
			"but the upcaster that it undoes makes domain_test.SizedV4 of domain_test.SizedV3", on(slices.Concat(upcasts, downcasts[2:])...)},
		{"one left out", "downcaster 2 of Dog.Sized makes", on(slices.Concat(upcasts, downcasts[:1], downcasts[2:])...)},
		{"of a state", "states need no domain.Downcast", state},
		{"of events that are only read", "its domain.Downcast has no effect", func() {
			domain.Define("Dog", domain.On("Registered", Registered{}), domain.UpcastToMany[Dog]("Sized", []any{Registered{}}, func(SizedV4) []any { return nil },
				slices.Concat(upcasts, downcasts)...))
		}},
		{"of a retired type", "downcasters and 0 upcasters", func() { domain.Define("Dog", domain.Retired[Dog]("Sized", downcasts[0])) }},
	} {
		t.Run(test.name, func(t *testing.T) { definitionError(t, test.want, test.f) })
	}
}
