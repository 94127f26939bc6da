package system

import (
	"math/big"
	"reflect"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/transcoding"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

type flat struct {
	ID    domain.ID
	Name  string
	Cents [2]int64
}

// copiesPlain is that of the usual transcoder.
var copiesPlain = jsontranscoder.New(python.Transcodings()...).(transcoding.JSON).CopiesPlain

func recording(id int64, state string, data any) mapper.Recording {
	return mapper.Recording{Event: domain.Event{Data: data}, Notification: persistence.Notification{
		ID: id, StoredEvent: persistence.StoredEvent{State: []byte(state)}}}
}

func TestPushed(t *testing.T) {
	var p recentEvents
	first := recording(1, "a", flat{Name: "Fido"})
	if _, ok := p.event(first.Notification); ok {
		t.Error("an event was there before it was pushed")
	}
	p.add([]mapper.Recording{first}, copiesPlain)
	p.add([]mapper.Recording{first, recording(2, "b", []string{"shared"})}, copiesPlain)
	if event, ok := p.event(first.Notification); !ok || event.Data != (flat{Name: "Fido"}) {
		t.Errorf("got %v, %v, want Data %v", event.Data, ok, (flat{Name: "Fido"}))
	}
	if p.next != 1 {
		t.Errorf("%d places are taken, want 1", p.next)
	}
	if _, ok := p.event(recording(1, "z", nil).Notification); ok {
		t.Error("another state at the same position was taken for the event")
	}
	for id := int64(3); id < 3+pushedEvents; id++ {
		p.add([]mapper.Recording{recording(id, "c", flat{})}, copiesPlain)
	}
	if _, ok := p.event(first.Notification); ok || len(p.at) != pushedEvents {
		t.Errorf("%d events are kept, want %d", len(p.at), pushedEvents)
	}
}

// What a follower is given is its own, and what the store has.
func TestPushedIsNobodyElses(t *testing.T) {
	var p recentEvents
	saved := recording(1, "a", flat{Name: "Fido"})
	saved.Event.Metadata = domain.Metadata{"user": "alice"}
	p.add([]mapper.Recording{saved, recording(2, "b", flat{Name: "a\xffb"})}, copiesPlain)
	saved.Event.Metadata["user"] = "changed by the saver"
	first, _ := p.event(saved.Notification)
	first.Metadata["user"] = "changed by a follower"
	if second, _ := p.event(saved.Notification); second.Metadata["user"] != "alice" {
		t.Errorf("got %v, want %q", second.Metadata, "alice")
	}
	if _, ok := p.event(recording(2, "b", nil).Notification); ok {
		t.Error("a string that is not valid was pushed, which a store mends")
	}
}

func TestPlainTypes(t *testing.T) {
	type left struct {
		Name string `json:"-"`
	}
	for kind, want := range map[reflect.Type]bool{
		reflect.TypeFor[flat]():                       true,
		reflect.TypeFor[struct{}]():                   true,
		reflect.TypeFor[left]():                       false,
		reflect.TypeFor[struct{ Tricks []string }]():  false,
		reflect.TypeFor[struct{ At time.Time }]():     false,
		reflect.TypeFor[struct{ Price *int }]():       false,
		reflect.TypeFor[struct{ Amount big.Int }]():   false,
		reflect.TypeFor[struct{ Any any }]():          false,
		reflect.TypeFor[struct{ M map[string]int }](): false,
	} {
		var p recentEvents
		p.add(nil, copiesPlain)
		if got := p.isPlain(kind, copiesPlain); got != want {
			t.Errorf("%v: got %v, want %v", kind, got, want)
		}
		if p.plain = map[reflect.Type]bool{}; p.isPlain(kind, func(reflect.Type) bool { return false }) {
			t.Errorf("%v is plain with a transcoder that keeps nothing", kind)
		}
	}
}
