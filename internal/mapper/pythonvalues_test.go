package mapper_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

// gauge is an aggregate with floats.
type gauge struct {
	domain.Aggregate
	Value float64 `json:"value"`
	Any   any     `json:"any"`
}

type gaugeRead struct {
	Value float64 `json:"value"`
	Any   any     `json:"any"`
}

func (e gaugeRead) Apply(g *gauge) { g.Value, g.Any = e.Value, e.Any }

var gauges = domain.Define("zoo.domain:Gauge", domain.On("Read", gaugeRead{}, domain.SchemaVersion(3)))

// Events and snapshots with the floats that JSON does not have are read as
// Python wrote them, and written so.
func TestPythonFloats(t *testing.T) {
	t.Parallel()
	m := newMapper(t, mapper.Config{Application: school, PythonLayout: true, Transcoder: python.NewTranscoder()}, gauges)
	event := gauges.NewEvent(sampleID, 2, gaugeRead{math.Inf(-1), []any{math.NaN(), "NaN", 1.0}}, domain.At(sampleTime))
	stored := toStored(t, m, event)
	if got, want := string(stored.State), sampleStamp+`,"value":-Infinity,"any":[NaN,"NaN",1.0],"class_version":3}`; got != want {
		t.Errorf("the event is %s, want %s", got, want)
	}
	own := newMapper(t, mapper.Config{Application: school}, gauges)
	for _, m := range []*mapper.Mapper{m, own} {
		read, err := m.ToDomain(stored)
		if err != nil {
			t.Fatal(err)
		}
		if data := read.Data.(gaugeRead); !math.IsInf(data.Value, -1) || !math.IsNaN(data.Any.([]any)[0].(float64)) || data.Any.([]any)[1] != "NaN" {
			t.Errorf("read as %+v, want %q", data, "NaN")
		}
	}
	snapshot := definitions.Of(gauges).TakeSnapshot(gauges.Create(sampleID, gaugeRead{math.NaN(), math.Inf(1)}))
	stored, err := m.SnapshotToStored(snapshot)
	if err != nil || !strings.Contains(string(stored.State), `"value":NaN,"any":Infinity`) {
		t.Fatalf("the snapshot is %s, %v, want no error and it to contain %q", stored.State, err, `"value":NaN,"any":Infinity`)
	}
	if _, err := m.SnapshotToDomain(stored); err != nil {
		t.Errorf("the snapshot is not read: %v", err)
	}
	if _, err := own.SnapshotToDomain(stored); err == nil {
		t.Error("a snapshot whose fields cannot be compared was read, and not passed over")
	}
}

// An event of a version that the program does not read is refused, and one of
// today's has the number that Python knows.
func TestPythonClassVersion(t *testing.T) {
	t.Parallel()
	m := newMapper(t, mapper.Config{Application: school, PythonLayout: true, Transcoder: python.NewTranscoder()}, gauges)
	stored := toStored(t, m, gauges.NewEvent(sampleID, 2, gaugeRead{Value: 1}, domain.At(sampleTime)))
	for version, want := range map[string]bool{"1": false, "2": false, "3": true, "4": false} {
		other := stored
		other.State = []byte(strings.Replace(string(stored.State), `"class_version":3`, `"class_version":`+version, 1))
		_, err := m.ToDomain(other)
		_, refused := errors.AsType[*eventtype.VersionError](err)
		if (err == nil) != want || !want && !refused {
			t.Errorf("class_version %s: %v, want it to be read: %v", version, err, want)
		}
	}
}

// What Python could not resolve to a class is refused in its layout.
func TestPythonNames(t *testing.T) {
	t.Parallel()
	on := func(options ...domain.TypeOption) domain.Option[account] {
		return domain.On("Opened", accountOpened{}, options...)
	}
	for name, test := range map[string]struct {
		schema domain.Schema
		want   string
	}{
		"own name":           {schema: domain.Define("Account", on()), want: "Account.Opened"},
		"former name":        {schema: domain.Define("Account", on(), domain.FormerName[account]("bank.domain:Account"))},
		"name of Python":     {schema: domain.Define("bank.domain:Account", on())},
		"only the aggregate": {schema: domain.Define("bank.domain:Account", on(domain.StoredAs("opened"))), want: "opened"},
		"only the event":     {schema: domain.Define("Account", on(domain.StoredAs("bank.events:Opened"))), want: "Account"},
		"log":                {schema: domain.Define("Log", domain.Entry("Entered", accountOpened{})), want: "Log.Entered"},
		"log of Python":      {schema: domain.Define("bank.domain:Log", domain.Entry("Entered", accountOpened{}))},
	} {
		python, own := mapper.New(mapper.Config{Application: school, PythonLayout: true}), mapper.New(mapper.Config{Application: school})
		err := python.CheckNames(test.schema)
		if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), "use "+test.want+" in the Python layout") ||
			!errors.Is(err, persistence.ErrProgramming)) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
		if err := own.CheckNames(test.schema); err != nil {
			t.Errorf("%s in the layout of this module: %v", name, err)
		}
	}
}

// A field that has a name of the layout itself would be written beside it: the
// event could not be read any more, or the library would set it to something
// else. It is refused, but not in an attribute of an aggregate that may have it,
// nor below the top.
func TestReservedNames(t *testing.T) {
	t.Parallel()
	m := newMapper(t, mapper.Config{Application: school, PythonLayout: true})
	for name, test := range map[string]struct {
		schema domain.Schema
		want   string
	}{
		"timestamp":          {domain.Define("zoo.domain:A", domain.On("X", withTimestamp{})), "the field At has the name timestamp"},
		"promoted":           {domain.Define("zoo.domain:B", domain.On("X", withPromoted{})), "the field Of has the name originator_id"},
		"class_version":      {domain.Define[withClassVersion]("zoo.domain:C"), "the field V has the name class_version"},
		"nested":             {domain.Define("zoo.domain:D", domain.On("X", withNested{})), ""},
		"timestamp of state": {domain.Define[withStateTimestamp]("zoo.domain:E"), ""},
	} {
		err := m.CheckNames(test.schema)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
		if err := newMapper(t, mapper.Config{Application: school}).CheckNames(test.schema); err != nil {
			t.Errorf("%s in the layout of this module: %v", name, err)
		}
	}
}

type (
	withTimestamp struct {
		At string `json:"timestamp"`
	}
	Base struct {
		Of string `json:"originator_id,omitempty"`
	}
	withPromoted     struct{ Base }
	withClassVersion struct {
		domain.Aggregate
		V int `json:"class_version"`
	}
	withNested struct {
		Inner withTimestamp `json:"inner"`
	}
	withStateTimestamp struct {
		domain.Aggregate
		At string `json:"timestamp"`
	}
)

func (withTimestamp) Apply(*account) {}
func (withPromoted) Apply(*account)  {}
func (withNested) Apply(*account)    {}

type misspelt struct {
	Amount int `json:"ammount"`
	Note   struct {
		By string `json:"by"`
	} `json:"note"`
}

func (misspelt) Apply(*account) {}

// Fields that are read from nowhere and keys that nothing reads are found.
func TestEventFields(t *testing.T) {
	t.Parallel()
	m := newMapper(t, mapper.Config{Application: school}, domain.Define("zoo.domain:M", domain.On("X", misspelt{}, domain.SchemaVersion(2))))
	for state, want := range map[string]string{
		`,"amount":1,"note":{"by":"Ann","at":2}`: "[amount note.at] [ammount]",
		`,"ammount":1,"note":{"by":"Ann"}`:       "[] []",
		`,"ammount":NaN`:                         "[] []", // cannot be read
		``:                                       "[] [ammount note]",
	} {
		stored := persistence.StoredEvent{OriginatorID: sampleID, OriginatorVersion: 1, Topic: "zoo.domain:M.X",
			State: []byte(sampleStamp + `,"originator_topic":"zoo.domain:M"` + state + `,"class_version":2}`)}
		unread, absent := m.EventFields(stored)
		slices.Sort(unread)
		slices.Sort(absent)
		if got := fmt.Sprint(unread, absent); got != want {
			t.Errorf("%s: got %s, want %s", state, got, want)
		}
		stored.State = []byte(sampleStamp + state + `}`)
		if unread, absent := m.EventFields(stored); len(unread)+len(absent) > 0 {
			t.Errorf("an older event: got %v %v, want 0", unread, absent)
		}
	}
}

type amountPaid struct{ Amount, Timestamp int }

func (amountPaid) Apply(*account) {}

type centsPaid struct{ Cents, Timestamp int }

func (centsPaid) Apply(*account) {}

// A field that was renamed without an upcast is found in the layout of this
// module, too.
func TestEventFieldsOfARenamedField(t *testing.T) {
	t.Parallel()
	before := newMapper(t, mapper.Config{Application: school}, domain.Define("M", domain.On("Paid", amountPaid{})))
	after := newMapper(t, mapper.Config{Application: school}, domain.Define("M", domain.On("Paid", centsPaid{})))
	later := newMapper(t, mapper.Config{Application: school}, domain.Define("M", domain.On("Paid", centsPaid{},
		domain.Upcast(func(a amountPaid) centsPaid { return centsPaid{Cents: a.Amount} }))))
	stored := expect.Must(before.ToStored(domain.Event{OriginatorID: sampleID, OriginatorVersion: 1, Topic: "M.Paid", Data: amountPaid{Amount: 3}}))
	for name, c := range map[string]struct {
		m    *mapper.Mapper
		want string
	}{"before": {before, "[] []"}, "renamed": {after, "[Amount] [Cents]"}, "upcast": {later, "[] []"}} {
		unread, absent := c.m.EventFields(stored)
		if got := fmt.Sprint(unread, absent); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// The two layouts are told apart whatever they were compressed with.
func TestLayoutsAreToldApart(t *testing.T) {
	t.Parallel()
	config := chain{compressor: "zlib"}.config(t)
	own := newMapper(t, config, gauges)
	config.PythonLayout = true
	python := newMapper(t, config, gauges)
	event := gauges.NewEvent(sampleID, 2, gaugeRead{Any: strings.Repeat("a", 500)}, domain.At(sampleTime))
	inOwn, inPython := toStored(t, own, event), toStored(t, python, event)
	for _, m := range []*mapper.Mapper{own, python} {
		if m.LayoutOf(inOwn).Python || !m.LayoutOf(inPython).Python || m.CanOpen(inOwn) != nil || m.CanOpen(inPython) != nil {
			t.Error("the layouts are confused")
		}
	}
	inPython.State = []byte("damaged")
	if layout := own.LayoutOf(inPython); layout.Python || layout.Plain != 0 || own.CanOpen(inPython) == nil {
		t.Errorf("a state that cannot be read has a layout: got %v, want Plain 0 and CanOpen other than nil", layout.Plain)
	}
}
