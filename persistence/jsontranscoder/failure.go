package jsontranscoder

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The errors of package json may show keys and values of the payload. What is
// told of them here is where in the Go types something is wrong, and what.

// failed makes a *payloadError of an error of package json.
func failed(err error, root reflect.Type) *payloadError {
	failure := &payloadError{Type: root, Offset: -1, Err: err}
	where := jsontext.Pointer("")
	semantic, isSemantic := errors.AsType[*json.SemanticError](err)
	syntactic, isSyntactic := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case isSemantic:
		where, failure.Type, failure.Offset, failure.Err = semantic.JSONPointer, semantic.GoType, int(semantic.ByteOffset), semantic.Err
	case isSyntactic:
		where, failure.Offset = syntactic.JSONPointer, int(syntactic.ByteOffset)
	}
	if own, ok := errors.AsType[*payloadError](err); ok {
		copied := *own // it may be shared
		copied.Offset = failure.Offset
		failure = &copied
	}
	failure.Path = rootName(root) + pathOf(root, where)
	return failure
}

func encodingFailure(err error, root reflect.Type) error {
	failure := failed(err, root)
	failure.Offset = -1
	if failure.Problem == "" {
		failure.Problem = notEncoded(failure.Type, err)
	}
	return failure
}

// notEncoded says why a value of a type could not be written.
func notEncoded(typ reflect.Type, err error) string {
	name, kind := typeName(typ), kindOf(typ)
	syntactic, isSyntactic := errors.AsType[*jsontext.SyntacticError](err)
	switch says := deepest(err); {
	case isSyntactic && errors.Is(err, jsontext.ErrDuplicateName):
		return "two keys have the same text"
	case strings.Contains(says, "UTF-8"):
		return "text of type " + name + " is not valid UTF-8; use []byte for bytes"
	case strings.Contains(says, "cycle") || strings.Contains(says, "max depth"):
		return tooDeep
	case kind == reflect.Float32 || kind == reflect.Float64:
		return notFinite(typ)
	case implements(typ, marshalerType) && isSyntactic:
		return "method MarshalJSON of " + name + " returned no acceptable JSON: " + notJSON(syntactic)
	case implements(typ, marshalerType):
		return "method MarshalJSON of " + name + " returned an error"
	case implements(typ, textMarshalerType):
		return "method MarshalText of " + name + " returned an error" + because(err)
	}
	return unserializable(typ)
}

func decodingFailure(err error, root reflect.Type) error {
	failure := failed(err, root)
	if failure.Problem == "" {
		failure.Problem = notDecoded(failure.Type, err)
	}
	return failure
}

// notDecoded says why a value of a type could not be read.
func notDecoded(typ reflect.Type, err error) string {
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if syntactic, isSyntactic := errors.AsType[*jsontext.SyntacticError](err); isSyntactic && (!ok || semantic.Err == syntactic) {
		return notJSON(syntactic)
	}
	if !ok {
		return "it is not JSON"
	}
	value, name := describe(semantic.JSONKind), typeName(typ)
	switch {
	case typ != nil && !hasForm(typ):
		return unserializable(typ)
	case implements(typ, unmarshalerType) && semantic.Err != nil:
		return value + " is not accepted by the method UnmarshalJSON of " + name
	case implements(typ, textUnmarshalerType) && semantic.JSONKind == jsontext.KindString:
		return value + " is not accepted by the method UnmarshalText of " + name + because(err)
	case kindOf(typ) == reflect.Struct && semantic.Err != nil:
		return unserializable(typ)
	case semantic.JSONKind == jsontext.KindString && kindOf(typ) == reflect.Slice:
		return value + " is not base64 for Go type " + name
	}
	return value + " does not fit Go type " + name
}

// notJSON says what is wrong with data.
func notJSON(err *jsontext.SyntacticError) string {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the JSON value ends too early"
	case strings.Contains(deepest(err), "max depth"):
		return tooDeep
	}
	return "it is not one JSON value"
}

const tooDeep = "values nest too deep, or contain themselves"

func notFinite(typ reflect.Type) string {
	return "number of type " + typ.String() + " is not finite (NaN or infinite), which JSON cannot express"
}

func unserializable(typ reflect.Type) string {
	return "object of type " + typeName(typ) + " is not serializable; define and register a transcoding for this type"
}

// deepest is the text of the innermost error.
func deepest(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// because adds the hint of a *persistence.Error, which tells nothing of the
// payload.
func because(err error) string {
	if why, ok := errors.AsType[*persistence.Error](err); ok {
		return shownHint(why)
	}
	return ""
}

// shownHint is the hint of an error about a value.
func shownHint(err *persistence.Error) string {
	if err.Class != persistence.ErrData || err.Hint == "" {
		return ""
	}
	return ": " + err.Hint
}

func describe(kind jsontext.Kind) string {
	switch kind {
	case jsontext.KindBeginObject, jsontext.KindEndObject:
		return "JSON object"
	case jsontext.KindBeginArray, jsontext.KindEndArray:
		return "JSON array"
	case jsontext.KindString:
		return "JSON string"
	case jsontext.KindTrue, jsontext.KindFalse:
		return "JSON boolean"
	case jsontext.KindNull:
		return "JSON null"
	case jsontext.KindNumber:
		return "JSON number"
	}
	return "JSON value"
}

func typeName(typ reflect.Type) string {
	if typ == nil {
		return "nil"
	}
	return typ.String()
}

func kindOf(typ reflect.Type) reflect.Kind {
	if typ == nil {
		return reflect.Invalid
	}
	return typ.Kind()
}

func implements(typ, methods reflect.Type) bool {
	return typ != nil && reflect.PointerTo(typ).Implements(methods)
}

var (
	marshalerType       = reflect.TypeFor[json.Marshaler]()
	unmarshalerType     = reflect.TypeFor[json.Unmarshaler]()
	textMarshalerType   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// hasForm reports whether values of a kind can be written as JSON.
func hasForm(typ reflect.Type) bool {
	switch typ.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer, reflect.Invalid:
		return false
	}
	return true
}

// pathOf names a part of a value by its Go fields, as in ".Notes[]". Keys of
// maps are part of the payload, and are left out.
func pathOf(typ reflect.Type, where jsontext.Pointer) string {
	var path strings.Builder
	for token := range where.Tokens() {
		for typ != nil && typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		switch kindOf(typ) {
		case reflect.Struct:
			f, ok := fieldNamed(typ, token)
			if !ok { // a part of a value with a transcoding
				continue
			}
			fmt.Fprintf(&path, ".%s", f.Name)
			typ = f.Type
		case reflect.Map, reflect.Slice, reflect.Array:
			path.WriteString(elementStep)
			typ = typ.Elem()
		case reflect.Interface:
			path.WriteString(elementStep)
		}
		if path.Len() > maxPath {
			return path.String()[:maxPath] + "…"
		}
	}
	return path.String()
}

// maxPath is how many bytes of a path are shown.
const maxPath = 200

// elementStep is the step from a slice, an array or a map to what it holds.
const elementStep = "[]"

// fieldNamed finds the field of a struct by its name in JSON.
func fieldNamed(typ reflect.Type, name string) (found reflect.StructField, ok bool) {
	for _, f := range reflect.VisibleFields(typ) {
		if f.IsExported() && jsonName(f) == name && (!ok || len(f.Index) < len(found.Index)) {
			found, ok = f, true
		}
	}
	return found, ok
}

// jsonName is the name of a field in JSON.
func jsonName(f reflect.StructField) string {
	if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
		return name
	}
	return f.Name
}
