package python

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/transcoding"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
)

// transcoder is what NewTranscoder returns.
type transcoder struct{ transcoding.JSON }

// NewTranscoder makes the transcoder of application.WithPythonLayout, with the
// transcodings of UUIDs, times and decimals and those that are given. It panics
// as jsontranscoder.New does. It writes values so that Python reads them with
// the type that they have here:
//
//   - floats as Python's repr writes them, such as 1.0 and 1e+16, also NaN and
//     Infinity;
//   - times with their offset from UTC, and those in the location Naive without;
//   - nil slices and maps as [] and {}, because Python has None for null.
//
// It reads them as they were: a time keeps its offset, until it is triggered in
// another event, whose times are in UTC. Keys of maps are sorted.
func NewTranscoder(transcodings ...jsontranscoder.Transcoding) persistence.Transcoder {
	all := append([]jsontranscoder.Transcoding{uuidHex(), datetimeWithOffset(), decimalStr()}, transcodings...)
	plain := jsontranscoder.New(all...).(transcoding.JSON)
	return transcoder{plain.ForProgram(transcoding.Form{AppendFloat: appendFloat, EmptyForNil: true})}
}

// CopiesPlain is false: a time keeps its offset, and a nil slice comes back
// empty.
func (t transcoder) CopiesPlain(reflect.Type) bool { return false }

// CheckType implements transcoding.JSON. Beside what the JSON transcoder
// refuses, each field needs a json tag with the name that Python has: reading
// would find the keys, and Python would miss those that are written.
func (t transcoder) CheckType(typ reflect.Type) error {
	if err := t.JSON.CheckType(typ); err != nil {
		return err
	}
	return tagCheck{t, map[reflect.Type]bool{}}.check(typ, "")
}

// tagCheck looks for fields without a name in JSON.
type tagCheck struct {
	transcoder transcoding.JSON
	visited    map[reflect.Type]bool
}

func (c tagCheck) check(typ reflect.Type, path string) error {
	if c.visited[typ] || c.transcoder.HasTranscoding(typ) || hasOwnForm(typ) {
		return nil
	}
	c.visited[typ] = true
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return c.check(typ.Elem(), path)
	case reflect.Struct:
		if typ.Name() != "" {
			path = typ.Name()
		}
		for i := range typ.NumField() {
			if err := c.checkField(typ.Field(i), path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c tagCheck) checkField(f reflect.StructField, path string) error {
	if f.Anonymous && f.Type == reflect.TypeFor[domain.Aggregate]() || f.Name == "_" {
		return nil
	}
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" && !f.Anonymous {
		return &invalid.Error{What: path + "." + f.Name, Class: persistence.ErrProgramming,
			Problem: fmt.Sprintf("cannot be stored: the Python layout needs the name that Python has; give the field a tag such as json:%q", snakeCase(f.Name))}
	}
	return c.check(f.Type, path+"."+f.Name)
}

func hasOwnForm(typ reflect.Type) bool {
	pointer := reflect.PointerTo(typ)
	return pointer.Implements(reflect.TypeFor[json.Marshaler]()) || pointer.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}

// snakeCase is a name as Python programs usually have it.
func snakeCase(name string) string {
	var b strings.Builder
	runes := []rune(name)
	isUpper := func(i int) bool {
		return i >= 0 && i < len(runes) && strings.ToLower(string(runes[i])) != string(runes[i])
	}
	for i, r := range runes {
		if i > 0 && isUpper(i) && (!isUpper(i-1) || i+1 < len(runes) && !isUpper(i+1)) {
			b.WriteByte('_')
		}
		b.WriteString(strings.ToLower(string(r)))
	}
	return b.String()
}

// appendFloat writes a number as Python's repr does: the shortest digits that
// mean the same number, with a fraction if it is whole, and with an exponent if
// that is below -4 or above 15.
func appendFloat(dst []byte, value float64, bits int) []byte {
	scientific := strconv.FormatFloat(value, 'e', -1, bits)
	_, exponent, _ := strings.Cut(scientific, "e")
	if n, _ := strconv.Atoi(exponent); n < -4 || n >= 16 {
		return append(dst, scientific...)
	}
	begin := len(dst)
	dst = strconv.AppendFloat(dst, value, 'f', -1, bits)
	if !strings.Contains(string(dst[begin:]), ".") {
		dst = append(dst, ".0"...)
	}
	return dst
}

// Naive is the location of times that have no offset in Python. In the Python
// layout they are written without one, because Python does not compare times
// with and without an offset. Their clock is that of UTC.
var Naive = time.FixedZone("naive", 0)

// datetimeWithOffset is datetimeISO for the Python layout, in which times keep
// their offset.
func datetimeWithOffset() jsontranscoder.Transcoding {
	return jsontranscoder.NewTranscoding("datetime_iso", encodeTimeWithOffset, decodeTimeWithOffset)
}

func encodeTimeWithOffset(t time.Time) (string, error) {
	if year := t.Year(); year < 1 || year > 9999 {
		return "", refused("its year is not between 1 and 9999")
	}
	layout := "2006-01-02T15:04:05"
	if t.Nanosecond() >= int(time.Microsecond) {
		layout += ".000000"
	}
	_, offset := t.Zone()
	switch {
	case t.Location() == Naive:
	case offset%60 != 0:
		layout += "-07:00:00"
	default:
		layout += "-07:00"
	}
	return t.Format(layout), nil
}

// naiveLayout is the form of times without an offset.
const naiveLayout = "2006-01-02T15:04:05"

func decodeTimeWithOffset(text string) (time.Time, error) {
	for _, layout := range timeLayouts {
		location := time.UTC
		if layout == naiveLayout {
			location = Naive
		}
		t, err := time.ParseInLocation(layout, text, location)
		if err != nil {
			continue
		}
		if layout != naiveLayout { // not the name of a zone of this machine
			_, offset := t.Zone()
			t = t.In(fixedZone(offset))
		}
		return t, nil
	}
	return time.Time{}, refused("it is not a time in ISO format")
}

func fixedZone(offset int) *time.Location {
	if offset == 0 {
		return time.UTC
	}
	return time.FixedZone("", offset)
}
