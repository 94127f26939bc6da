package formerjson

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// decoder holds the state of one call of Decode. The data has passed
// checkSyntax.
type decoder struct {
	t    *JSONTranscoder
	data []byte
	pos  int
	// wrappers says that values in the data may name transcodings.
	wrappers bool
}

func (d *decoder) fail(typ reflect.Type, problem string, cause error) error {
	return &TranscodingError{Type: typ, Offset: d.pos, Problem: problem, Err: cause}
}

// mismatch says that the value at d.pos cannot become a value of the type. It
// describes the value without telling it.
func (d *decoder) mismatch(typ reflect.Type) error {
	return d.fail(typ, d.describe()+" does not fit Go type "+typ.String(), nil)
}

func (d *decoder) describe() string {
	switch d.data[d.pos] {
	case '{':
		return "JSON object"
	case '[':
		return "JSON array"
	case '"':
		return "JSON string"
	case 't', 'f':
		return "JSON boolean"
	case 'n':
		return "JSON null"
	}
	return "JSON number"
}

func (d *decoder) skipSpace() { d.pos = skipSpace(d.data, d.pos) }

// raw reads the value at d.pos as it stands.
func (d *decoder) raw() []byte {
	start := d.pos
	d.pos = skipValue(d.data, start)
	return d.data[start:d.pos]
}

// quoted reads the string at d.pos and returns what it means, which may be a
// part of the data.
func (d *decoder) quoted() []byte {
	start := d.pos
	d.pos = skipString(d.data, start)
	return unquote(d.data[start:d.pos])
}

// null reads the value at d.pos if it is null.
func (d *decoder) null() bool {
	if d.data[d.pos] != 'n' {
		return false
	}
	d.pos += len("null")
	return true
}

// next goes to the next part of an object or array, of which it is inside or,
// the first time, at the beginning. It reports false after the end.
func (d *decoder) next() bool {
	d.skipSpace()
	c := d.data[d.pos]
	d.pos++
	if c == '}' || c == ']' {
		return false
	}
	d.skipSpace()
	if c == ',' {
		return true
	}
	if c := d.data[d.pos]; c == '}' || c == ']' { // empty
		d.pos++
		return false
	}
	return true
}

// key reads the key at d.pos and goes to its value.
func (d *decoder) key() []byte {
	key := d.quoted()
	d.skipSpace()
	d.pos++ // the colon
	d.skipSpace()
	return key
}

// typed reads the value at d.pos into what the pointer points to.
func (d *decoder) typed(into any) error {
	if text, ok := into.(*string); ok && d.data[d.pos] == '"' {
		*text = string(d.quoted())
		return nil
	}
	v := reflect.ValueOf(into).Elem()
	return d.value(d.t.codec(v.Type()), v)
}

// value reads the value at d.pos into v, whose codec is c.
func (d *decoder) value(c codec, v reflect.Value) error {
	if d.wrappers && d.data[d.pos] == '{' && v.Kind() != reflect.Pointer && v.Type() != rawType {
		if w, ok := d.wrapper(); ok {
			return d.unwrap(w, c, v)
		}
	}
	return c.decode(d, v)
}

// wrapper is an object that names a transcoding.
type wrapper struct {
	name []byte
	data int // the position of the data
	end  int // the position after the object
}

// wrapper looks whether the object at d.pos has the two keys of one that names
// a transcoding, and no others. It does not change d.pos.
func (d *decoder) wrapper() (w wrapper, ok bool) {
	if d.data[d.pos] != '{' {
		return w, false
	}
	look := decoder{data: d.data, pos: d.pos}
	keys := 0
	for ; look.next(); keys++ {
		switch string(look.key()) {
		case typeKey:
			if look.data[look.pos] != '"' {
				return w, false
			}
			w.name, ok = look.quoted(), true
		case dataKey:
			w.data = look.pos
			look.raw()
		default:
			return w, false
		}
	}
	w.end = look.pos
	return w, ok && w.data > 0 && keys == 2
}

// unwrap reads the data of a value with a transcoding. Where v is of another
// type than the transcoding's, the data is read into v as if nothing had been
// around it.
func (d *decoder) unwrap(w wrapper, c codec, v reflect.Value) error {
	transcoding := d.t.byName[string(w.name)]
	if transcoding == nil {
		name := string(w.name)
		return &TranscodingError{Type: v.Type(), Name: name, Offset: d.pos, Problem: fmt.Sprintf(
			"data serialized with name '%.100s' is not deserializable; register a transcoding for it", name), Err: errNewerProgram}
	}
	d.pos = w.data
	err := d.unwrapped(transcoding, c, v)
	d.pos = w.end
	return err
}

func (d *decoder) unwrapped(transcoding *Transcoding, c codec, v reflect.Value) error {
	if v.Type() == transcoding.goType {
		return transcoding.decode(d, v.Addr().Interface())
	}
	if v.Kind() == reflect.Interface && transcoding.goType.Implements(v.Type()) {
		value := reflect.New(transcoding.goType)
		if err := transcoding.decode(d, value.Interface()); err != nil {
			return err
		}
		v.Set(value.Elem())
		return nil
	}
	return d.value(c, v)
}

// dynamic reads the value at d.pos as what it is.
func (d *decoder) dynamic() (any, error) {
	switch d.data[d.pos] {
	case '{':
		if d.wrappers {
			if w, ok := d.wrapper(); ok {
				var value any
				err := d.unwrap(w, anyCodec{}, reflect.ValueOf(&value).Elem())
				return value, err
			}
		}
		return d.object()
	case '[':
		return d.array()
	case '"':
		return string(d.quoted()), nil
	case 't', 'f':
		return d.raw()[0] == 't', nil
	case 'n':
		d.raw()
		return nil, nil
	}
	return d.number()
}

func (d *decoder) object() (map[string]any, error) {
	m := map[string]any{}
	for d.next() {
		key := string(d.key())
		value, err := d.dynamic()
		if err != nil {
			return nil, at(err, elementStep)
		}
		m[key] = value
	}
	return m, nil
}

func (d *decoder) array() ([]any, error) {
	values := []any{}
	for d.next() {
		value, err := d.dynamic()
		if err != nil {
			return nil, at(err, elementStep)
		}
		values = append(values, value)
	}
	return values, nil
}

// number reads an int64 or, for what is none, a float64.
func (d *decoder) number() (any, error) {
	start := d.pos
	text := d.raw()
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		d.pos = start
		return nil, d.mismatch(reflect.TypeFor[float64]())
	}
	return f, nil
}

// atNumber reports whether the value at d.pos is a number.
func (d *decoder) atNumber() bool { return d.data[d.pos] == '-' || isDigit(d.data[d.pos]) }

func (boolCodec) decode(d *decoder, v reflect.Value) error {
	switch d.data[d.pos] {
	case 't', 'f':
		v.SetBool(d.raw()[0] == 't')
		return nil
	}
	return d.nullOr(v)
}

// nullOr reads null, which leaves v as it is; anything else does not fit.
func (d *decoder) nullOr(v reflect.Value) error {
	if d.null() {
		return nil
	}
	return d.mismatch(v.Type())
}

func (intCodec) decode(d *decoder, v reflect.Value) error {
	if !d.atNumber() {
		return d.nullOr(v)
	}
	start := d.pos
	n, err := strconv.ParseInt(string(d.raw()), 10, 64)
	if err != nil || v.OverflowInt(n) {
		d.pos = start
		return d.mismatch(v.Type())
	}
	v.SetInt(n)
	return nil
}

func (uintCodec) decode(d *decoder, v reflect.Value) error {
	if !d.atNumber() {
		return d.nullOr(v)
	}
	start := d.pos
	n, err := strconv.ParseUint(string(d.raw()), 10, 64)
	if err != nil || v.OverflowUint(n) {
		d.pos = start
		return d.mismatch(v.Type())
	}
	v.SetUint(n)
	return nil
}

func (c floatCodec) decode(d *decoder, v reflect.Value) error {
	if !d.atNumber() {
		return d.nullOr(v)
	}
	start := d.pos
	f, err := strconv.ParseFloat(string(d.raw()), c.bits)
	if err != nil {
		d.pos = start
		return d.mismatch(v.Type())
	}
	v.SetFloat(f)
	return nil
}

func (stringCodec) decode(d *decoder, v reflect.Value) error {
	if d.data[d.pos] != '"' {
		return d.nullOr(v)
	}
	v.SetString(string(d.quoted()))
	return nil
}

func (numberCodec) decode(d *decoder, v reflect.Value) error {
	if d.atNumber() {
		v.SetString(string(d.raw()))
		return nil
	}
	if d.data[d.pos] != '"' {
		return d.nullOr(v)
	}
	start := d.pos
	text := d.quoted()
	if !isNumber(text) {
		d.pos = start
		return d.mismatch(numberType)
	}
	v.SetString(string(text))
	return nil
}

func (c bytesCodec) decode(d *decoder, v reflect.Value) error {
	if d.data[d.pos] != '"' {
		return sliceCodec(c).decode(d, v)
	}
	start := d.pos
	text := d.quoted()
	decoded, err := base64.StdEncoding.AppendDecode(make([]byte, 0, base64.StdEncoding.DecodedLen(len(text))), text)
	if err != nil {
		d.pos = start
		return d.fail(v.Type(), "JSON string is not base64 for Go type "+v.Type().String(), nil)
	}
	v.SetBytes(decoded)
	return nil
}

func (c sliceCodec) decode(d *decoder, v reflect.Value) error {
	if d.null() {
		v.SetZero()
		return nil
	}
	if d.data[d.pos] != '[' {
		return d.mismatch(v.Type())
	}
	v.SetZero() // whatever shared the old array keeps it as it is
	for i := 0; d.next(); i++ {
		v.Grow(1)
		v.SetLen(i + 1)
		if err := d.value(c.elem, v.Index(i)); err != nil {
			return at(err, elementStep)
		}
	}
	if v.IsNil() {
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	}
	return nil
}

func (c arrayCodec) decode(d *decoder, v reflect.Value) error {
	if d.data[d.pos] != '[' {
		return d.nullOr(v)
	}
	i := 0
	for ; d.next(); i++ {
		if i >= v.Len() {
			d.raw()
			continue
		}
		if err := d.value(c.elem, v.Index(i)); err != nil {
			return at(err, elementStep)
		}
	}
	for ; i < v.Len(); i++ {
		v.Index(i).SetZero()
	}
	return nil
}

func (anyCodec) decode(d *decoder, v reflect.Value) error {
	if d.null() {
		v.SetZero()
		return nil
	}
	if v.NumMethod() > 0 {
		return d.mismatch(v.Type())
	}
	value, err := d.dynamic()
	if err != nil {
		return err
	}
	v.Set(reflect.ValueOf(value))
	return nil
}

func (c pointerCodec) decode(d *decoder, v reflect.Value) error {
	if d.null() {
		v.SetZero()
		return nil
	}
	if v.IsNil() {
		v.Set(reflect.New(v.Type().Elem()))
	}
	return d.value(c.elem, v.Elem())
}

func (objectCodec) decode(d *decoder, v reflect.Value) error {
	if d.null() {
		v.SetZero()
		return nil
	}
	if d.data[d.pos] != '{' {
		return d.mismatch(v.Type())
	}
	m, err := d.object()
	if err != nil {
		return err
	}
	v.Set(reflect.ValueOf(m))
	return nil
}

func (c mapCodec) decode(d *decoder, v reflect.Value) error {
	if d.null() {
		v.SetZero()
		return nil
	}
	if d.data[d.pos] != '{' {
		return d.mismatch(v.Type())
	}
	v.Set(reflect.MakeMap(v.Type()))
	value := reflect.New(v.Type().Elem()).Elem()
	for d.next() {
		start := d.pos
		key, err := c.keys.value(d.key())
		if err != nil {
			d.pos = start
			return d.fail(v.Type().Key(), "JSON key does not fit Go type "+v.Type().Key().String(), err)
		}
		value.SetZero()
		if err := d.value(c.elem, value); err != nil {
			return at(err, elementStep)
		}
		v.SetMapIndex(key, value)
	}
	return nil
}

func (c *structCodec) decode(d *decoder, v reflect.Value) error {
	if d.data[d.pos] != '{' {
		return d.nullOr(v)
	}
	for d.next() {
		f := c.find(d.key())
		if f == nil {
			d.raw()
			continue
		}
		value, ok := f.settable(v)
		if !ok {
			return at(d.fail(f.typ, "it is in an embedded pointer to a struct that is not exported, which cannot be set",
				nil), "."+f.goName)
		}
		if err := d.value(f.codec, value); err != nil {
			return at(err, "."+f.goName)
		}
	}
	return nil
}

// find finds the field for a key: the one with this name or else the first that
// differs only in case.
func (c *structCodec) find(key []byte) *field {
	if f := c.byName[string(key)]; f != nil {
		return f
	}
	name := string(key)
	for i := range c.fields {
		if strings.EqualFold(c.fields[i].name, name) {
			return &c.fields[i]
		}
	}
	return nil
}

func (c quotedCodec) decode(d *decoder, v reflect.Value) error {
	start := d.pos
	if d.null() {
		return nil
	}
	if d.data[d.pos] == '"' {
		inner := decoder{t: d.t, data: d.quoted()}
		if inner.isLiteral() && c.codec.decode(&inner, v) == nil {
			return nil
		}
	}
	d.pos = start
	return d.fail(v.Type(), d.describe()+` is not what the option ",string" stores for Go type `+v.Type().String(), nil)
}

// isLiteral reports whether the data is a JSON value without parts and nothing
// else.
func (d *decoder) isLiteral() bool {
	if _, problem := checkSyntax(d.data, maxNesting); problem != "" {
		return false
	}
	return !isSpace(d.data[0]) && !isSpace(d.data[len(d.data)-1])
}

func (c opaqueCodec) decode(d *decoder, v reflect.Value) error {
	if d.null() {
		return nil
	}
	return d.fail(v.Type(), c.problem, nil)
}

func (c unmarshalJSONCodec) decode(d *decoder, v reflect.Value) error {
	start := d.pos
	if err := v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(d.raw()); err != nil {
		d.pos = start
		return d.fail(v.Type(), d.describe()+" is not accepted by the method UnmarshalJSON of "+v.Type().String(), err)
	}
	return nil
}

func (c unmarshalTextCodec) decode(d *decoder, v reflect.Value) error {
	if d.data[d.pos] == 'n' {
		return d.nullText(v)
	}
	if d.data[d.pos] != '"' {
		return d.mismatch(v.Type())
	}
	start := d.pos
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(d.quoted()); err != nil {
		d.pos = start
		problem := "JSON string is not accepted by the method UnmarshalText of " + v.Type().String()
		if why, ok := err.(reason); ok {
			problem += ": " + why.Error()
		}
		return d.fail(v.Type(), problem, err)
	}
	return nil
}

// nullText reads null into a value that is otherwise a text.
func (d *decoder) nullText(v reflect.Value) error {
	d.null()
	switch v.Kind() {
	case reflect.Map, reflect.Slice:
		v.SetZero()
	}
	return nil
}
