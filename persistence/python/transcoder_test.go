package python_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/pythontest"
	"github.com/eventsourcing-go/eventsourcing/internal/transcoding"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

// encode encodes a value as a state of the Python layout has it.
func encode(t *testing.T, value any) string {
	t.Helper()
	transcoder := newTranscoder()
	data, err := transcoder.Encode(nil, value)
	if err != nil {
		t.Fatalf("%#v: %v", value, err)
	}
	return string(transcoder.UnquoteFloats(data))
}

func decode[T any](t *testing.T, data string) (value T) {
	t.Helper()
	transcoder := newTranscoder()
	if err := transcoder.Decode(transcoder.QuoteFloats([]byte(data)), &value); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return value
}

func datetime(text string) string { return `{"_type_":"datetime_iso","_data_":"` + text + `"}` }

func newTranscoder() transcoding.JSON { return python.NewTranscoder().(transcoding.JSON) }

// What Python has written is read into a field of any type and written again as
// it was.
func TestValuesInFreeForm(t *testing.T) {
	t.Parallel()
	zone := func(offset int) *time.Location { return time.FixedZone("", offset) }
	for data, want := range map[string]any{
		`1.0`: 1.0, `0.0`: 0.0, `1e+16`: 1e16, `1000000000000000.0`: 1e15, `1e-05`: 1e-5, `0.0001`: 1e-4, `1.5e+300`: 1.5e300, `1e-07`: 1e-7,
		`5e-324`: math.SmallestNonzeroFloat64, `0.1`: 0.1, `123456789012345.6`: 123456789012345.6,
		`NaN`: math.NaN(), `Infinity`: math.Inf(1), `-Infinity`: math.Inf(-1),
		`[NaN,"NaN","-Infinity \" Infinity",{"NaN":Infinity}]`: []any{math.NaN(), "NaN", `-Infinity " Infinity`, map[string]any{"NaN": math.Inf(1)}},
		`1`: int64(1), `-9223372036854775808`: int64(math.MinInt64), `9223372036854775808`: new(big.Int).SetUint64(1 << 63),
		`-10000000000000000000000000000000000000000`: new(big.Int).Neg(new(big.Int).Exp(big.NewInt(10), big.NewInt(40), nil)),
		`[]`: []any{}, `{}`: map[string]any{}, `null`: nil,
		datetime("2025-01-01T02:00:00+02:00"):         time.Date(2025, 1, 1, 2, 0, 0, 0, zone(7200)),
		datetime("2025-01-01T02:00:00.000001-03:30"):  time.Date(2025, 1, 1, 2, 0, 0, 1000, zone(-12600)),
		datetime("2025-01-01T02:00:00+01:24:12"):      time.Date(2025, 1, 1, 2, 0, 0, 0, zone(5052)),
		datetime("2025-01-01T02:00:00+00:00"):         time.Date(2025, 1, 1, 2, 0, 0, 0, time.UTC),
		datetime("2024-01-02T03:04:05"):               time.Date(2024, 1, 2, 3, 4, 5, 0, python.Naive),
		datetime("2024-01-02T03:04:05.600000"):        time.Date(2024, 1, 2, 3, 4, 5, 600_000_000, python.Naive),
		datetime("0001-01-01T00:00:00+14:00"):         time.Date(1, 1, 1, 0, 0, 0, 0, zone(50400)),
		datetime("9999-12-31T23:59:59.999999-12:00"):  time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, zone(-43200)),
		`{"_type_":"decimal_str","_data_":"-NaN123"}`: python.Decimal("-NaN123"),
	} {
		got := decode[any](t, data)
		if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) && !reflect.DeepEqual(got, want) && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s is read as %#v, want %#v", data, got, want)
		}
		if reflect.TypeOf(got) != reflect.TypeOf(want) {
			t.Errorf("%s is read as a %T, want a %T", data, got, want)
		}
		if again := encode(t, got); again != data {
			t.Errorf("%s is written as %s, want the same", data, again)
		}
	}
	if minus := decode[any](t, `-0.0`).(float64); !math.Signbit(minus) || encode(t, minus) != `-0.0` {
		t.Errorf("-0.0 is read as %v, want -0.0", minus)
	}
}

type celsius float64

// ownForm is a float with methods that write and read its form.
type ownForm float64

func (f ownForm) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "about %.0f", float64(f)), nil
}
func (f *ownForm) UnmarshalText(text []byte) error {
	_, err := fmt.Sscanf(string(text), "about %f", (*float64)(f))
	return err
}

type reading struct {
	Degrees celsius            `json:"degrees"`
	Single  float32            `json:"single"`
	Pointer *float64           `json:"pointer"`
	Absent  *float64           `json:"absent"`
	Some    []float64          `json:"some"`
	ByName  map[string]celsius `json:"by_name"`
	Text    float64            `json:"text,string"`
	Own     ownForm            `json:"own"`
	Large   *big.Int           `json:"large"`
	None    []string           `json:"none"`
	Nothing map[string]int     `json:"nothing"`
	Bytes   []byte             `json:"bytes"`
	Raw     json.RawMessage    `json:"raw"`
	Whole   int                `json:"whole"`
	At      time.Time          `json:"at"`
	Inner   struct {
		F float64 `json:"f"`
	} `json:"inner"`
	Optional *time.Time `json:"optional"`
}

// Typed fields are written with the types that Python has for them.
func TestValuesInFields(t *testing.T) {
	t.Parallel()
	half := 2.0
	value := reading{Degrees: 21, Single: 0.1, Pointer: &half, Some: []float64{1, math.NaN(), math.Inf(-1)}, ByName: map[string]celsius{"a": 1e16},
		Text: 3, Own: 4, Large: new(big.Int).Lsh(big.NewInt(1), 64), Raw: json.RawMessage(`{"a":1}`), Whole: 5,
		At: time.Date(2024, 1, 2, 3, 4, 5, 0, python.Naive)}
	value.Inner.F = -1
	want := `{"degrees":21.0,"single":0.1,"pointer":2.0,"absent":null,"some":[1.0,NaN,-Infinity],"by_name":{"a":1e+16},"text":"3.0",` +
		`"own":"about 4","large":18446744073709551616,"none":[],"nothing":{},"bytes":"","raw":{"a":1},"whole":5,` +
		`"at":` + datetime("2024-01-02T03:04:05") + `,"inner":{"f":-1.0},"optional":null}`
	if got := encode(t, value); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	again := decode[reading](t, want)
	if again.Degrees != 21 || !math.IsNaN(again.Some[1]) || !math.IsInf(again.Some[2], -1) || again.At.Location() != python.Naive ||
		again.Large.Cmp(value.Large) != 0 || again.None == nil || again.Nothing == nil {
		t.Errorf("got %+v", again)
	}
	if got := encode(t, again); got != want {
		t.Errorf("written again:\n%s, want\n%s", got, want)
	}
	named := decode[struct {
		Degrees celsius `json:"degrees"`
		Single  float32 `json:"single"`
	}](t, `{"degrees":Infinity,"single":NaN}`)
	// NaN is not equal to itself.
	if !math.IsInf(float64(named.Degrees), 1) || named.Single == named.Single {
		t.Errorf("got %+v, want Degrees infinity and Single NaN", named)
	}
}

// Floats have the digits that Python's repr gives them.
func TestFloatsAreThoseOfPython(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var numbers []float64
	for len(numbers) < 5_000 {
		if f := math.Float64frombits(random.Uint64()); !math.IsNaN(f) && !math.IsInf(f, 0) {
			numbers = append(numbers, f, math.Trunc(math.Mod(f, 1e17)), float64(random.Int64N(1_000_000))/1000)
		}
	}
	for exponent := -8; exponent < 24; exponent++ {
		power := math.Pow10(exponent)
		numbers = append(numbers, power, -power, power*9.999999, math.Nextafter(power, 0), math.Nextafter(power, math.Inf(1)))
	}
	var input strings.Builder
	for _, f := range numbers {
		input.WriteString(strconv.FormatFloat(f, 'x', -1, 64) + "\n")
	}
	output := pythontest.Eval(t, "import sys, json\nfor line in sys.stdin: print(json.dumps(float.fromhex(line)))", input.String())
	for i, want := range strings.Split(strings.TrimSpace(output), "\n") {
		if got := encode(t, numbers[i]); got != want {
			t.Errorf("%x is written as %s, and Python writes %s", numbers[i], got, want)
		}
	}
}

// Values that cannot be written are refused, and what is no JSON stays so.
func TestValuesThatAreRefused(t *testing.T) {
	t.Parallel()
	transcoder := newTranscoder()
	for _, value := range []any{
		time.Date(0, 12, 31, 23, 0, 0, 0, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), "\xff",
		struct {
			F float64 `json:"f,string"`
		}{math.NaN()},
	} {
		if data, err := transcoder.Encode(nil, value); !errors.Is(err, persistence.ErrData) {
			t.Errorf("%#v: got %s, %v, want an error", value, data, err)
		}
	}
	for _, data := range []string{`Nan`, `NaNN`, `-NaN`, `+Infinity`, `Infinityx`, `{NaN:1}`, `"NaN`, `NaN NaN`, `[Infinity`} {
		var value any
		if err := transcoder.Decode(transcoder.QuoteFloats([]byte(data)), &value); err == nil {
			t.Errorf("%s is read as %v, want an error", data, value)
		}
	}
	var whole struct {
		N int `json:"n"`
	}
	if err := transcoder.Decode(transcoder.QuoteFloats([]byte(`{"n":NaN}`)), &whole); err == nil || strings.Contains(err.Error(), "_type_") {
		t.Errorf("got %v, want an error", err)
	}
	own := jsontranscoder.New(python.Transcodings()...)
	if data, err := own.Encode(nil, math.NaN()); err == nil {
		t.Errorf("the layout of this module writes %s", data)
	}
}

// FuzzQuoteFloats: what has no tokens of Python's stays as it is, and quoting
// is undone.
func FuzzQuoteFloats(f *testing.F) {
	for _, seed := range []string{`NaN`, `["NaN",NaN]`, `{"a\"NaN":-Infinity}`, `"Infinity`, `-`, `\NaN`} {
		f.Add([]byte(seed))
	}
	transcoder := newTranscoder()
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "_type_") {
			return
		}
		quoted := transcoder.QuoteFloats(data)
		if back := transcoder.UnquoteFloats(quoted); string(back) != string(data) {
			t.Errorf("%q comes back as %q, want %v", data, back, string(data))
		}
		if json.Valid(data) && string(quoted) != string(data) {
			t.Errorf("%q is JSON, and became %q", data, quoted)
		}
	})
}

// A field without a json tag would have a name that Python does not know.
func TestFieldsNeedNamesOfPython(t *testing.T) {
	t.Parallel()
	type inner struct {
		Name string
	}
	type aggregate struct {
		domain.Aggregate
		Name string `json:"name"`
	}
	transcoder := newTranscoder()
	for _, test := range []struct {
		value any
		want  string
	}{
		{struct{ DogID uuid.UUID }{}, `.DogID cannot be stored: the Python layout needs the name that Python has; give the field a tag such as json:"dog_id"`},
		{struct {
			Inner []map[string]*inner `json:"inner"`
		}{}, `inner.Name cannot be stored: the Python layout needs the name that Python has; give the field a tag such as json:"name"`},
		{struct {
			HTTPServerID int `json:",omitempty"`
		}{}, `json:"http_server_id"`},
		{aggregate{}, ""},
		{struct {
			At  time.Time `json:"at"`
			Own ownForm   `json:"own"`
		}{}, ""},
		{struct{ private int }{}, "not exported"},
	} {
		err := transcoder.CheckType(reflect.TypeOf(test.value))
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%T: got %v, want %q", test.value, err, test.want)
		}
	}
}

// None is read as the zero of a field that is no pointer, which is then written
// as such; a pointer keeps it.
func TestNone(t *testing.T) {
	t.Parallel()
	type fields struct {
		Text    string          `json:"text"`
		Number  int64           `json:"number"`
		List    []string        `json:"list"`
		Pointer *string         `json:"pointer"`
		Fee     *python.Decimal `json:"fee"`
		At      *time.Time      `json:"at"`
		Any     any             `json:"any"`
	}
	got := decode[fields](t, `{"text":null,"number":null,"list":null,"pointer":null,"fee":null,"at":null,"any":null}`)
	want := `{"text":"","number":0,"list":[],"pointer":null,"fee":null,"at":null,"any":null}`
	if again := encode(t, got); again != want {
		t.Errorf("written again as %s, want %s", again, want)
	}
}
