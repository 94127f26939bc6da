package formerjson

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	// The two keys of the object that a value with a transcoding is written as.
	typeKey = "_type_"
	dataKey = "_data_"

	// maxNesting is how deep objects and arrays may nest.
	maxNesting = 100

	// maxIndirections is how many pointers and interfaces may lead to a value,
	// among them those around it.
	maxIndirections = 10 * maxNesting
)

// encoder holds the state of one call of Encode.
type encoder struct {
	t            *JSONTranscoder
	dst          []byte
	nesting      int
	indirections int
	keys         []string // a stack of the keys of objects that are being written
}

var encoders = sync.Pool{New: func() any { return new(encoder) }}

func newEncoder(t *JSONTranscoder, dst []byte) *encoder {
	e := encoders.Get().(*encoder)
	e.t, e.dst = t, dst
	return e
}

// release returns what was written and gives the encoder back.
func (e *encoder) release() []byte {
	dst := e.dst
	clear(e.keys) // nothing is left there, unless there was an error
	*e = encoder{keys: e.keys[:0]}
	encoders.Put(e)
	return dst
}

func (e *encoder) fail(typ reflect.Type, problem string, cause error) error {
	return &TranscodingError{Type: typ, Offset: -1, Problem: problem, Err: cause}
}

// dynamic writes a value of any type. The types that JSON itself has need no
// reflection.
func (e *encoder) dynamic(value any) error {
	switch value := value.(type) {
	case nil:
		e.dst = append(e.dst, "null"...)
	case bool:
		e.dst = strconv.AppendBool(e.dst, value)
	case string:
		return e.text(reflect.TypeFor[string](), value)
	case int64:
		e.dst = strconv.AppendInt(e.dst, value, 10)
	case map[string]any:
		return e.object(value)
	default:
		v := reflect.ValueOf(value)
		return e.t.codec(v.Type()).encode(e, v)
	}
	return nil
}

// open begins an object or an array.
func (e *encoder) open(bracket byte) error {
	if e.nesting++; e.nesting > maxNesting {
		return e.fail(nil, tooDeep, nil)
	}
	e.dst = append(e.dst, bracket)
	return nil
}

func (e *encoder) close(bracket byte) {
	e.nesting--
	e.dst = append(e.dst, bracket)
}

// follow encodes what a pointer or an interface leads to, and stops at a
// circle.
func (e *encoder) follow(encode func() error) error {
	if e.indirections++; e.indirections > maxIndirections {
		return e.fail(nil, tooDeep, nil)
	}
	err := encode()
	e.indirections--
	return err
}

// object writes a map[string]any with its keys in order.
func (e *encoder) object(m map[string]any) error {
	if m == nil {
		e.dst = append(e.dst, "null"...)
		return nil
	}
	begin := len(e.keys)
	for key := range m {
		e.keys = append(e.keys, key)
	}
	keys := e.keys[begin:]
	slices.Sort(keys)
	if len(keys) == 2 && keys[0] == dataKey && keys[1] == typeKey {
		return e.mimics(objectType)
	}
	if err := e.open('{'); err != nil {
		return err
	}
	for i, key := range keys {
		e.comma(i)
		if err := e.text(reflect.TypeFor[string](), key); err != nil {
			return at(err, elementStep)
		}
		e.dst = append(e.dst, ':')
		if err := e.dynamic(m[key]); err != nil {
			return at(err, elementStep)
		}
	}
	e.close('}')
	clear(e.keys[begin:])
	e.keys = e.keys[:begin]
	return nil
}

// text writes a string, and refuses one that would come back as another.
func (e *encoder) text(typ reflect.Type, s string) error {
	dst, ok := appendText(e.dst, s)
	if !ok {
		return e.notUTF8(typ)
	}
	e.dst = dst
	return nil
}

func (e *encoder) notUTF8(typ reflect.Type) error {
	return e.fail(typ, "text of type "+typ.String()+" is not valid UTF-8; use []byte for bytes", nil)
}

func (e *encoder) comma(i int) {
	if i > 0 {
		e.dst = append(e.dst, ',')
	}
}

// mimics refuses an object that would be taken for a value with a transcoding.
func (e *encoder) mimics(typ reflect.Type) error {
	return e.fail(typ, "object of type "+typ.String()+` whose only keys are "_type_" and "_data_" would come back as `+
		"something else; name a key differently", nil)
}

func (boolCodec) encode(e *encoder, v reflect.Value) error {
	e.dst = strconv.AppendBool(e.dst, v.Bool())
	return nil
}

func (intCodec) encode(e *encoder, v reflect.Value) error {
	e.dst = strconv.AppendInt(e.dst, v.Int(), 10)
	return nil
}

func (uintCodec) encode(e *encoder, v reflect.Value) error {
	e.dst = strconv.AppendUint(e.dst, v.Uint(), 10)
	return nil
}

func (c floatCodec) encode(e *encoder, v reflect.Value) error {
	f := v.Float()
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return e.fail(v.Type(), "number of type "+v.Type().String()+" is not finite (NaN or infinite), which JSON cannot "+
			"express", nil)
	}
	e.dst = appendFloat(e.dst, f, c.bits)
	return nil
}

// appendFloat writes a number as encoding/json and JavaScript do, with an
// exponent only if it is very small or large.
func appendFloat(dst []byte, f float64, bits int) []byte {
	small, large := math.Abs(f) < 1e-6, math.Abs(f) >= 1e21
	if bits == 32 {
		small, large = float32(math.Abs(f)) < 1e-6, float32(math.Abs(f)) >= 1e21
	}
	if f == 0 || !small && !large {
		return strconv.AppendFloat(dst, f, 'f', -1, bits)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, bits)
	if n := len(dst); string(dst[n-4:n-1]) == "e-0" { // e-09 becomes e-9
		dst = append(dst[:n-2], dst[n-1])
	}
	return dst
}

func (stringCodec) encode(e *encoder, v reflect.Value) error {
	return e.text(v.Type(), v.String())
}

func (numberCodec) encode(e *encoder, v reflect.Value) error {
	number := cmp.Or(v.String(), "0") // the zero Number is 0
	if !isNumber([]byte(number)) {
		return e.fail(numberType, "json.Number is not a number", nil)
	}
	e.dst = append(e.dst, number...)
	return nil
}

func (bytesCodec) encode(e *encoder, v reflect.Value) error {
	if v.IsNil() {
		e.dst = append(e.dst, "null"...)
		return nil
	}
	e.dst = append(e.dst, '"')
	e.dst = base64.StdEncoding.AppendEncode(e.dst, v.Bytes())
	e.dst = append(e.dst, '"')
	return nil
}

func (c sliceCodec) encode(e *encoder, v reflect.Value) error {
	if v.IsNil() {
		e.dst = append(e.dst, "null"...)
		return nil
	}
	return c.arrayCodec.encode(e, v)
}

func (c arrayCodec) encode(e *encoder, v reflect.Value) error {
	if err := e.open('['); err != nil {
		return err
	}
	for i := range v.Len() {
		e.comma(i)
		if err := c.elem.encode(e, v.Index(i)); err != nil {
			return at(err, elementStep)
		}
	}
	e.close(']')
	return nil
}

func (anyCodec) encode(e *encoder, v reflect.Value) error {
	return e.follow(func() error { return e.dynamic(v.Interface()) })
}

func (c pointerCodec) encode(e *encoder, v reflect.Value) error {
	if v.IsNil() {
		e.dst = append(e.dst, "null"...)
		return nil
	}
	return e.follow(func() error { return c.elem.encode(e, v.Elem()) })
}

func (objectCodec) encode(e *encoder, v reflect.Value) error {
	return e.object(v.Interface().(map[string]any))
}

func (c mapCodec) encode(e *encoder, v reflect.Value) error {
	if v.IsNil() {
		e.dst = append(e.dst, "null"...)
		return nil
	}
	members, err := c.members(e, v)
	if err != nil {
		return err
	}
	if len(members) == 2 && members[0].key == dataKey && members[1].key == typeKey {
		return e.mimics(v.Type())
	}
	if err := e.open('{'); err != nil {
		return err
	}
	for i, m := range members {
		e.comma(i)
		if err := e.text(v.Type().Key(), m.key); err != nil {
			return at(err, elementStep)
		}
		e.dst = append(e.dst, ':')
		if err := c.elem.encode(e, m.value); err != nil {
			return at(err, elementStep)
		}
	}
	e.close('}')
	return nil
}

type member struct {
	key   string
	value reflect.Value
}

// members lists what is in a map, in the order of the keys.
func (c mapCodec) members(e *encoder, v reflect.Value) ([]member, error) {
	members := make([]member, 0, v.Len())
	for all := v.MapRange(); all.Next(); {
		key, err := c.keys.text(all.Key())
		if err != nil {
			return nil, e.fail(v.Type().Key(), "key of type "+v.Type().Key().String()+" cannot be encoded by its "+
				"method MarshalText", err)
		}
		members = append(members, member{key, all.Value()})
	}
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.key, b.key) })
	for i := 1; i < len(members); i++ {
		if members[i].key == members[i-1].key {
			return nil, e.fail(v.Type().Key(), "two keys of type "+v.Type().Key().String()+" have the same text", nil)
		}
	}
	return members, nil
}

func (c *structCodec) encode(e *encoder, v reflect.Value) error {
	if err := e.open('{'); err != nil {
		return err
	}
	n, mimics := 0, 0
	for i := range c.fields {
		f := &c.fields[i]
		value, ok := f.get(v)
		if !ok || f.omitted(value) {
			continue
		}
		e.comma(n)
		n++
		if c.mimic && (f.name == typeKey || f.name == dataKey) {
			mimics++
		}
		e.dst = append(e.dst, f.prefix...)
		if err := f.codec.encode(e, value); err != nil {
			return at(err, "."+f.goName)
		}
	}
	if n == 2 && mimics == 2 {
		return e.mimics(v.Type())
	}
	e.close('}')
	return nil
}

func (c quotedCodec) encode(e *encoder, v reflect.Value) error {
	begin := len(e.dst)
	if err := c.codec.encode(e, v); err != nil {
		return err
	}
	plain := string(e.dst[begin:])
	e.dst = appendJSONString(e.dst[:begin], plain)
	return nil
}

func (c opaqueCodec) encode(e *encoder, v reflect.Value) error {
	return e.fail(v.Type(), c.problem, nil)
}

func (c marshalJSONCodec) encode(e *encoder, v reflect.Value) error {
	text, err := pointerTo(v).Interface().(json.Marshaler).MarshalJSON()
	if err != nil {
		return e.fail(v.Type(), "method MarshalJSON of "+v.Type().String()+" returned an error", err)
	}
	if _, problem := checkSyntax(text, e.nesting); problem != "" {
		return e.fail(v.Type(), "method MarshalJSON of "+v.Type().String()+" returned no acceptable JSON: "+problem, nil)
	}
	if !utf8.Valid(text) {
		return e.notUTF8(v.Type())
	}
	if d := (decoder{data: text}); v.Type() != rawType {
		d.skipSpace()
		if _, found := d.wrapper(); found {
			return e.mimics(v.Type())
		}
	}
	e.dst = appendCompact(e.dst, text)
	return nil
}

func (c marshalTextCodec) encode(e *encoder, v reflect.Value) error {
	text, err := pointerTo(v).Interface().(encoding.TextMarshaler).MarshalText()
	if err != nil {
		problem := "method MarshalText of " + v.Type().String() + " returned an error"
		if why, ok := err.(reason); ok {
			problem += ": " + why.Error()
		}
		return e.fail(v.Type(), problem, err)
	}
	return e.text(v.Type(), string(text))
}

func (c transcodingCodec) encode(e *encoder, v reflect.Value) error {
	if e.nesting++; e.nesting > maxNesting {
		return e.fail(v.Type(), tooDeep, nil)
	}
	e.dst = append(e.dst, c.prefix...)
	if err := c.transcoding.encode(e, v); err != nil {
		return err
	}
	e.close('}')
	return nil
}

// pointerTo returns a pointer to v, or to a copy of it where v has no address.
func pointerTo(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return v.Addr()
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p
}

// appendCompact appends valid JSON without the white space between its parts.
func appendCompact(dst, text []byte) []byte {
	if !bytes.ContainsAny(text, " \t\r\n") {
		return append(dst, text...)
	}
	for i := 0; i < len(text); {
		switch {
		case isSpace(text[i]):
			i++
		case text[i] == '"':
			end := skipString(text, i)
			dst = append(dst, text[i:end]...)
			i = end
		default:
			dst = append(dst, text[i])
			i++
		}
	}
	return dst
}

const lowerHex = "0123456789abcdef"

// appendJSONString appends s, which must be valid UTF-8, in quotes.
func appendJSONString[S string | []byte](dst []byte, s S) []byte {
	dst, _ = appendText(dst, s)
	return dst
}

// appendText appends s in quotes and reports whether it is valid UTF-8. Only
// what must be escaped is escaped.
func appendText[S string | []byte](dst []byte, s S) ([]byte, bool) {
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r == utf8.RuneError && size == 1 {
				return dst, false
			}
			i += size
			continue
		}
		if c < ' ' || c == '"' || c == '\\' {
			dst = appendEscape(append(dst, s[done:i]...), c)
			done = i + 1
		}
		i++
	}
	return append(append(dst, s[done:]...), '"'), true
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, `\b`...)
	case '\f':
		return append(dst, `\f`...)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return append(dst, '\\', 'u', '0', '0', lowerHex[c>>4], lowerHex[c&15])
}
