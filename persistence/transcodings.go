package persistence

import (
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// Transcoding says how values of one exact Go type are stored: under a name, as data of another type. Make it with
// NewTranscoding.
type Transcoding struct {
	name   string
	goType reflect.Type

	// marshaler makes the function that writes values of goType. The function
	// counts in written the values that it has written.
	marshaler func(written *int) *json.Marshalers
	// decode reads data and fills into, which is a pointer to goType.
	decode func(d *jsontext.Decoder, into any) error
}

// NewTranscoding makes the transcoding of T. The name is stored with every value, so it can never change. The
// functions turn a T into data of type D, which is encoded in turn and may contain values that have transcodings
// themselves, and back. They are called by many goroutines at once.
//
// T cannot be an interface or a pointer; pointers to T are stored as the T they point to. It cannot be one of the types
// that JSON has of its own either: bool, string, int64, float64, map[string]any and []any.
func NewTranscoding[T, D any](name string, encode func(T) (D, error), decode func(D) (T, error)) Transcoding {
	t := Transcoding{name: name, goType: reflect.TypeFor[T]()}
	prefix := []jsontext.Token{jsontext.BeginObject, jsontext.String(typeKey), jsontext.String(name), jsontext.String(dataKey)}
	t.marshaler = func(written *int) *json.Marshalers {
		return json.MarshalToFunc(func(e *jsontext.Encoder, value T) error {
			if isKey(e) {
				return errors.ErrUnsupported
			}
			data, err := encode(value)
			if err != nil {
				return t.failure("encoded", err)
			}
			*written++
			for _, token := range prefix {
				if err := e.WriteToken(token); err != nil {
					return err
				}
			}
			if err := json.MarshalEncode(e, &data); err != nil {
				return err
			}
			return e.WriteToken(jsontext.EndObject)
		})
	}
	t.decode = func(d *jsontext.Decoder, into any) error {
		var data D
		if err := json.UnmarshalDecode(d, &data); err != nil {
			return err
		}
		value, err := decode(data)
		if err != nil {
			return t.failure("decoded", err)
		}
		*into.(*T) = value
		return nil
	}
	return t
}

// Name is the name that is stored.
func (t Transcoding) Name() string { return t.name }

// Type is the Go type whose values are stored under the name.
func (t Transcoding) Type() reflect.Type { return t.goType }

// nativeTypes are what JSON values are decoded into where nothing else is asked for.
var nativeTypes = map[reflect.Type]bool{
	reflect.TypeFor[bool]():           true,
	reflect.TypeFor[string]():         true,
	reflect.TypeFor[int64]():          true,
	reflect.TypeFor[float64]():        true,
	reflect.TypeFor[map[string]any](): true,
	reflect.TypeFor[[]any]():          true,
}

// problem says why the transcoding cannot be used, or nothing.
func (t Transcoding) problem() string {
	switch {
	case t.goType == nil:
		return "make it with NewTranscoding"
	case t.name == "" || !utf8.ValidString(t.name):
		return "its name must be valid UTF-8 and not empty"
	case t.goType.Kind() == reflect.Interface:
		return fmt.Sprintf("%v is an interface; transcodings are of exact types", t.goType)
	case t.goType.Kind() == reflect.Pointer:
		return fmt.Sprintf("%v is a pointer; register %v", t.goType, t.goType.Elem())
	case nativeTypes[t.goType]:
		return fmt.Sprintf("%v has a form in JSON already; define a type of your own", t.goType)
	}
	return ""
}

// reason is an error of this package whose text is known to contain no values of payloads.
type reason string

func (r reason) Error() string { return string(r) }

// failure hides the text of an error that may contain the value, but keeps the error.
func (t Transcoding) failure(verb string, err error) error {
	problem := fmt.Sprintf("value cannot be %s by the transcoding %q", verb, t.name)
	if why, ok := err.(reason); ok {
		problem += ": " + why.Error()
	}
	return &TranscodingError{Type: t.goType, Name: t.name, Problem: problem, Err: err}
}

// DefaultTranscodings are UUIDHex, DatetimeISO and DecimalStr: the ones that every application of the Python original
// has.
func DefaultTranscodings() []Transcoding {
	return []Transcoding{UUIDHex(), DatetimeISO(), DecimalStr()}
}

// UUIDHex stores a uuid.UUID under the name "uuid_hex", as 32 hexadecimal digits.
func UUIDHex() Transcoding {
	return NewTranscoding("uuid_hex", encodeUUID, decodeUUID)
}

func encodeUUID(id uuid.UUID) (string, error) { return hex.EncodeToString(id[:]), nil }

func decodeUUID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, reason("it is not a UUID")
	}
	return id, nil
}

// DatetimeISO stores a time.Time under the name "datetime_iso", as Python's isoformat writes it:
//
//	2024-01-02T03:04:05.678901+00:00
//
// Times are stored in UTC and cut to the microsecond, and come back so. When decoding, other offsets from UTC and "Z"
// are understood too, and a time without an offset is taken to be UTC. Python has no years but 1 to 9999; times in
// others are refused.
func DatetimeISO() Transcoding {
	return NewTranscoding("datetime_iso", encodeTime, decodeTime)
}

func encodeTime(t time.Time) (string, error) {
	t = t.UTC()
	if year := t.Year(); year < 1 || year > 9999 {
		return "", reason("its year is not between 1 and 9999")
	}
	layout := "2006-01-02T15:04:05.000000+00:00"
	if t.Nanosecond() < int(time.Microsecond) {
		layout = "2006-01-02T15:04:05+00:00"
	}
	return t.Format(layout), nil
}

// timeLayouts are the forms of times that are understood, the usual one first. All of them allow a fraction.
var timeLayouts = []string{
	time.RFC3339,
	"2006-01-02T15:04:05",
	"2006-01-02T15:04:05Z07:00:00",
}

func decodeTime(text string) (time.Time, error) {
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, reason("it is not a time in ISO format")
}

// Decimal is a decimal number as its exact text, for example "10.00", "-0.5" or "1E+3". It is what Python's Decimal is
// stored as, so trailing zeros and exponents survive; give the text to a decimal package to calculate. A text that is
// not a finite number, such as that of the zero Decimal, is refused when it is encoded and when it is decoded.
type Decimal string

// DecimalStr stores a Decimal under the name "decimal_str", as its text.
func DecimalStr() Transcoding {
	return NewTranscoding("decimal_str",
		func(d Decimal) (string, error) { return string(d), d.check() },
		func(text string) (Decimal, error) { return Decimal(text), Decimal(text).check() })
}

// MarshalText implements encoding.TextMarshaler, for a Decimal that is encoded without DecimalStr.
func (d Decimal) MarshalText() ([]byte, error) { return []byte(d), d.check() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Decimal) UnmarshalText(text []byte) error {
	*d = Decimal(text)
	return d.check()
}

var decimalPattern = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

func (d Decimal) check() error {
	switch {
	case d == "":
		return reason("the empty Decimal is not a number; write 0")
	case !decimalPattern.MatchString(string(d)):
		return reason("it is not a finite decimal number")
	}
	return nil
}
