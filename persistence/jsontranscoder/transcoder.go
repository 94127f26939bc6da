package jsontranscoder

import (
	"fmt"
	"reflect"
	"sync"

	"github.com/go-json-experiment/json"

	"github.com/eventsourcing-go/eventsourcing/internal/transcoding"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// New makes a transcoder with these transcodings and no others: pass
// python.Transcodings as well, unless times, UUIDs and Decimals are to be
// stored as encoding/json stores them. It panics when a name or a type is given
// twice.
//
// It encodes payloads as JSON, byte for byte as the Python library does: without
// white space, as UTF-8 without needless escapes. A value whose exact type has a
// Transcoding is written as an object that names it, wherever in a payload it
// is:
//
//	{"_type_":"uuid_hex","_data_":"b2723fe2c01a40d2875ea3aac6a09ff5"}
//
// All other values are written as encoding/json writes them, with the same
// struct tags, the same rules for embedded structs and the same methods
// MarshalJSON and MarshalText; methods with pointer receivers count wherever
// the value stands. Keys of objects mean the field with exactly that name;
// other keys are passed over.
//
// When decoding into a Go type, values with and without a transcoding's name
// around them are both accepted, so that a field can hold a string, or a
// decimal type of another package, where "decimal_str" was stored.
//
// A field of type any is free-form: nothing but the data says what type a value
// has. It holds nil, bool, string, int64, float64, map[string]any, []any and
// values of types with a transcoding, and all of these come back exactly. So
// does a *big.Int that is too large for an int64. Encode refuses other types
// there, and everything else that would not come back: types without a JSON
// form, text that is not valid UTF-8, NaN and infinite numbers, maps and structs
// that look like a value with a transcoding because their only keys are "_type_"
// and "_data_", and values that contain themselves.
//
// Its method CheckType finds, before the first event is stored, what a type
// would lose: fields that are not exported, are left out by their tag or share
// their name with another field; interfaces, but for any; types with only one of
// a pair of methods such as MarshalJSON and UnmarshalJSON; and types without a
// JSON form. Types with a transcoding are fine, and so is an embedded
// domain.Aggregate, which is stored elsewhere.
//
// Errors of Encode and Decode are a persistence.ErrData. They say which part of the
// payload is wrong, and never contain its values. Those of CheckType are a
// persistence.ErrProgramming.
func New(transcodings ...Transcoding) persistence.Transcoder {
	t := &transcoder{
		byType: make(map[reflect.Type]*Transcoding, len(transcodings)),
		byName: make(map[string]*Transcoding, len(transcodings)),
	}
	for _, transcoding := range transcodings {
		t.add(&transcoding)
	}
	return t
}

type transcoder struct {
	byType map[reflect.Type]*Transcoding
	byName map[string]*Transcoding

	form transcoding.Form

	encoders sync.Pool // of *encoder
	reading  sync.Once // makes readers
	readers  struct{ plain, wrapped json.Options }
}

var _ transcoding.JSON = (*transcoder)(nil)

// ForProgram implements transcoding.JSON.
func (t *transcoder) ForProgram(form transcoding.Form) transcoding.JSON {
	return &transcoder{byType: t.byType, byName: t.byName, form: form}
}

// HasTranscoding implements transcoding.JSON.
func (t *transcoder) HasTranscoding(typ reflect.Type) bool { return t.byType[typ] != nil }

func (t *transcoder) add(transcoding *Transcoding) {
	problem := transcoding.problem()
	switch {
	case problem != "":
	case t.byName[transcoding.name] != nil:
		problem = "two transcodings have this name"
	case t.byType[transcoding.goType] != nil:
		problem = fmt.Sprintf("type %v already has the transcoding %q", transcoding.goType,
			t.byType[transcoding.goType].name)
	}
	if problem != "" {
		panic(&payloadError{Type: transcoding.goType, Name: transcoding.name, Offset: -1,
			Problem: fmt.Sprintf("transcoding %q: %s", transcoding.name, problem)})
	}
	t.byName[transcoding.name] = transcoding
	t.byType[transcoding.goType] = transcoding
}

// Encode implements persistence.Transcoder. If it returns an error, the slice is
// dst.
func (t *transcoder) Encode(dst []byte, value any) ([]byte, error) {
	e, ok := t.encoders.Get().(*encoder)
	if !ok {
		e = newEncoder(t)
	}
	defer t.encoders.Put(e)
	encoded, err := e.encode(dst, value)
	if err != nil {
		return dst, encodingFailure(err, reflect.TypeOf(value))
	}
	return encoded, nil
}

// Decode implements persistence.Transcoder. It returns an error if data is not
// exactly one JSON value, does not fit the Go type, or names a transcoding that
// is not registered; the value is then undefined.
func (t *transcoder) Decode(data []byte, into any) error {
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return &payloadError{Type: reflect.TypeOf(into), Offset: -1,
			Problem: "decoding needs a pointer that is not nil"}
	}
	if err := json.Unmarshal(data, into, t.reader(data)); err != nil {
		return decodingFailure(err, target.Type().Elem())
	}
	return nil
}

// payloadError says which part of a payload could not be encoded or decoded, and
// why. Its text never contains values of the payload.
type payloadError struct {
	// Path names the part by its Go fields, as in "Booked.Notes[]"; it is empty
	// for unnamed types.
	Path string
	// Type is the Go type that is the problem or, when decoding, the one that
	// was to be filled; it may be nil.
	Type reflect.Type
	// Name is the stored name of a transcoding, if one is concerned.
	Name string
	// Offset is the position in the data, and -1 when encoding.
	Offset int
	// Problem says what is wrong and what to do.
	Problem string
	// Err is what a method of the payload or a function of a transcoding
	// returned; it may be nil. It may contain values of the payload, and so it
	// is left out of the text.
	Err error
}

func (e *payloadError) Error() string {
	text := e.Problem
	if e.Path != "" {
		text = e.Path + ": " + text
	}
	if e.Offset >= 0 {
		text += fmt.Sprintf(" (at offset %d)", e.Offset)
	}
	return text
}

// Unwrap returns persistence.ErrData and the cause.
func (e *payloadError) Unwrap() []error {
	if e.Err == nil {
		return []error{persistence.ErrData}
	}
	return []error{persistence.ErrData, e.Err}
}
