package mapper_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/transcoding"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
)

// Three programs of a rolling deployment. The old one has tricks with a name;
// the first deployment reads tricks with a level as well, and the second writes
// them.
type (
	trickV1 struct {
		Trick string `json:"trick"`
	}
	trickV2 struct {
		Trick string   `json:"trick"`
		Level int      `json:"level"`
		Tags  []string `json:"tags"`
	}
)

func (trickV1) Apply(*Dog) {}
func (trickV2) Apply(*Dog) {}

var (
	upcastTrick   = domain.Upcast(func(e trickV1) trickV2 { return trickV2{Trick: e.Trick, Level: 1} })
	downcastTrick = domain.Downcast(func(e trickV2) trickV1 { return trickV1{Trick: e.Trick} })

	named             = domain.FormerName[Dog]("training_school.domain:Dog")
	oldTricks         = domain.Define("Dog", domain.On("TrickAdded", trickV1{}), named)
	firstDeployment   = domain.Define("Dog", domain.On("TrickAdded", trickV2{}, upcastTrick, downcastTrick), named)
	secondDeployment  = domain.Define("Dog", domain.On("TrickAdded", trickV2{}, upcastTrick), named)
	rollingTrickEvent = func(d *domain.Definition[Dog], data any) domain.Event {
		event := d.NewEvent(sampleID, 2, data, domain.At(sampleTime))
		event.ID = sampleID
		return event
	}
)

// With Downcast the states are those of the old program, byte for byte, and
// every program reads every state that is written beside it.
func TestDowncastWritesTheStatesOfTheOldProgram(t *testing.T) {
	t.Parallel()
	for _, chain := range chains() {
		for _, python := range []bool{false, true} {
			config := chain.config(t)
			config.PythonLayout = python
			before, first, second := newMapper(t, config, oldTricks), newMapper(t, config, firstDeployment),
				newMapper(t, config, secondDeployment)
			byOld := toStored(t, before, rollingTrickEvent(oldTricks, trickV1{"sit"}))
			byFirst := toStored(t, first, rollingTrickEvent(firstDeployment, trickV2{Trick: "sit", Level: 1}))
			bySecond := toStored(t, second, rollingTrickEvent(secondDeployment, trickV2{Trick: "sit", Level: 3, Tags: []string{"fun"}}))
			if chain.cipher == "" && !reflect.DeepEqual(byFirst, byOld) {
				t.Errorf("%v: got %+v\nwant %+v", chain, byFirst, byOld)
			}
			for _, read := range []struct {
				name   string
				m      *mapper.Mapper
				stored persistence.StoredEvent
				want   any
			}{
				{"the old one the first", before, byFirst, trickV1{"sit"}},
				{"the first one the old", first, byOld, trickV2{Trick: "sit", Level: 1}},
				{"the first one its own", first, byFirst, trickV2{Trick: "sit", Level: 1}},
				{"the first one the second", first, bySecond, trickV2{Trick: "sit", Level: 3, Tags: []string{"fun"}}},
				{"the second one the first", second, byFirst, trickV2{Trick: "sit", Level: 1}},
			} {
				if got, err := read.m.ToDomain(read.stored); err != nil || !reflect.DeepEqual(got.Data, read.want) {
					t.Errorf("%v, Python layout %v: %s: got %+v, %v, want %+v", chain, python, read.name, got.Data, err, read.want)
				}
			}
			if _, err := before.ToDomain(bySecond); !errors.Is(err, persistence.ErrNewerProgram) {
				t.Errorf("%v: the old program reads the second: %v, want an error that is %v", chain, err, persistence.ErrNewerProgram)
			}
		}
	}
}

// What is applied is what is read later.
func TestDowncastRefusesWhatItWouldLose(t *testing.T) {
	t.Parallel()
	for _, python := range []bool{false, true} {
		m := newMapper(t, mapper.Config{Application: school, PythonLayout: python}, firstDeployment)
		_, err := m.ToStored(rollingTrickEvent(firstDeployment, trickV2{Trick: "sit", Level: 2}))
		if mapping := expect.ErrorAs[*persistence.MappingError](t, err); mapping.Stage != "encode" || !errors.Is(err, persistence.ErrData) {
			t.Errorf("got %+v, want Stage %q and an error that is %v", mapping, "encode", persistence.ErrData)
		}
		expect.Contains(t, err.Error(), "domain.Downcast", "cannot hold")
		if _, err := m.ToStored(rollingTrickEvent(firstDeployment, trickV2{Trick: "sit", Level: 1})); err != nil {
			t.Error(err)
		}
	}
	// Nil and empty are two payloads, unless the transcoder stores them alike.
	tags := domain.Define("Dog", domain.On("TrickAdded", trickV2{},
		domain.Upcast(func(e trickV1) trickV2 { return trickV2{Trick: e.Trick, Level: 1, Tags: []string{}} }), downcastTrick))
	transcoder := jsontranscoder.New().(transcoding.JSON)
	for _, emptyForNil := range []bool{false, true} {
		config := mapper.Config{Application: school, Transcoder: transcoder.ForProgram(transcoding.Form{EmptyForNil: emptyForNil})}
		_, err := newMapper(t, config, tags).ToStored(rollingTrickEvent(tags, trickV2{Trick: "sit", Level: 1}))
		if accepted := err == nil; accepted != emptyForNil {
			t.Errorf("nil is stored as empty: %v: got %v", emptyForNil, err)
		}
	}
}

// A type that is written in an earlier form is one that can be stored.
func TestDowncastChecksTheWrittenType(t *testing.T) {
	t.Parallel()
	type hidden struct{ trick string }
	definition := domain.Define("Dog", domain.On("TrickAdded", trickV1{},
		domain.Upcast(func(e hidden) trickV1 { return trickV1{e.trick} }), domain.Downcast(func(e trickV1) hidden { return hidden{e.Trick} })))
	err := mapper.New(mapper.Config{Application: school, Transcoder: newMapper(t, mapper.Config{}).Transcoder()}).Add(definition)
	expect.ErrorAs[*invalid.Error](t, err)
}
