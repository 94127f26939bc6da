package formerjson

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// A field is one member of the JSON object that a struct is stored as.
type field struct {
	name      string
	prefix    string // the name in quotes and a colon
	goName    string
	typ       reflect.Type
	index     []int // the way through embedded structs
	tagged    bool
	quoted    bool
	omitEmpty bool
	isZero    func(reflect.Value) bool // of the option omitzero, or nil
	codec     codec
}

// structFields finds the fields of a struct, by the rules of encoding/json:
// fields of embedded structs count as the struct's own, and if several have one
// name, the one that is embedded least deep counts, then the one with a tag,
// and otherwise none of them. The fields that do not count are lost. An
// embedded struct with a transcoding is a field.
func structFields(typ reflect.Type, transcodings map[reflect.Type]*Transcoding) (kept, lost []field) {
	w := fieldWalk{transcodings: transcodings, visited: map[reflect.Type]bool{}}
	for level := []embedded{{typ: typ, count: 1}}; len(level) > 0; {
		w.next = nil
		for _, s := range level {
			w.scan(s)
		}
		level = w.next
	}
	slices.SortStableFunc(w.found, byPrecedence)
	for rest := w.found; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].name == rest[0].name {
			n++
		}
		first := 0
		if n > 1 && samePrecedence(&rest[0], &rest[1]) {
			lost = append(lost, rest[0])
		} else {
			kept, first = append(kept, rest[0]), 1
		}
		lost = append(lost, rest[max(first, 1):n]...)
		rest = rest[n:]
	}
	slices.SortFunc(kept, func(a, b field) int { return slices.Compare(a.index, b.index) })
	return kept, lost
}

func byPrecedence(a, b field) int {
	return cmp.Or(
		strings.Compare(a.name, b.name),
		cmp.Compare(len(a.index), len(b.index)),
		cmp.Compare(rank(a.tagged), rank(b.tagged)),
		slices.Compare(a.index, b.index))
}

func rank(tagged bool) int {
	if tagged {
		return 0
	}
	return 1
}

func samePrecedence(a, b *field) bool {
	return len(a.index) == len(b.index) && a.tagged == b.tagged
}

// embedded is a struct whose fields are to be found, and how often it is
// embedded on its level.
type embedded struct {
	typ   reflect.Type
	index []int
	count int
}

type fieldWalk struct {
	transcodings map[reflect.Type]*Transcoding
	visited      map[reflect.Type]bool
	next         []embedded
	found        []field
}

func (w *fieldWalk) scan(s embedded) {
	if w.visited[s.typ] {
		return
	}
	w.visited[s.typ] = true
	for i := range s.typ.NumField() {
		f := s.typ.Field(i)
		tag := f.Tag.Get("json")
		if tag == "-" || !storable(f) {
			continue
		}
		name, options := parseTag(tag)
		index := append(slices.Clip(s.index), i)
		inner := withoutPointer(f.Type)
		if name == "" && f.Anonymous && inner.Kind() == reflect.Struct && w.transcodings[inner] == nil {
			w.embed(inner, index)
			continue
		}
		found := newField(f, name, options, index)
		w.found = append(w.found, found)
		if s.count > 1 { // a second one lets the names clash
			w.found = append(w.found, found)
		}
	}
}

func (w *fieldWalk) embed(typ reflect.Type, index []int) {
	for i := range w.next {
		if w.next[i].typ == typ {
			w.next[i].count++
			return
		}
	}
	w.next = append(w.next, embedded{typ: typ, index: index, count: 1})
}

func newField(f reflect.StructField, name string, options []string, index []int) field {
	found := field{
		name:      cmp.Or(name, f.Name),
		goName:    f.Name,
		typ:       f.Type,
		index:     index,
		tagged:    name != "",
		quoted:    slices.Contains(options, "string"),
		omitEmpty: slices.Contains(options, "omitempty"),
	}
	if slices.Contains(options, "omitzero") {
		found.isZero = zeroFunc(f.Type)
	}
	found.prefix = `"` + found.name + `":`
	return found
}

// storable reports whether a field is exported, or an embedded struct that may
// have exported fields.
func storable(f reflect.StructField) bool {
	return f.IsExported() || f.Anonymous && plainElem(f.Type).Kind() == reflect.Struct
}

func plainElem(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// withoutPointer is what an unnamed pointer points to.
func withoutPointer(t reflect.Type) reflect.Type {
	if t.Name() == "" && t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// parseTag returns the name in a tag, if it is a valid one, and the options.
func parseTag(tag string) (name string, options []string) {
	name, rest, _ := strings.Cut(tag, ",")
	if strings.ContainsFunc(name, func(r rune) bool {
		return !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		name = ""
	}
	return name, strings.Split(rest, ",")
}

type zeroer interface{ IsZero() bool }

var zeroerType = reflect.TypeFor[zeroer]()

// zeroFunc finds out how a value of the type is asked whether it is zero: by
// its method IsZero, if it has one.
func zeroFunc(t reflect.Type) func(reflect.Value) bool {
	switch {
	case t.Kind() == reflect.Interface && t.Implements(zeroerType):
		return func(v reflect.Value) bool {
			return v.IsNil() || v.Elem().Kind() == reflect.Pointer && v.Elem().IsNil() || v.Interface().(zeroer).IsZero()
		}
	case t.Kind() == reflect.Pointer && t.Implements(zeroerType):
		return func(v reflect.Value) bool { return v.IsNil() || v.Interface().(zeroer).IsZero() }
	case t.Implements(zeroerType):
		return func(v reflect.Value) bool { return v.Interface().(zeroer).IsZero() }
	case reflect.PointerTo(t).Implements(zeroerType):
		return func(v reflect.Value) bool { return pointerTo(v).Interface().(zeroer).IsZero() }
	}
	return reflect.Value.IsZero
}

// isEmpty is the meaning of the option omitempty.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// get finds the field in a struct. It reports false if the way leads through an
// embedded pointer that is nil.
func (f *field) get(v reflect.Value) (reflect.Value, bool) {
	for _, i := range f.index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return v, false
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v, true
}

// settable finds the field in a struct to be filled, and makes the embedded
// structs on the way that are missing. It reports false if that cannot be done,
// because an embedded pointer is not exported.
func (f *field) settable(v reflect.Value) (reflect.Value, bool) {
	for _, i := range f.index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				if !v.CanSet() {
					return v, false
				}
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v, true
}

// omitted reports whether the field is left out for its value.
func (f *field) omitted(v reflect.Value) bool {
	return f.omitEmpty && isEmpty(v) || f.isZero != nil && f.isZero(v)
}
