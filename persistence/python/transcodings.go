package python

import (
	"encoding/hex"
	"regexp"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
)

// Transcodings are those that every application of the Python library has:
//
//   - "uuid_hex" stores a uuid.UUID as 32 hexadecimal digits.
//   - "datetime_iso" stores a time.Time as Python's isoformat writes it, in UTC
//     and cut to the microsecond. Times in years that Python does not have are
//     refused. Without an offset a stored time is taken to be UTC.
//   - "decimal_str" stores a Decimal as its text.
func Transcodings() []jsontranscoder.Transcoding {
	return []jsontranscoder.Transcoding{uuidHex(), datetimeISO(), decimalStr()}
}

// uuidHex stores a uuid.UUID under the name "uuid_hex", as 32 hexadecimal
// digits.
func uuidHex() jsontranscoder.Transcoding {
	return jsontranscoder.NewTranscoding("uuid_hex", encodeUUID, decodeUUID)
}

func encodeUUID(id uuid.UUID) (string, error) { return hex.EncodeToString(id[:]), nil }

func decodeUUID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, refused("it is not a UUID")
	}
	return id, nil
}

// datetimeISO stores a time.Time under the name "datetime_iso", as Python's
// isoformat writes it:
//
//	2024-01-02T03:04:05.678901+00:00
//
// Times are stored in UTC and cut to the microsecond, and come back so. When
// decoding, other offsets from UTC and "Z" are understood too, and a time
// without an offset is taken to be UTC. Python has no years but 1 to 9999;
// times in others are refused.
func datetimeISO() jsontranscoder.Transcoding {
	return jsontranscoder.NewTranscoding("datetime_iso", encodeTime, decodeTime)
}

func encodeTime(t time.Time) (string, error) {
	t = t.UTC()
	if year := t.Year(); year < 1 || year > 9999 {
		return "", refused("its year is not between 1 and 9999")
	}
	layout := "2006-01-02T15:04:05.000000+00:00"
	if t.Nanosecond() < int(time.Microsecond) {
		layout = "2006-01-02T15:04:05+00:00"
	}
	return t.Format(layout), nil
}

// timeLayouts are the forms of times that are understood, the usual one first.
// All of them allow a fraction.
var timeLayouts = []string{
	time.RFC3339,
	naiveLayout,
	"2006-01-02T15:04:05Z07:00:00",
}

func decodeTime(text string) (time.Time, error) {
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, refused("it is not a time in ISO format")
}

// Decimal is a decimal number as its exact text, for example "10.00", "-0.5" or
// "1E+3". It is what Python's Decimal is stored as, so trailing zeros and
// exponents survive; give the text to a decimal package to calculate. A text
// that Python's Decimal does not take, such as that of the zero Decimal, is
// refused when it is encoded and when it is decoded. Python also has "NaN",
// "sNaN", "NaN123" and "Infinity", with signs; see IsFinite.
type Decimal string

// IsFinite reports whether the Decimal is a number, and not one of Python's
// special values for infinity and for what is not a number.
func (d Decimal) IsFinite() bool { return finitePattern.MatchString(string(d)) }

// decimalStr stores a Decimal under the name "decimal_str", as its text.
func decimalStr() jsontranscoder.Transcoding {
	return jsontranscoder.NewTranscoding("decimal_str",
		func(d Decimal) (string, error) { return string(d), d.check() },
		func(text string) (Decimal, error) { return Decimal(text), Decimal(text).check() })
}

// MarshalText implements encoding.TextMarshaler, for a Decimal that is encoded
// without the transcoding decimal_str.
func (d Decimal) MarshalText() ([]byte, error) { return []byte(d), d.check() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Decimal) UnmarshalText(text []byte) error {
	*d = Decimal(text)
	return d.check()
}

var (
	finitePattern  = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)
	specialPattern = regexp.MustCompile(`^[+-]?(s?NaN[0-9]*|Infinity)$`) // as in str(Decimal)
)

func (d Decimal) check() error {
	switch {
	case d == "":
		return refused("the empty Decimal is not a number; write 0")
	case !d.IsFinite() && !specialPattern.MatchString(string(d)):
		return refused("it is not a decimal number")
	}
	return nil
}

// refused is the error of a value that has no form in Python or in Go.
func refused(problem string) error {
	return &persistence.Error{Class: persistence.ErrData, Op: "python: convert a value", Hint: problem}
}
