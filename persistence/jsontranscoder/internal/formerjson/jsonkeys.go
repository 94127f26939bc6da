package formerjson

import (
	"encoding"
	"errors"
	"reflect"
	"strconv"
)

// keyCodec turns the keys of maps of one type into text and back.
type keyCodec struct {
	typ reflect.Type
	// marshal and unmarshal say that the methods of the key are used.
	marshal, unmarshal bool
}

// newKeyCodec reports false for types that cannot be keys.
func newKeyCodec(typ reflect.Type) (keyCodec, bool) {
	c := keyCodec{
		typ:       typ,
		marshal:   typ.Kind() != reflect.String && typ.Implements(textMarshalerType),
		unmarshal: reflect.PointerTo(typ).Implements(textUnmarshalerType),
	}
	switch typ.Kind() {
	case reflect.String,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return c, true
	}
	return c, c.marshal
}

func (c keyCodec) text(key reflect.Value) (string, error) {
	switch {
	case c.marshal && key.Kind() == reflect.Pointer && key.IsNil():
		return "", nil
	case c.marshal:
		text, err := key.Interface().(encoding.TextMarshaler).MarshalText()
		return string(text), err
	case key.Kind() == reflect.String:
		return key.String(), nil
	case key.CanInt():
		return strconv.FormatInt(key.Int(), 10), nil
	}
	return strconv.FormatUint(key.Uint(), 10), nil
}

var errKey = errors.New("key does not fit")

func (c keyCodec) value(text []byte) (reflect.Value, error) {
	pointer := reflect.New(c.typ)
	key := pointer.Elem()
	switch {
	case c.unmarshal:
		return key, pointer.Interface().(encoding.TextUnmarshaler).UnmarshalText(text)
	case key.Kind() == reflect.String:
		key.SetString(string(text))
	case key.CanInt():
		n, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil || key.OverflowInt(n) {
			return key, errKey
		}
		key.SetInt(n)
	case key.CanUint():
		n, err := strconv.ParseUint(string(text), 10, 64)
		if err != nil || key.OverflowUint(n) {
			return key, errKey
		}
		key.SetUint(n)
	default:
		return key, errKey
	}
	return key, nil
}
