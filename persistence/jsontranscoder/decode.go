package jsontranscoder

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// readable are rows of every origin: those of other programs may have a key
// twice or bytes that are not UTF-8.
var readable = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// reader returns the options for reading data.
func (t *transcoder) reader(data []byte) json.Options {
	t.reading.Do(func() {
		numbers := json.UnmarshalFromFunc(decodeNumber)
		t.readers.plain = json.JoinOptions(jsonForm, readable, json.WithUnmarshalers(json.JoinUnmarshalers(
			json.UnmarshalFromFunc(func(d *jsontext.Decoder, into *any) error { return t.decodeFree(d, into, false) }), numbers)))
		t.readers.wrapped = json.JoinOptions(jsonForm, readable, json.WithUnmarshalers(json.JoinUnmarshalers(
			json.UnmarshalFromFunc(func(d *jsontext.Decoder, into *any) error { return t.decodeFree(d, into, true) }),
			json.UnmarshalFromFunc(t.decodeWrapped), numbers)))
	})
	if mayHoldWrappers(data) {
		return t.readers.wrapped
	}
	return t.readers.plain
}

// mayHoldWrappers reports whether any value in data may name a transcoding.
// Escapes of ASCII characters can spell the key.
func mayHoldWrappers(data []byte) bool {
	return bytes.Contains(data, []byte(`"`+typeKey+`"`)) || bytes.Contains(data, []byte(`\u00`))
}

// decodeWrapped reads a value that names a transcoding, for any target.
func (t *transcoder) decodeWrapped(d *jsontext.Decoder, into any) error {
	if d.PeekKind() != jsontext.KindBeginObject {
		return errors.ErrUnsupported
	}
	typ := reflect.TypeOf(into).Elem()
	if typ.Kind() == reflect.Pointer || typ == reflect.TypeFor[stdjson.RawMessage]() || typ == reflect.TypeFor[jsontext.Value]() {
		return errors.ErrUnsupported
	}
	w, ok := wrapperAt(d.UnreadBuffer())
	if !ok {
		return errors.ErrUnsupported
	}
	return t.unwrap(d, w, into)
}

// wrapper is an object that names a transcoding.
type wrapper struct {
	name      string
	dataFirst bool
}

// wrapperAt looks whether the next value has the two keys of one that names a
// transcoding, and no others.
func wrapperAt(unread []byte) (w wrapper, ok bool) {
	unread = unread[bytes.IndexByte(unread, '{'):]
	if name, ok := textWrapper(unread); ok {
		return wrapper{name: name}, true
	}
	if i := skipSpace(unread, 1); i+1 >= len(unread) || unread[i] != '"' || unread[i+1] != '_' && unread[i+1] != '\\' {
		return w, false
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(unread), readable)
	if _, err := d.ReadToken(); err != nil {
		return w, false
	}
	named, hasData := false, false
	for d.PeekKind() == jsontext.KindString {
		key, err := d.ReadToken()
		if err != nil {
			return w, false
		}
		switch key.String() {
		case typeKey:
			if named || d.PeekKind() != jsontext.KindString {
				return w, false
			}
			name, err := d.ReadToken()
			if err != nil {
				return w, false
			}
			w.name, named = name.String(), true
		case dataKey:
			if hasData || d.SkipValue() != nil {
				return w, false
			}
			w.dataFirst, hasData = !named, true
		default:
			return w, false
		}
	}
	return w, named && hasData && d.PeekKind() == jsontext.KindEndObject
}

// textWrapper is a quick look for the form that is most frequent: the data is a
// text, and nothing has an escape.
func textWrapper(unread []byte) (name string, ok bool) {
	rest, ok := bytes.CutPrefix(unread, []byte(`{"`+typeKey+`":"`))
	if !ok {
		return "", false
	}
	quoted, rest, ok := bytes.Cut(rest, []byte(`","`+dataKey+`":"`))
	if !ok || bytes.ContainsAny(quoted, `"\`) {
		return "", false
	}
	end := bytes.IndexAny(rest, `"\`)
	if end < 0 || end+1 >= len(rest) || rest[end] != '"' || rest[end+1] != '}' {
		return "", false
	}
	return string(quoted), true
}

// unwrap reads the data of a value with a transcoding. If the target is of
// another type than the transcoding's, the data is read into it as if nothing
// had been around it.
func (t *transcoder) unwrap(d *jsontext.Decoder, w wrapper, into any) error {
	transcoding := t.byName[w.name]
	if w.name != floatName && transcoding == nil {
		return &payloadError{Type: reflect.TypeOf(into).Elem(), Name: w.name, Problem: fmt.Sprintf(
			"data serialized with name '%.100s' is not deserializable; register a transcoding for it", w.name), Err: persistence.ErrNewerProgram}
	}
	// The field's tag has the option "string".
	quoted, _ := json.GetOption(d.Options(), json.StringifyNumbers)
	// The brace, a key, the name and a key.
	skipped := 4
	if w.dataFirst {
		skipped = 2
	}
	for range skipped {
		if _, err := d.ReadToken(); err != nil {
			return err
		}
	}
	if err := t.decodeData(d, transcoding, into, quoted); err != nil {
		return err
	}
	for d.PeekKind() == jsontext.KindString {
		if _, err := d.ReadToken(); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

func (t *transcoder) decodeData(d *jsontext.Decoder, transcoding *Transcoding, into any, quoted bool) error {
	target := reflect.TypeOf(into).Elem()
	switch {
	case transcoding == nil:
		return decodeFloat(d, into)
	case target == transcoding.goType:
		return transcoding.decode(d, into)
	case target.Kind() == reflect.Interface && transcoding.goType.Implements(target):
		value := reflect.New(transcoding.goType)
		if err := transcoding.decode(d, value.Interface()); err != nil {
			return err
		}
		reflect.ValueOf(into).Elem().Set(value.Elem())
		return nil
	case quoted && isNumeric(target):
		return json.UnmarshalDecode(d, into, json.StringifyNumbers(true))
	}
	return json.UnmarshalDecode(d, into)
}

func isNumeric(typ reflect.Type) bool {
	return typ.Kind() >= reflect.Int && typ.Kind() <= reflect.Float64
}

// decodeFree reads a value as what it is.
func (t *transcoder) decodeFree(d *jsontext.Decoder, into *any, wrapped bool) error {
	switch d.PeekKind() {
	case jsontext.KindBeginObject:
		if wrapped {
			if w, ok := wrapperAt(d.UnreadBuffer()); ok {
				return t.unwrap(d, w, into)
			}
		}
		return t.decodeObject(d, into, wrapped)
	case jsontext.KindBeginArray:
		return t.decodeArray(d, into, wrapped)
	case jsontext.KindNumber:
		text, err := d.ReadValue()
		if err != nil {
			return err
		}
		*into, err = number(text)
		return err
	}
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	switch token.Kind() {
	case jsontext.KindString:
		*into = token.String()
	case jsontext.KindTrue, jsontext.KindFalse:
		*into = token.Bool()
	default:
		*into = nil
	}
	return nil
}

func (t *transcoder) decodeObject(d *jsontext.Decoder, into *any, wrapped bool) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	object := map[string]any{}
	for d.PeekKind() == jsontext.KindString {
		key, err := d.ReadToken()
		if err != nil {
			return err
		}
		name := key.String()
		var value any
		if err := t.decodeFree(d, &value, wrapped); err != nil {
			return err
		}
		object[name] = value
	}
	*into = object
	_, err := d.ReadToken()
	return err
}

func (t *transcoder) decodeArray(d *jsontext.Decoder, into *any, wrapped bool) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	array := []any{}
	for kind := d.PeekKind(); kind != jsontext.KindEndArray; kind = d.PeekKind() {
		var value any
		if err := t.decodeFree(d, &value, wrapped); err != nil {
			return err
		}
		array = append(array, value)
	}
	*into = array
	_, err := d.ReadToken()
	return err
}

// number returns an int64, a *big.Int if a whole number does not fit it, or a
// float64.
func number(text []byte) (any, error) {
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		return n, nil
	}
	if !bytes.ContainsAny(text, ".eE") {
		if n, ok := new(big.Int).SetString(string(text), 10); ok {
			return n, nil
		}
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return nil, &payloadError{Type: reflect.TypeFor[float64](), Problem: "JSON number does not fit Go type float64"}
	}
	return f, nil
}

// decodeNumber reads a number, or a text that is one, with all its digits.
func decodeNumber(d *jsontext.Decoder, into *stdjson.Number) error {
	value, err := d.ReadValue()
	if err != nil {
		return err
	}
	text := []byte(value)
	switch value.Kind() {
	case jsontext.KindNull:
		return nil
	case jsontext.KindString:
		if text, err = jsontext.AppendUnquote(nil, value); err != nil || !isNumber(text) {
			return errNotNumber
		}
	case jsontext.KindNumber:
	default:
		return errNotNumber
	}
	*into = stdjson.Number(text)
	return nil
}

var errNotNumber = errors.New("it is not a number")

// wrappers counts the values in JSON that name a transcoding, up to the first
// error of syntax.
func wrappers(data []byte) (n int) {
	if !mayHoldWrappers(data) {
		return 0
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(data), readable)
	for {
		if d.PeekKind() == jsontext.KindBeginObject {
			if _, ok := wrapperAt(d.UnreadBuffer()); ok {
				n++
			}
		}
		if _, err := d.ReadToken(); err != nil {
			return n
		}
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func skipSpace(data []byte, i int) int {
	for i < len(data) && isSpace(data[i]) {
		i++
	}
	return i
}
