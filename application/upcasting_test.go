package application_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// Four versions of one program. Version 2 renames A to AA, in upper case;
// version 3 adds B, which was 0; version 4 adds C, which was empty, and an
// event that sets D.

// The states of the four versions, each with its event of creation.
type (
	stateV1 struct{ A string }
	stateV2 struct{ AA string }
	stateV3 struct {
		AA string
		B  int
	}
	stateV4 struct {
		AA string
		B  int
		C  []string
		D  *string
	}

	createdV1 stateV1
	createdV2 stateV2
	createdV3 stateV3
	createdV4 struct {
		AA string
		B  int
		C  []string
	}
	renamedV4 struct{ D string }
)

type thing struct {
	domain.Aggregate
	stateV4 // today's, which the older programs use the fields of that they know
}

func (e createdV1) Apply(t *thing) { t.AA = e.A }
func (e createdV2) Apply(t *thing) { t.AA = e.AA }
func (e createdV3) Apply(t *thing) { t.AA, t.B = e.AA, e.B }
func (e createdV4) Apply(t *thing) { t.AA, t.B, t.C = e.AA, e.B, e.C }
func (e renamedV4) Apply(t *thing) { t.D = &e.D }

var (
	upcastEvents = []domain.TypeOption{
		domain.Upcast(func(e createdV1) createdV2 { return createdV2{AA: strings.ToUpper(e.A)} }),
		domain.Upcast(func(e createdV2) createdV3 { return createdV3{AA: e.AA, B: 0} }),
		domain.Upcast(func(e createdV3) createdV4 { return createdV4{AA: e.AA, B: e.B, C: []string{}} }),
	}
	upcastStates = []domain.TypeOption{
		domain.Upcast(func(s stateV1) stateV2 { return stateV2{AA: strings.ToUpper(s.A)} }),
		domain.Upcast(func(s stateV2) stateV3 { return stateV3{AA: s.AA, B: 0} }),
		domain.Upcast(func(s stateV3) stateV4 { return stateV4{AA: s.AA, B: s.B, C: []string{}} }),
	}
)

// versions are the four programs: what each defines, and the event that each
// begins a thing with.
var versions = []struct {
	definition *domain.Definition[thing]
	created    domain.EventOf[thing]
	want       stateV4 // as today's program reads what this one wrote
}{
	{
		domain.Define("Thing", domain.On("Created", createdV1{}),
			domain.State(func(t *thing) stateV1 { return stateV1{t.AA} }, func(s stateV1) *thing { return &thing{stateV4: stateV4{AA: s.A}} })),
		createdV1{A: "text"}, stateV4{AA: "TEXT", C: []string{}},
	},
	{
		domain.Define("Thing", domain.On("Created", createdV2{}, upcastEvents[:1]...),
			domain.State(func(t *thing) stateV2 { return stateV2{t.AA} }, func(s stateV2) *thing { return &thing{stateV4: stateV4{AA: s.AA}} }, upcastStates[:1]...)),
		createdV2{AA: "Text"}, stateV4{AA: "Text", C: []string{}},
	},
	{
		domain.Define("Thing", domain.On("Created", createdV3{}, upcastEvents[:2]...),
			domain.State(func(t *thing) stateV3 { return stateV3{t.AA, t.B} }, func(s stateV3) *thing { return &thing{stateV4: stateV4{AA: s.AA, B: s.B}} }, upcastStates[:2]...)),
		createdV3{AA: "Text", B: 3}, stateV4{AA: "Text", B: 3, C: []string{}},
	},
	{
		domain.Define("Thing", domain.On("Created", createdV4{}, upcastEvents...), domain.On("Renamed", renamedV4{}),
			domain.State(func(t *thing) stateV4 { return t.stateV4 }, func(s stateV4) *thing { return &thing{stateV4: s} }, upcastStates...)),
		createdV4{AA: "Text", B: 4, C: []string{"c"}}, stateV4{AA: "Text", B: 4, C: []string{"c"}},
	},
}

// wantAsReadBy is what the program of a version knows of a state.
func wantAsReadBy(version int, state stateV4) stateV4 {
	if version < 4 {
		state.C = nil
	}
	if version < 3 {
		state.B = 0
	}
	if version < 2 {
		state.AA = strings.ToLower(state.AA)
	}
	return state
}

func things(tb testing.TB, store persistence.Factory, version int, logs *logs) *application.Repository[thing] {
	app := newApplication(tb, "Things", application.WithStore(store), application.WithSnapshotting(nil), application.WithLogger(logs.logger()))
	return expect.Must(application.NewRepository(app, versions[version-1].definition))
}

func TestUpcasting(t *testing.T) {
	for written := 1; written <= 4; written++ {
		for read := written; read <= 4; read++ {
			for _, snapshot := range []bool{false, true} {
				t.Run(fmt.Sprintf("written by v%d, read by v%d, snapshot %v", written, read, snapshot), func(t *testing.T) {
					testUpcasting(t, written, read, snapshot)
				})
			}
		}
	}
}

func testUpcasting(t *testing.T, written, read int, snapshot bool) {
	ctx, logs := t.Context(), &logs{}
	store := &counting{faulty: newFaulty()}
	before := things(t, store, written, logs)
	id := uuid.New()
	if err := before.Save(ctx, versions[written-1].definition.Create(id, versions[written-1].created)); err != nil {
		t.Fatal(err)
	}
	if snapshot {
		if err := before.TakeSnapshot(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	store.read = 0
	got, err := things(t, store, read, logs).Get(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if want := wantAsReadBy(read, versions[written-1].want); !reflect.DeepEqual(got.stateV4, want) || got.Version() != 1 {
		t.Errorf("got %+v, want %+v", got.stateV4, want)
	}
	// The event is that of the snapshot, or the only one. A snapshot that is not
	// used is logged.
	if store.read != 1 {
		t.Errorf("read %d events, snapshot %v, want 1", store.read, snapshot)
	}
	logs.want(t)
	if read < 4 {
		return
	}
	domain.Trigger(got, renamedV4{D: "new"}) // today's behaviour on yesterday's thing
	after := things(t, store, read, logs)
	if err := after.Save(ctx, got); err != nil {
		t.Fatal(err)
	}
	if again, err := after.Get(ctx, id); err != nil || again.D == nil || *again.D != "new" || again.AA != got.AA {
		t.Errorf("got %+v, %v, want no error, D \"new\" and AA %v", again, err, got.AA)
	}
}

func TestNewerSchemaVersion(t *testing.T) {
	store, logs := memory.New(), &logs{}
	id, ctx := uuid.New(), t.Context()
	newer := things(t, store, 3, logs)
	if err := newer.Save(ctx, versions[2].definition.Create(id, versions[2].created)); err != nil {
		t.Fatal(err)
	}
	if err := newer.TakeSnapshot(ctx, id); err != nil {
		t.Fatal(err)
	}
	_, err := things(t, store, 2, logs).Get(ctx, id)
	want := eventtype.VersionError{Topic: "Thing.Created", Stored: 3, Oldest: 1, Known: 2}
	if got := expect.ErrorAs[*eventtype.VersionError](t, err); *got != want {
		t.Errorf("got %+v, want %+v", *got, want)
	}
	mapping := expect.ErrorAs[*persistence.MappingError](t, err)
	if mapping.OriginatorID != id || mapping.OriginatorVersion != 1 || mapping.Topic != "Thing.Created" || mapping.Stage != "decode" {
		t.Errorf("got %+v, want OriginatorID %v, OriginatorVersion 1, Topic %q and Stage %q", mapping, id, "Thing.Created", "decode")
	}
	if !errors.Is(err, domain.ErrEventSourcing) {
		t.Errorf("%v is no ErrEventSourcing", err)
	}
	logs.want(t, "snapshot was passed over") // the newer snapshot; the newer event is the error
}

// Kennel is what Dog became: another Go type, another name, other events.
type Kennel struct {
	domain.Aggregate
	Label string
	Feats []string
}

type LabelGiven struct {
	Name string `json:"name"`
}

func (e LabelGiven) Apply(k *Kennel) { k.Label = e.Name }

type FeatLearned struct {
	Trick string `json:"trick"`
}

func (e FeatLearned) Apply(k *Kennel) { k.Feats = append(k.Feats, e.Trick) }

var Kennels = domain.Define("Kennel",
	domain.On("LabelGiven", LabelGiven{}, domain.Alias("Dog.Registered")),
	domain.On("TrickAdded", FeatLearned{}),
	domain.State(func(k *Kennel) kennelState { return kennelState{k.Label, k.Feats} },
		func(s kennelState) *Kennel { return &Kennel{Label: s.Name, Feats: s.Tricks} }),
	domain.FormerName[Kennel]("Dog"),
)

type kennelState struct {
	Name   string   `json:"name"`
	Tricks []string `json:"tricks"`
}

func TestRenaming(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		t.Run(fmt.Sprint("with a snapshot: ", snapshot), func(t *testing.T) {
			ctx, id, logs := t.Context(), school.DogID("Fido"), &logs{}
			store := &counting{faulty: newFaulty()}
			s := newSchool(t, application.WithStore(store), application.WithSnapshotting(nil), env("CIPHER_KEY", testKey))
			s.save(t, dogWith("Fido", 2))
			if snapshot {
				if err := s.dogs.TakeSnapshot(ctx, id); err != nil {
					t.Fatal(err)
				}
			}
			app := newApplication(t, "TrainingSchool", application.WithStore(store), application.WithSnapshotting(nil),
				application.WithLogger(logs.logger()), env("CIPHER_KEY", testKey))
			kennels := expect.Must(application.NewRepository(app, Kennels))
			store.read = 0
			kennel, err := kennels.Get(ctx, id)
			if err != nil || kennel.Label != "Fido" || fmt.Sprint(kennel.Feats) != "[trick 1 trick 2]" || kennel.Version() != 3 {
				t.Fatalf("got %+v, %v, want no error, Label %q, Feats %q and Version 3", kennel, err, "Fido", "[trick 1 trick 2]")
			}
			if used := store.read == 1; used != snapshot {
				t.Errorf("read %d events, snapshot %v", store.read, snapshot)
			}
			domain.Trigger(kennel, FeatLearned{Trick: "new"})
			if err := kennels.Save(ctx, kennel); err != nil {
				t.Fatal(err)
			}
			var topics []string
			for event, err := range bridge.Of(app).Events().Get(ctx, id, persistence.EventRange{}) {
				if err != nil {
					t.Fatal(err)
				}
				topics = append(topics, event.Topic)
			}
			if got, want := fmt.Sprint(topics), "[Dog.Registered Dog.TrickAdded Dog.TrickAdded Kennel.TrickAdded]"; got != want {
				t.Errorf("got topics %s, want %s: what is stored keeps its name", got, want)
			}
			logs.want(t)
		})
	}
}
