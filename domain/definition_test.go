package domain_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/limits"
)

type pointerRoot struct{ *domain.Aggregate }

type boxed struct{ Name string }

func (e *boxed) Apply(d *Dog) { d.Name = e.Name }

type named func()

func (named) Apply(*Dog) {}

func TestDefine(t *testing.T) {
	if got := definitions.Of(Dogs).Name(); got != "Dog" {
		t.Errorf("got name %q, want Dog", got)
	}
	var topics []string
	for _, kind := range definitions.Of(Dogs).EventTypes() {
		topics = append(topics, kind.Topic())
	}
	if want := []string{"Dog.Registered", "Dog.TrickAdded"}; !slices.Equal(topics, want) {
		t.Errorf("got topics %v, want %v", topics, want)
	}
	kind, ok := definitions.Of(Dogs).Kind(TrickAdded{})
	if !ok || kind.Topic() != "Dog.TrickAdded" || kind.GoType() != reflect.TypeFor[TrickAdded]() || kind.Version() != 1 {
		t.Errorf("got kind %+v, %v, want Topic %q, GoType %v and Version 1", kind, ok, "Dog.TrickAdded", reflect.TypeFor[TrickAdded]())
	}
	if _, ok := definitions.Of(Dogs).Kind(Transacted{}); ok {
		t.Error("got a kind for an event of another definition")
	}
	if got := definitions.Of(Dogs).SnapshotType().Topic(); got != "Dog" {
		t.Errorf("got snapshot topic %q, want Dog", got)
	}
	definitionError(t, `domain: definition "Dog": versions cannot be negative`,
		func() { domain.Define("Dog", domain.FirstVersion[Dog](-1)) })
	t.Run("event types are a copy", func(t *testing.T) {
		definitions.Of(Dogs).EventTypes()[0] = nil
		if definitions.Of(Dogs).EventTypes()[0] == nil {
			t.Error("the definition can be changed from outside")
		}
	})
}

func TestDefinePanics(t *testing.T) {
	long := strings.Repeat("x", limits.Topic)
	on := func(name string) domain.Option[Dog] { return domain.On(name, Registered{}) }
	for _, test := range []struct {
		name string
		want string
		f    func()
	}{
		{"no name", "a topic must not be empty", func() { domain.Define[Dog]("") }},
		{"name too long", "at most 255 can be stored", func() { domain.Define[Dog](long + "x") }},
		{"event name too long", "has 256 bytes", func() { domain.Define("Dog", on(long[len("Dog."):]+"x")) }},
		{"name with NUL", "valid UTF-8 without NUL", func() { domain.Define[Dog]("a\x00") }},
		{"name not UTF-8", "valid UTF-8 without NUL", func() { domain.Define("Dog", on("\xff")) }},
		{"event name twice", `topic "Dog.E" is given to both domain_test.Registered and domain_test.TrickAdded`, func() {
			domain.Define("Dog", on("E"), domain.On("E", TrickAdded{}))
		}},
		{"event type twice", "domain_test.Registered is defined twice, as Dog.A and Dog.B", func() {
			domain.Define("Dog", on("A"), on("B"))
		}},
		{"alias of another event", "is given to both", func() {
			domain.Define("Dog", on("A"), domain.On("B", TrickAdded{}, domain.Alias("Dog.A")))
		}},
		{"empty alias", "a topic must not be empty", func() { domain.Define("Dog", domain.On("A", Registered{}, domain.Alias(""))) }},
		{"empty stored topic", "a topic must not be empty", func() { domain.Define("Dog", domain.On("A", Registered{}, domain.StoredAs(""))) }},
		{"former name that makes topics too long", "at most 255", func() { domain.Define("Dog", on("A"), domain.FormerName[Dog](long)) }},
		{"embedded fold", "cannot be embedded", func() { domain.Define[struct{ domain.Fold[int] }]("Sum") }},
		{"embedded log", "cannot be embedded", func() { domain.Define[struct{ domain.Log }]("Journal") }},
		{"aggregate of a log", "use NewEvent", func() { domain.Define[domain.Log]("Journal").Create(uuid.New(), logged{}) }},
		{"empty former name", "a topic must not be empty", func() { domain.Define("Dog", domain.FormerName[Dog]("")) }},
		{"event that is a pointer", "give domain_test.boxed, not a pointer to it", func() { domain.Define("Dog", domain.On("A", &boxed{})) }},
		{"event that is a func", "cannot be stored: give a struct", func() { domain.Define("Dog", domain.On("A", named(nil))) }},
		{"event that is an interface", "cannot be stored: give a struct", func() {
			domain.Define("Dog", domain.On[Dog, domain.EventOf[Dog]]("A", Registered{}))
		}},
		{"aggregate embedded as a pointer", "embed domain.Aggregate by value", func() { domain.Define[pointerRoot]("Dog") }},
		{"snapshot version 0", "snapshot versions start at 1", func() { domain.Define("Dog", domain.SnapshotVersion[Dog](0)) }},
		{"retired and defined", `topic "Dog.A" is retired and defined as domain_test.Registered at once`, func() {
			domain.Define("Dog", on("A"), domain.Retired[Dog]("A"))
		}},
		{"retired, then defined", `topic "Dog.A" is retired and defined as domain_test.Registered at once`, func() {
			domain.Define("Dog", domain.Retired[Dog]("A"), on("A"))
		}},
		{"retired and an alias", `topic "Dog.Old" is retired and defined as domain_test.Registered at once`, func() {
			domain.Define("Dog", domain.On("A", Registered{}, domain.Alias("Dog.Old")), domain.Retired[Dog]("Old"))
		}},
		{"retired twice", `topic "Dog.A" is retired twice`, func() {
			domain.Define("Dog", domain.Retired[Dog]("A"), domain.Retired[Dog]("A"))
		}},
		{"retired with an upcaster", "Dog.A is retired, so its payloads are not read; remove its upcasters", func() {
			domain.Define("Dog", domain.Retired[Dog]("A",
				domain.Upcast(func(Registered) domain.RetiredEvent { return domain.RetiredEvent{} })))
		}},
		{"retired without a name", "a topic must not be empty", func() {
			domain.Define("Dog", domain.Retired[Dog]("A", domain.Alias("")))
		}},
		{"payload that is a retired event", "domain.RetiredEvent is no payload; use domain.Retired for Log.A", func() {
			domain.Define("Log", domain.Entry("A", domain.RetiredEvent{}))
		}},
		{"log entry retired and defined", `topic "Log.A" is retired and defined as int at once`, func() {
			domain.Define("Log", domain.Entry("A", 0), domain.Retired[domain.Log]("A"))
		}},
		{"log without a name", "a topic must not be empty", func() { domain.Define[domain.Log]("") }},
		{"log entry twice", "is defined twice", func() { domain.Define("Log", domain.Entry("A", 0), domain.Entry("B", 0)) }},
		{"log topics twice", "is given to both", func() { domain.Define("Log", domain.Entry("A", 0), domain.Entry("A", "")) }},
	} {
		t.Run(test.name, func(t *testing.T) { definitionError(t, test.want, test.f) })
	}
}

func TestLongestTopic(t *testing.T) {
	name := strings.Repeat("x", limits.Topic-len("Dog."))
	dogs := domain.Define("Dog", domain.On(name, Registered{}))
	if got := definitions.Of(dogs).EventTypes()[0].Topic(); len(got) != limits.Topic {
		t.Errorf("got a topic of %d bytes, want %d", len(got), limits.Topic)
	}
}

func TestBlank(t *testing.T) {
	id := uuid.New()
	dog := definitions.Blank(Dogs, id)
	if dog.ID() != id || dog.Version() != 0 || !dog.CreatedOn().IsZero() || len(dog.PendingEvents()) != 0 {
		t.Errorf("got %+v, want ID %v, Version 0 and 0 PendingEvents", dog, id)
	}
	if got := definitions.Of(Dogs).Root(dog); got != &dog.Aggregate {
		t.Errorf("got root %p, want %p", got, &dog.Aggregate)
	}
}

// logged is an event of which a log could be an aggregate.
type logged struct{}

func (logged) Apply(*domain.Log) {}
