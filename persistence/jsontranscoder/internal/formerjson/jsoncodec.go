package formerjson

import (
	"encoding"
	"encoding/json"
	"reflect"
)

// A codec encodes and decodes the values of one Go type. Codecs are made once
// per type and transcoder: what is known of a type, such as the names of its
// fields and whether it has a transcoding, is not looked up again.
//
// The codec of a type is built up in layers. Innermost is the codec of its
// kind, around it come the ones that call its methods (MarshalJSON and so on),
// and outermost is the one of its transcoding.
type codec interface {
	// encode writes v.
	encode(e *encoder, v reflect.Value) error

	// decode reads the value at d.pos into v, which can be set, and moves d.pos
	// after it. Objects that name a transcoding never get here; decoder.value
	// takes them apart.
	decode(d *decoder, v reflect.Value) error
}

type (
	boolCodec   struct{}
	intCodec    struct{}
	uintCodec   struct{}
	floatCodec  struct{ bits int }
	stringCodec struct{}
	numberCodec struct{} // json.Number
	bytesCodec  struct{ arrayCodec }
	sliceCodec  struct{ arrayCodec }
	arrayCodec  struct{ elem codec }
	anyCodec    struct{}
	objectCodec struct{} // map[string]any

	// pointerCodec is for pointers of any kind; methods and transcodings are
	// always those of what they point to.
	pointerCodec struct{ elem codec }

	mapCodec struct {
		elem codec
		keys keyCodec
	}

	structCodec struct {
		fields []field
		byName map[string]*field
		// mimic says that the struct has fields named like the parts of a value
		// with a transcoding.
		mimic bool
	}

	// quotedCodec is for fields with the option ",string".
	quotedCodec struct{ codec }

	// opaqueCodec is for types that have no JSON form.
	opaqueCodec struct{ problem string }

	// The layers around the codec of a kind.
	marshalJSONCodec   struct{ codec }
	marshalTextCodec   struct{ codec }
	unmarshalJSONCodec struct{ codec }
	unmarshalTextCodec struct{ codec }
	transcodingCodec   struct {
		codec
		transcoding *Transcoding
		prefix      string
	}

	// recursiveCodec stands for the codec of a type while that is being made,
	// for types that contain themselves.
	recursiveCodec struct{ codec }
)

var (
	objectType          = reflect.TypeFor[map[string]any]()
	numberType          = reflect.TypeFor[json.Number]()
	rawType             = reflect.TypeFor[json.RawMessage]()
	marshalerType       = reflect.TypeFor[json.Marshaler]()
	unmarshalerType     = reflect.TypeFor[json.Unmarshaler]()
	textMarshalerType   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// codec finds or makes the codec of a type.
func (t *JSONTranscoder) codec(typ reflect.Type) codec {
	if c, ok := t.codecs.Load(typ); ok {
		return c.(codec)
	}
	t.building.Lock()
	defer t.building.Unlock()
	b := codecBuilder{t: t, made: map[reflect.Type]codec{}}
	c := b.codec(typ)
	for typ, c := range b.made {
		t.codecs.LoadOrStore(typ, c)
	}
	return c
}

// codecBuilder makes the codec of a type and of the types it contains. No other
// goroutine sees them before all are made.
type codecBuilder struct {
	t    *JSONTranscoder
	made map[reflect.Type]codec
}

func (b *codecBuilder) codec(typ reflect.Type) codec {
	if c, ok := b.t.codecs.Load(typ); ok {
		return c.(codec)
	}
	if c, ok := b.made[typ]; ok {
		return c
	}
	recursive := &recursiveCodec{}
	b.made[typ] = recursive
	recursive.codec = b.layers(typ, b.kind(typ))
	b.made[typ] = recursive.codec
	return recursive.codec
}

// layers puts around the codec of a kind what the type itself says about its
// form.
func (b *codecBuilder) layers(typ reflect.Type, c codec) codec {
	if kind := typ.Kind(); kind == reflect.Pointer || kind == reflect.Interface {
		return c
	}
	pointer := reflect.PointerTo(typ)
	switch {
	case pointer.Implements(unmarshalerType):
		c = unmarshalJSONCodec{c}
	case pointer.Implements(textUnmarshalerType):
		c = unmarshalTextCodec{c}
	}
	switch {
	case pointer.Implements(marshalerType):
		c = marshalJSONCodec{c}
	case pointer.Implements(textMarshalerType):
		c = marshalTextCodec{c}
	}
	if transcoding := b.t.byType[typ]; transcoding != nil {
		prefix := appendJSONString([]byte(`{"`+typeKey+`":`), transcoding.name)
		c = transcodingCodec{c, transcoding, string(prefix) + `,"` + dataKey + `":`}
	}
	return c
}

func (b *codecBuilder) kind(typ reflect.Type) codec {
	switch typ {
	case numberType:
		return numberCodec{}
	case objectType:
		return objectCodec{}
	}
	switch typ.Kind() {
	case reflect.Bool:
		return boolCodec{}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return intCodec{}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return uintCodec{}
	case reflect.Float32, reflect.Float64:
		return floatCodec{typ.Bits()}
	case reflect.String:
		return stringCodec{}
	case reflect.Interface:
		return anyCodec{}
	case reflect.Pointer:
		return pointerCodec{b.codec(typ.Elem())}
	case reflect.Array:
		return arrayCodec{b.codec(typ.Elem())}
	case reflect.Slice:
		return b.slice(typ)
	case reflect.Map:
		return b.mapping(typ)
	case reflect.Struct:
		return b.structure(typ)
	}
	return opaqueCodec{unserializable(typ)}
}

// slice treats bytes as one value, unless they have their own form.
func (b *codecBuilder) slice(typ reflect.Type) codec {
	array := arrayCodec{b.codec(typ.Elem())}
	if _, plain := array.elem.(uintCodec); plain && typ.Elem().Kind() == reflect.Uint8 {
		return bytesCodec{array}
	}
	return sliceCodec{array}
}

func (b *codecBuilder) mapping(typ reflect.Type) codec {
	keys, ok := newKeyCodec(typ.Key())
	if !ok {
		return opaqueCodec{unserializable(typ)}
	}
	return mapCodec{b.codec(typ.Elem()), keys}
}

func (b *codecBuilder) structure(typ reflect.Type) codec {
	if !hasExportedField(typ) {
		return opaqueCodec{unserializable(typ) + ", or export its fields"}
	}
	c := &structCodec{byName: map[string]*field{}}
	c.fields, _ = structFields(typ, b.t.byType)
	for i := range c.fields {
		f := &c.fields[i]
		f.codec = b.codec(f.typ)
		if f.quoted {
			f.codec = quoted(f.codec)
		}
		c.byName[f.name] = f
	}
	c.mimic = c.byName[typeKey] != nil && c.byName[dataKey] != nil
	return c
}

// quoted makes the codec of a field with the option ",string", which is ignored
// for types that have their own form.
func quoted(c codec) codec {
	if pointer, ok := c.(pointerCodec); ok {
		if canQuote(pointer.elem) {
			return pointerCodec{quotedCodec{pointer.elem}}
		}
	} else if canQuote(c) {
		return quotedCodec{c}
	}
	return c
}

func canQuote(c codec) bool {
	switch c.(type) {
	case boolCodec, intCodec, uintCodec, floatCodec, stringCodec, numberCodec:
		return true
	}
	return false
}

// hasExportedField reports whether a struct has a field that can be stored, or
// no fields at all.
func hasExportedField(typ reflect.Type) bool {
	for i := range typ.NumField() {
		if f := typ.Field(i); storable(f) {
			return true
		}
	}
	return typ.NumField() == 0
}

func unserializable(typ reflect.Type) string {
	return "object of type " + typ.String() + " is not serializable; define and register a transcoding for this type"
}
