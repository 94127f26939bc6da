package domain

import (
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// fingerprintOf identifies the stored structure of a type: the names that its
// fields are stored under and the kinds of their values, at every depth. It is
// the same in every process and does not depend on the names of packages, of
// types, or on the order of fields. It is "" for a type that any structure can
// be read into.
func fingerprintOf(t reflect.Type) string {
	if t.Kind() == reflect.Interface || t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Interface {
		return ""
	}
	hash := sha256.Sum256([]byte(structure{}.of(t)))
	return hex.EncodeToString(hash[:8])
}

// structure is the path of types that lead to the one that is described.
type structure []reflect.Type

// isKnownForm reports whether a type makes its own form, which no release
// changes.
func isKnownForm(t reflect.Type) bool {
	return t == timeType || t == reflect.TypeFor[uuid.UUID]() || t.PkgPath() == "math/big"
}

var (
	aggregateType  = reflect.TypeFor[Aggregate]()
	marshalerTypes = []reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler]()}
)

// of describes the structure of a type.
func (s structure) of(t reflect.Type) string {
	if i := slices.Index(s, t); i >= 0 { // a type that contains itself
		return "^" + strconv.Itoa(i)
	}
	if isKnownForm(t) {
		return opaque(t)
	}
	if hasOwnForm(t) {
		return opaque(t) + memory{}.of(t)
	}
	inner := append(slices.Clip(s), t)
	if t.Kind() == reflect.Struct {
		return s.ofStruct(t)
	}
	return unnamed(t, inner.of)
}

// unnamed describes a type that is no struct by the types that it is made of.
func unnamed(t reflect.Type, of func(reflect.Type) string) string {
	switch t.Kind() {
	case reflect.Pointer:
		return "*" + of(t.Elem())
	case reflect.Slice:
		return "[]" + of(t.Elem())
	case reflect.Array:
		return fmt.Sprintf("[%d]%s", t.Len(), of(t.Elem()))
	case reflect.Map:
		return "map[" + of(t.Key()) + "]" + of(t.Elem())
	}
	return t.Kind().String()
}

func hasOwnForm(t reflect.Type) bool {
	if t.Kind() == reflect.Interface || t.Kind() == reflect.Pointer {
		return false
	}
	return slices.ContainsFunc(marshalerTypes, reflect.PointerTo(t).Implements)
}

// packagePaths are the packages in the name of a type with type arguments.
var packagePaths = regexp.MustCompile(`[^\[\],*]*[./]`)

func opaque(t reflect.Type) string {
	return "=" + packagePaths.ReplaceAllString(t.Name(), "") + " " + t.Kind().String()
}

func (s structure) ofStruct(t reflect.Type) string {
	fields := s.fields(t)
	if len(fields) == 0 && t.NumField() > 0 && t.Field(0).Type != aggregateType {
		return opaque(t) + memory{}.of(t) // a transcoding may know what is in it
	}
	slices.Sort(fields)
	return "{" + strings.Join(fields, ";") + "}"
}

// fields describes the stored fields of a struct. Those of an embedded struct
// count as the struct's own.
func (s structure) fields(t reflect.Type) (fields []string) {
	inner := append(slices.Clip(s), t)
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		elem := f.Type
		if elem.Kind() == reflect.Pointer {
			elem = elem.Elem()
		}
		switch embeds := f.Anonymous && elem.Kind() == reflect.Struct; {
		case tag == "-", f.Type == aggregateType, !f.IsExported() && !embeds:
		case embeds && name == "" && !hasOwnForm(elem) && !slices.Contains(inner, elem):
			fields = append(fields, inner.fields(elem)...)
		default:
			if name == "" {
				name = f.Name
			}
			described := strconv.Quote(name) + " " + inner.of(f.Type)
			if slices.Contains(strings.Split(options, ","), "string") {
				described += " string"
			}
			fields = append(fields, described)
		}
	}
	return fields
}

// memory is the path of types that lead to one that is described as it is in
// memory, with its unexported fields: which of them a type writes that makes
// its own form is not known, so a change of any counts.
type memory []reflect.Type

func (m memory) of(t reflect.Type) string {
	if i := slices.Index(m, t); i >= 0 {
		return "^" + strconv.Itoa(i)
	}
	if isKnownForm(t) {
		return opaque(t)
	}
	inner := append(slices.Clip(m), t)
	if t.Kind() != reflect.Struct {
		return unnamed(t, inner.of)
	}
	fields := make([]string, t.NumField())
	for i := range fields {
		fields[i] = strconv.Quote(t.Field(i).Name) + " " + inner.of(t.Field(i).Type)
	}
	slices.Sort(fields)
	return "{" + strings.Join(fields, ";") + "}"
}
