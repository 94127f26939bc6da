package formerjson

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
)

// Transcoder turns payloads into bytes and back. JSONTranscoder is the one to
// use; a user's own must be safe for concurrent use, and its errors must not
// contain what is in the payloads.
type Transcoder interface {
	// Encode appends the encoded form of value to dst and returns the extended
	// slice.
	Encode(dst []byte, value any) ([]byte, error)

	// Decode fills the value that into points to. It keeps no part of data.
	Decode(data []byte, into any) error
}

// JSONTranscoder encodes payloads as JSON, byte for byte as the Python original
// does: without white space, as UTF-8 without needless escapes. A value whose
// exact type has a Transcoding is written as an object that names it, wherever
// in a payload it stands:
//
//	{"_type_":"uuid_hex","_data_":"b2723fe2c01a40d2875ea3aac6a09ff5"}
//
// All other values are written as encoding/json writes them, with the same
// struct tags, the same rules for embedded structs and the same methods
// MarshalJSON and MarshalText; methods with pointer receivers count wherever
// the value stands.
//
// When decoding into a Go type, values with and without a transcoding's name
// around them are both accepted, so that a field can hold a string, or a
// decimal type of another package, where "decimal_str" was stored. If the
// target is an interface, values come back as the transcoding's type, objects
// as map[string]any, arrays as []any, whole numbers as int64 if they fit, and
// all other numbers as float64.
//
// Values nest at most 100 deep. A JSONTranscoder does not change after it was
// made and is safe for concurrent use. The zero JSONTranscoder has no
// transcodings.
type JSONTranscoder struct {
	byType map[reflect.Type]*Transcoding
	byName map[string]*Transcoding

	codecs sync.Map // from reflect.Type to codec

	// building is held while codecs are made.
	building sync.Mutex
}

var _ Transcoder = (*JSONTranscoder)(nil)

// NewJSONTranscoder makes a transcoder with these transcodings and no others:
// pass DefaultTranscodings as well, unless times, UUIDs and Decimals are to be
// stored as encoding/json stores them.
//
// It panics with a *TranscodingError when a name or a type is given twice.
func NewJSONTranscoder(transcodings ...Transcoding) *JSONTranscoder {
	t := &JSONTranscoder{
		byType: make(map[reflect.Type]*Transcoding, len(transcodings)),
		byName: make(map[string]*Transcoding, len(transcodings)),
	}
	for _, transcoding := range transcodings {
		t.add(&transcoding)
	}
	return t
}

func (t *JSONTranscoder) add(transcoding *Transcoding) {
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
		panic(&TranscodingError{Type: transcoding.goType, Name: transcoding.name, Offset: -1,
			Problem: fmt.Sprintf("transcoding %q: %s", transcoding.name, problem)})
	}
	t.byName[transcoding.name] = transcoding
	t.byType[transcoding.goType] = transcoding
}

// Encode appends value as JSON to dst and returns the extended slice. If it
// returns a *TranscodingError, the slice is dst. As in encoding/json, bytes in
// strings that are not UTF-8 become the replacement character.
//
// It refuses what would not come back: types without a JSON form, NaN and
// infinite numbers, maps and structs that look like a value with a transcoding
// because their only keys are "_type_" and "_data_", and values that contain
// themselves.
func (t *JSONTranscoder) Encode(dst []byte, value any) ([]byte, error) {
	e := newEncoder(t, dst)
	err := e.dynamic(value)
	out := e.release()
	if err != nil {
		return dst, at(err, rootName(reflect.TypeOf(value)))
	}
	return out, nil
}

// Decode fills the value that into points to from JSON. It returns a
// *TranscodingError where data is not exactly one JSON value, does not fit the
// Go type, or names a transcoding that is not registered; the value is then
// undefined.
func (t *JSONTranscoder) Decode(data []byte, into any) error {
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return &TranscodingError{Type: reflect.TypeOf(into), Offset: -1,
			Problem: "decoding needs a pointer that is not nil"}
	}
	if offset, problem := checkSyntax(data, 0); problem != "" {
		return &TranscodingError{Type: target.Type().Elem(), Offset: offset, Problem: problem}
	}
	d := decoder{t: t, data: data, wrappers: mayHoldWrappers(data)}
	d.skipSpace()
	if err := d.value(t.codec(target.Type().Elem()), target.Elem()); err != nil {
		return at(err, rootName(target.Type().Elem()))
	}
	return nil
}

// TranscodingError says which part of a payload could not be encoded or
// decoded, and why. Its text never contains values of the payload.
type TranscodingError struct {
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

func (e *TranscodingError) Error() string {
	text := e.Problem
	if e.Path != "" {
		text = e.Path + ": " + text
	}
	if e.Offset >= 0 {
		text += fmt.Sprintf(" (at offset %d)", e.Offset)
	}
	return text
}

// Unwrap returns ErrData and the cause.
func (e *TranscodingError) Unwrap() []error { return both(errData, e.Err) }

// rootName is the first step of the path to a part of a value: the name of its
// type, without type arguments, or nothing for types without a name.
func rootName(typ reflect.Type) string {
	for typ != nil && typ.Kind() == reflect.Pointer && typ.Name() == "" {
		typ = typ.Elem()
	}
	if typ == nil || typ.PkgPath() == "" {
		return ""
	}
	name, _, _ := strings.Cut(typ.Name(), "[")
	return name
}

// at puts one step before the path of an error. Steps are names of types and
// fields, never keys of maps: those are part of the payload.
func at(err error, step string) error {
	failure, ok := err.(*TranscodingError)
	switch {
	case !ok:
	case len(failure.Path) < maxPath:
		failure.Path = step + failure.Path
	case !strings.HasPrefix(failure.Path, "…"):
		failure.Path = "…" + failure.Path
	}
	return err
}

// maxPath is how many bytes a path may have before what is further out is left
// out.
const maxPath = 200

// elementStep is the step from a slice, an array or a map to what it holds.
const elementStep = "[]"
