package formerjson

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

// Transcoding says how values of one exact Go type are stored: under a name, as
// data of another type. Make it with NewTranscoding.
type Transcoding struct {
	name   string
	goType reflect.Type

	// encode writes the data of v, which is of goType. decode reads data and
	// fills into, which is a pointer to goType.
	encode func(e *encoder, v reflect.Value) error
	decode func(d *decoder, into any) error
}

// NewTranscoding makes the transcoding of T. The name is stored with every
// value, so it can never change. The functions turn a T into data of type D,
// which is encoded in turn and may contain values that have transcodings
// themselves, and back. They are called by many goroutines at once.
//
// T cannot be an interface or a pointer; pointers to T are stored as the T they
// point to. It cannot be one of the types that JSON itself has either: bool,
// string, int64, float64, map[string]any and []any.
func NewTranscoding[T, D any](name string, encode func(T) (D, error), decode func(D) (T, error)) Transcoding {
	t := Transcoding{name: name, goType: reflect.TypeFor[T]()}
	t.encode = func(e *encoder, v reflect.Value) error {
		value, _ := reflect.TypeAssert[T](v)
		data, err := encode(value)
		if err != nil {
			return t.failure(-1, "encoded", err)
		}
		if text, ok := any(data).(string); ok {
			return e.text(t.goType, text)
		}
		return e.dynamic(data)
	}
	t.decode = func(d *decoder, into any) error {
		start := d.pos
		var data D
		if err := d.typed(&data); err != nil {
			return err
		}
		value, err := decode(data)
		if err != nil {
			return t.failure(start, "decoded", err)
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

// nativeTypes are what JSON values are decoded into if nothing else is asked
// for.
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
		return fmt.Sprintf("%v has a form in JSON already; define your own type", t.goType)
	}
	return ""
}

// reason is an error of this package whose text is known to contain no values
// of payloads.
type reason string

func (r reason) Error() string { return string(r) }

// failure hides the text of an error that may contain the value, but keeps the
// error.
func (t Transcoding) failure(offset int, verb string, err error) error {
	problem := fmt.Sprintf("value cannot be %s by the transcoding %q", verb, t.name)
	if why, ok := err.(reason); ok {
		problem += ": " + why.Error()
	}
	return &TranscodingError{Type: t.goType, Name: t.name, Offset: offset, Problem: problem, Err: err}
}

// DefaultTranscodings are UUIDHex, DatetimeISO and DecimalStr: the ones that
// every application of the Python original has.
func DefaultTranscodings() []Transcoding {
	return []Transcoding{UUIDHex(), DatetimeISO(), DecimalStr()}
}

// UUIDHex stores a uuid.UUID under the name "uuid_hex", as 32 hexadecimal
// digits.
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

// DatetimeISO stores a time.Time under the name "datetime_iso", as Python's
// isoformat writes it:
//
//	2024-01-02T03:04:05.678901+00:00
//
// Times are stored in UTC and cut to the microsecond, and come back so. When
// decoding, other offsets from UTC and "Z" are understood too, and a time
// without an offset is taken to be UTC. Python has no years but 1 to 9999;
// times in others are refused.
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

// timeLayouts are the forms of times that are understood, the usual one first.
// All of them allow a fraction.
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

// Decimal is today's.
type Decimal = python.Decimal

// DecimalStr stores a Decimal under the name "decimal_str", as its text.
func DecimalStr() Transcoding {
	return NewTranscoding("decimal_str",
		func(d Decimal) (string, error) { return string(d), check(d) },
		func(text string) (Decimal, error) { return Decimal(text), check(Decimal(text)) })
}

var decimalPattern = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

func check(d Decimal) error {
	switch {
	case d == "":
		return reason("the empty Decimal is not a number; write 0")
	case !decimalPattern.MatchString(string(d)):
		return reason("it is not a finite decimal number")
	}
	return nil
}
