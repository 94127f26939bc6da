package jsontranscoder_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

type money struct{ Cents int64 }

func (m *money) UnmarshalText(text []byte) error {
	_, err := fmt.Sscanf(strings.ReplaceAll(string(text), ".", ""), "%d", &m.Cents)
	return err
}

// TestOtherTargets decodes values with and without a transcoding into types
// that are not the transcoding's.
func TestOtherTargets(t *testing.T) {
	t.Parallel()
	type targets struct {
		Text    string
		Money   money
		Pointer *money
		Raw     json.RawMessage
		Clock   clockTime
		Texter  fmt.Stringer
		Quoted  float64 `json:",string"`
	}
	const decimal = `{"_type_":"decimal_str","_data_":"10.00"}`
	const id = `{"_type_":"uuid_hex","_data_":"b2723fe2c01a40d2875ea3aac6a09ff5"}`
	data := `{"Text":` + decimal + `,"Money":` + decimal + `,"Pointer":` + decimal + `,"Raw":` + decimal +
		`,"Clock":{"_type_":"datetime_iso","_data_":"2024-01-02T03:04:05.678901+00:00"},"Texter":` + id + `,"Quoted":` + decimal + `}`
	got := decode[targets](t, newTranscoder(), data)
	want := targets{"10.00", money{1000}, &money{1000}, json.RawMessage(decimal), clockTime{sampleTime}, sampleID, 10}
	got.Clock.Time = got.Clock.UTC()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// clockTime is a time of another package.
type clockTime struct{ time.Time }

// TestPlainForms decodes the form that encoding/json gives to a type into the
// type with a transcoding.
func TestPlainForms(t *testing.T) {
	t.Parallel()
	type event struct {
		ID     uuid.UUID
		At     time.Time
		Amount python.Decimal
	}
	want := event{sampleID, sampleTime, "10.00"}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if got := decode[event](t, newTranscoder(), string(data)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := encode(t, jsontranscoder.New(), want); got != string(data) {
		t.Errorf("without transcodings: got %s, want %s", got, data)
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		time time.Time
		want string
	}{
		{"other zone", sampleTime.In(time.FixedZone("X", 3600)), "2024-01-02T03:04:05.678901+00:00"},
		{"nanoseconds are cut", sampleTime.Add(999), "2024-01-02T03:04:05.678901+00:00"},
		{"less than a microsecond", time.Date(2024, 1, 2, 3, 4, 5, 999, time.UTC), "2024-01-02T03:04:05+00:00"},
		{"trailing zeros stay", time.Date(2024, 1, 2, 3, 4, 5, 500000000, time.UTC), "2024-01-02T03:04:05.500000+00:00"},
		{"zero", time.Time{}, "0001-01-01T00:00:00+00:00"},
		{"last", time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), "9999-12-31T23:59:59.999999+00:00"},
	}
	transcoder := newTranscoder()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			data := encode(t, transcoder, test.time)
			if want := `{"_type_":"datetime_iso","_data_":"` + test.want + `"}`; data != want {
				t.Errorf("Encode: got %s, want %s", data, want)
			}
			want := test.time.UTC().Truncate(time.Microsecond)
			if got := decode[time.Time](t, transcoder, data); got != want {
				t.Errorf("Decode: got %v, want %v", got, want)
			}
		})
	}
}

func TestDecimals(t *testing.T) {
	t.Parallel()
	transcoder := newTranscoder()
	for _, number := range []python.Decimal{
		"0", "-0", "10.00", "+1", "1.", ".5", "1E+3", "1e-10", "0E-7", "123456789012345678901234567890.1",
		"NaN", "-NaN", "sNaN", "NaN123", "-sNaN7", "Infinity", "-Infinity",
	} {
		if got := decode[python.Decimal](t, transcoder, encode(t, transcoder, number)); got != number {
			t.Errorf("got %q, want %q", got, number)
		}
	}
	for _, number := range []python.Decimal{
		"", ".", "-", "1e", "1,0", "0x1", " 1", "1 ", "1\n", "١", "1_0", "nan", "NaN1.0", "sInfinity", "Infinity1",
	} {
		if data, err := transcoder.Encode(nil, number); err == nil {
			t.Errorf("Encode(%q): got %s, want an error", number, data)
		}
	}
}

// TestFreeForm shows that what a field of type any holds comes back with its
// type, or is refused.
func TestFreeForm(t *testing.T) {
	t.Parallel()
	type event struct{ Value any }
	transcoder := newTranscoder(customTranscodings()...)
	kept := []any{
		nil, true, "a", "", int64(5), int64(math.MinInt64), int64(math.MaxInt64), 5.0, -2.0, 0.0, 0.5, 1e16, 1e20, 1e21, 1e-7, 1e300,
		math.MaxFloat64, math.SmallestNonzeroFloat64, new(big.Int).SetUint64(math.MaxUint64), new(big.Int).Lsh(big.NewInt(-3), 200), []any{}, []any{1.0, int64(1), nil}, object{}, object{"a": object{"b": 3.0}},
		sampleID, sampleTime, python.Decimal("1.10"), customType2{customType1{sampleID}},
	}
	for _, value := range kept {
		for _, whole := range []event{{value}, {object{"key": value}}, {[]any{value, value}}} {
			if back := decode[event](t, transcoder, encode(t, transcoder, whole)); !reflect.DeepEqual(back, whole) {
				t.Errorf("got %#v, want %#v", back, whole)
			}
		}
	}
	minus := decode[event](t, transcoder, encode(t, transcoder, event{math.Copysign(0, -1)}))
	if f, ok := minus.Value.(float64); !ok || !math.Signbit(f) {
		t.Errorf("got %#v, want a negative zero", minus.Value)
	}
	type text string
	pointer := 5.0
	refused := []any{
		5, int8(5), uint64(math.MaxUint64), big.NewInt(5), (*big.Int)(nil), uint8(1), float32(0.5), json.Number("1.10"), json.RawMessage(`{"a":1.0}`), []byte("ab"),
		[]string{"a"}, [2]any{}, map[string]string{}, map[int]any{}, object(nil), []any(nil), text("a"), &pointer, (*int)(nil),
		struct{ A int }{}, time.Second, &sampleID, math.NaN(),
	}
	for _, value := range refused {
		for _, whole := range []any{event{value}, event{object{"key of the payload": []any{value}}}, object{"a": value}, []any{value}} {
			data, err := transcoder.Encode(nil, whole)
			if err == nil {
				t.Errorf("%#v: got %s, want an error", value, data)
				continue
			}
			wantTranscodingError(t, err, "")
		}
	}
}

// TestExactNames shows that a key means the field of exactly that name.
func TestExactNames(t *testing.T) {
	t.Parallel()
	type event struct {
		Amount int `json:"amount"`
		ID     int
		Lower  int `json:"id"`
	}
	for data, want := range map[string]event{
		`{"amount":5,"AMOUNT":7}`:  {Amount: 5},
		`{"AMOUNT":7,"Amount":8}`:  {},
		`{"ID":2,"id":3,"Id":4}`:   {ID: 2, Lower: 3},
		`{"iD":4,"id":3,"ID":2}`:   {ID: 2, Lower: 3},
		`{"a_mount":1,"amount":5}`: {Amount: 5},
	} {
		if got := decode[event](t, newTranscoder(), data); got != want {
			t.Errorf("%s: got %+v, want %+v", data, got, want)
		}
	}
}
