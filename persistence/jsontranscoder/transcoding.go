package jsontranscoder

import (
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Transcoding says how values of one exact Go type are stored: under a name, as
// data of another type. Make it with NewTranscoding.
type Transcoding struct {
	name   string
	goType reflect.Type

	// marshaler makes the function that writes values of goType. The function
	// counts in written the values that it has written.
	marshaler func(written *int) *json.Marshalers
	// decode reads data and fills into, which is a pointer to goType.
	decode func(d *jsontext.Decoder, into any) error
}

// NewTranscoding makes the transcoding of T. The name is stored with every
// value, so it can never change. The functions turn a T into data of type D,
// which is encoded in turn and may contain values that have transcodings
// themselves, and back. They are called by many goroutines at once.
//
// The text of their errors may have values of the payload in it, and is not
// shown. To say what is wrong, return one with a hint, which is shown:
//
//	&persistence.Error{Class: persistence.ErrData, Op: "decode a plate", Hint: "it has no country"}
//
// T cannot be an interface or a pointer; pointers to T are stored as the T they
// point to. It cannot be one of the types that JSON itself has either: bool,
// string, int64, float64, map[string]any and []any.
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

// failure hides the text of an error that may contain the value, but keeps the
// error.
func (t Transcoding) failure(verb string, err error) error {
	problem := fmt.Sprintf("value cannot be %s by the transcoding %q", verb, t.name)
	if why, ok := err.(*persistence.Error); ok {
		problem += shownHint(why)
	}
	return &payloadError{Type: t.goType, Name: t.name, Problem: problem, Err: err}
}
