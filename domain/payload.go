package domain

import (
	"math/big"
	"reflect"
	"time"
)

// A payload that is triggered has three owners: the caller, the aggregate that
// it is applied to, and the pending event. They must not share memory, or the
// event that is stored is not the one that was triggered. And the state must be
// the one that is loaded later, so times are as a store keeps them.

var timeType = reflect.TypeFor[time.Time]()

// isolated returns a copy of a payload whose slices, maps, pointers and
// interfaces are its own, and whose times are in UTC to the microsecond. What
// unexported fields refer to is shared, but in math/big: types such as decimals
// are treated as values.
func (t *EventType) isolated(data any) any {
	if t.flat {
		return data
	}
	v := reflect.New(t.goType).Elem()
	v.Set(reflect.ValueOf(data))
	isolate(v, 0)
	return v.Interface()
}

// isFlat reports whether values of a type refer to nothing and have no times in
// them, so that an assignment copies them.
func isFlat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice, reflect.Map, reflect.Pointer, reflect.Interface:
		return false
	case reflect.Array:
		return isFlat(t.Elem())
	case reflect.Struct:
		if t == timeType {
			return false
		}
		for i := range t.NumField() {
			if !isFlat(t.Field(i).Type) {
				return false
			}
		}
	}
	return true
}

// deepest is how deep a payload may be. A deeper one refers to itself, which
// the transcoder refuses when the event is saved.
const deepest = 1000

// isolate replaces what a settable value refers to by copies.
func isolate(v reflect.Value, depth int) {
	if depth > deepest || isFlat(v.Type()) {
		return
	}
	switch v.Kind() {
	case reflect.Slice:
		if v.IsNil() {
			return
		}
		own := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(own, v)
		for i := range own.Len() {
			isolate(own.Index(i), depth+1)
		}
		v.Set(own)
	case reflect.Array:
		for i := range v.Len() {
			isolate(v.Index(i), depth+1)
		}
	case reflect.Map:
		if v.IsNil() {
			return
		}
		own := reflect.MakeMapWithSize(v.Type(), v.Len())
		for entries := v.MapRange(); entries.Next(); {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			key.Set(entries.Key())
			value.Set(entries.Value())
			if key.Kind() == reflect.Struct { // a time, or with times in it; others are compared by identity
				isolate(key, depth+1)
			}
			isolate(value, depth+1)
			own.SetMapIndex(key, value)
		}
		v.Set(own)
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		own := reflect.New(v.Type().Elem())
		own.Elem().Set(v.Elem())
		isolate(own.Elem(), depth+1)
		v.Set(own)
	case reflect.Interface:
		if v.IsNil() {
			return
		}
		own := reflect.New(v.Elem().Type()).Elem()
		own.Set(v.Elem())
		isolate(own, depth+1)
		v.Set(own)
	case reflect.Struct:
		if v.CanSet() && isolateKnown(v) {
			return
		}
		for i := range v.NumField() {
			// An embedded struct has fields that can be set even if its type is
			// not exported.
			field := v.Field(i)
			if field.CanSet() || v.Type().Field(i).Anonymous && field.Kind() == reflect.Struct {
				isolate(field, depth+1)
			}
		}
	}
}

// isolateKnown copies a struct that can be changed in place although its fields
// are not exported, and normalises times. It returns false for other types.
func isolateKnown(v reflect.Value) bool {
	switch known := v.Addr().Interface().(type) {
	case *time.Time:
		*known = normalTime(*known)
	case *big.Int:
		v.Set(reflect.ValueOf(new(big.Int).Set(known)).Elem())
	case *big.Rat:
		v.Set(reflect.ValueOf(new(big.Rat).Set(known)).Elem())
	case *big.Float:
		v.Set(reflect.ValueOf(new(big.Float).Copy(known)).Elem())
	default:
		return false
	}
	return true
}
