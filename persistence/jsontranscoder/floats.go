package jsontranscoder

import (
	"bytes"
	"errors"
	"math"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The tokens that Python writes for floats which are not finite, and JSON does
// not have.
var floatTokens = map[string]float64{"NaN": math.NaN(), "Infinity": math.Inf(1), "-Infinity": math.Inf(-1)}

// floatName is the name of the value that stands for such a token. It is never
// stored.
const floatName = "float that is not finite"

func quotedFloat(token string) string {
	return `{"` + typeKey + `":"` + floatName + `","` + dataKey + `":"` + token + `"}`
}

// QuoteFloats implements transcoding.JSON.
func (t *transcoder) QuoteFloats(data []byte) []byte {
	if !bytes.Contains(data, []byte("NaN")) && !bytes.Contains(data, []byte("Infinity")) {
		return data
	}
	quoted := make([]byte, 0, len(data)+len(quotedFloat("")))
	for i := 0; i < len(data); {
		end := i + 1
		switch data[i] {
		case '"':
			end = endOfText(data, i)
		case 'N', 'I', '-':
			if token := floatToken(data[i:]); token != "" {
				quoted, i = append(quoted, quotedFloat(token)...), i+len(token)
				continue
			}
		}
		quoted, i = append(quoted, data[i:end]...), end
	}
	return quoted
}

// endOfText returns where the text that begins at i ends.
func endOfText(data []byte, i int) int {
	for i++; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(data)
}

func floatToken(data []byte) string {
	for token := range floatTokens {
		if bytes.HasPrefix(data, []byte(token)) {
			return token
		}
	}
	return ""
}

// UnquoteFloats implements transcoding.JSON.
func (t *transcoder) UnquoteFloats(data []byte) []byte {
	if !bytes.Contains(data, []byte(`"`+floatName+`"`)) {
		return data
	}
	for token := range floatTokens { // a text has its quotes escaped, so it is not changed
		data = bytes.ReplaceAll(data, []byte(quotedFloat(token)), []byte(token))
	}
	return data
}

// float writes values of the types float64 and float32, and of those made of
// them, if the transcoder has its own form for them.
func (e *encoder) float(to *jsontext.Encoder, value any) error {
	v := reflect.Indirect(reflect.ValueOf(value)) // package json passes a pointer
	bits := 64
	switch v.Kind() {
	case reflect.Float32:
		bits = 32
	case reflect.Float64:
	default:
		return errors.ErrUnsupported
	}
	if isKey(to) || implements(v.Type(), marshalerType) || implements(v.Type(), textMarshalerType) {
		return errors.ErrUnsupported
	}
	return e.writeFloat(to, v.Float(), bits)
}

func (e *encoder) writeFloat(to *jsontext.Encoder, f float64, bits int) error {
	quoted, _ := json.GetOption(to.Options(), json.StringifyNumbers)
	for token, special := range floatTokens {
		if (f == special || f != f && special != special) && !quoted {
			e.wrapped++
			return to.WriteValue(jsontext.Value(quotedFloat(token)))
		}
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return &payloadError{Type: reflect.TypeFor[float64](), Problem: notFinite(reflect.TypeFor[float64]())}
	}
	text := e.transcoder.form.AppendFloat(nil, f, bits)
	if quoted {
		return to.WriteToken(jsontext.String(string(text)))
	}
	return to.WriteValue(jsontext.Value(text))
}

// decodeFloat reads a value that stands for a token.
func decodeFloat(d *jsontext.Decoder, into any) error {
	var token string
	if err := json.UnmarshalDecode(d, &token); err != nil {
		return err
	}
	f, known := floatTokens[token]
	switch target := reflect.ValueOf(into).Elem(); {
	case !known:
	case target.Kind() == reflect.Float32 || target.Kind() == reflect.Float64:
		target.SetFloat(f)
		return nil
	case target.Kind() == reflect.Interface && reflect.TypeFor[float64]().Implements(target.Type()):
		target.Set(reflect.ValueOf(f))
		return nil
	}
	return &payloadError{Type: reflect.TypeOf(into).Elem(), Problem: "a number that is not finite (NaN or infinite) does not fit Go type " +
		typeName(reflect.TypeOf(into).Elem())}
}
