package domain

import (
	"fmt"
	"math/big"
	"reflect"
	"sync"
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
func (t *eventType) isolated(data any) any {
	own, ok := t.Copy(data)
	if !ok {
		panic(&definitionError{problem: fmt.Sprintf("the payload of %s has more than %d values and cannot be stored; "+
			"keep large data elsewhere", t.topic, mostValues)})
	}
	return own
}

func (t *eventType) Copy(data any) (own any, ok bool) {
	if t.flat {
		return data, true
	}
	v := reflect.New(t.goType).Elem()
	v.Set(reflect.ValueOf(data))
	tree := isolation{left: fewValues}
	tree.isolate(v, 0)
	if tree.left >= 0 {
		return v.Interface(), true
	}
	v.Set(reflect.ValueOf(data))
	sharing := isolation{left: mostValues, copies: map[reference]reflect.Value{}}
	sharing.isolate(v, 0)
	return v.Interface(), sharing.left >= 0
}

const (
	// fewValues is how many values a payload may have that is copied as a tree.
	// The copy of a larger one shares what the payload shares, so that the time
	// it takes does not grow with the number of ways that lead to a value.
	fewValues = 10_000
	// mostValues is how many values a payload may have: more than a state of
	// the largest size has in JSON.
	mostValues = 1 << 23
)

// isolation makes one copy of a payload.
type isolation struct {
	left   int                         // how many more values are copied
	copies map[reference]reflect.Value // what was copied; nil copies it again each time
}

// reference identifies what a pointer, a slice or a map refers to.
type reference struct {
	to     uintptr
	length int
	goType reflect.Type
}

// copyOf returns the copy of what v refers to. If there is none yet, it enters
// the one that create makes and fills it.
func (i *isolation) copyOf(v reflect.Value, create func() reflect.Value, fill func(own reflect.Value)) reflect.Value {
	at := reference{to: v.Pointer(), goType: v.Type()}
	if v.Kind() == reflect.Slice {
		at.length = v.Len()
	}
	if own, ok := i.copies[at]; ok {
		return own
	}
	own := create()
	if i.copies != nil {
		i.copies[at] = own
	}
	fill(own)
	return own
}

// shape is what there is to copy in values of a type.
type shape struct {
	isFlat bool  // they refer to nothing and have no times in them: an assignment copies them
	fields []int // of a struct, those that are not flat and can be set
}

// shapes keeps the shape of each type: it follows from the type alone.
var shapes sync.Map // of reflect.Type to shape

func shapeOf(t reflect.Type) shape {
	if known, ok := shapes.Load(t); ok {
		return known.(shape)
	}
	s := shape{isFlat: isFlat(t)}
	if t.Kind() == reflect.Struct {
		for n := range t.NumField() {
			// An embedded struct has fields that can be set even if its type is
			// not exported.
			f := t.Field(n)
			if (f.IsExported() || f.Anonymous && f.Type.Kind() == reflect.Struct) && !isFlat(f.Type) {
				s.fields = append(s.fields, n)
			}
		}
	}
	shapes.Store(t, s)
	return s
}

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

// isolate replaces what a settable value refers to by copies, as long as any
// are left.
func (i *isolation) isolate(v reflect.Value, depth int) {
	if depth > deepest || i.left < 0 {
		return
	}
	s := shapeOf(v.Type())
	if s.isFlat {
		return
	}
	i.left--
	switch v.Kind() {
	case reflect.Slice:
		if !v.IsNil() {
			v.Set(i.slice(v, depth))
		}
	case reflect.Array:
		for n := range v.Len() {
			i.isolate(v.Index(n), depth+1)
		}
	case reflect.Map:
		if !v.IsNil() {
			v.Set(i.mapping(v, depth))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			v.Set(i.pointer(v, depth))
		}
	case reflect.Interface:
		if v.IsNil() {
			return
		}
		own := reflect.New(v.Elem().Type()).Elem()
		own.Set(v.Elem())
		i.isolate(own, depth+1)
		v.Set(own)
	case reflect.Struct:
		if v.CanSet() && isolateKnown(v) {
			return
		}
		for _, n := range s.fields {
			i.isolate(v.Field(n), depth+1)
		}
	}
}

func (i *isolation) slice(v reflect.Value, depth int) reflect.Value {
	create := func() reflect.Value { return reflect.MakeSlice(v.Type(), v.Len(), v.Len()) }
	return i.copyOf(v, create, func(own reflect.Value) {
		reflect.Copy(own, v)
		if shapeOf(v.Type().Elem()).isFlat {
			return
		}
		for n := range own.Len() {
			i.isolate(own.Index(n), depth+1)
		}
	})
}

func (i *isolation) mapping(v reflect.Value, depth int) reflect.Value {
	create := func() reflect.Value { return reflect.MakeMapWithSize(v.Type(), v.Len()) }
	return i.copyOf(v, create, func(own reflect.Value) {
		for entries := v.MapRange(); entries.Next(); {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			key.Set(entries.Key())
			value.Set(entries.Value())
			// A time, or with times in it; others are compared by identity.
			if key.Kind() == reflect.Struct {
				i.isolate(key, depth+1)
			}
			i.isolate(value, depth+1)
			own.SetMapIndex(key, value)
		}
	})
}

func (i *isolation) pointer(v reflect.Value, depth int) reflect.Value {
	create := func() reflect.Value { return reflect.New(v.Type().Elem()) }
	return i.copyOf(v, create, func(own reflect.Value) {
		own.Elem().Set(v.Elem())
		i.isolate(own.Elem(), depth+1)
	})
}

// isolateKnown copies a struct that can be changed in place although its fields
// are not exported, and normalises times. It returns false for other types.
func isolateKnown(v reflect.Value) bool {
	switch known := v.Addr().Interface().(type) {
	case *time.Time:
		*known = payloadTime(*known)
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
