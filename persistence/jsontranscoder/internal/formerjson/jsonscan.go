package formerjson

import (
	"bytes"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const tooDeep = "values nest deeper than 100, or contain themselves"

// checkSyntax finds what keeps data from being exactly one JSON value, with
// white space around it, that can be put into as many objects and arrays as
// nesting says. It returns the position and the problem, or an empty problem.
//
// Everything that reads JSON after this relies on it.
func checkSyntax(data []byte, nesting int) (offset int, problem string) {
	s := syntax{data: data, nesting: nesting}
	if i := s.value(skipSpace(data, 0)); s.problem == "" {
		if i = skipSpace(data, i); i < len(data) {
			s.stop(i, "there is more data after the JSON value")
		}
	}
	return s.offset, s.problem
}

// syntax reads JSON that may be anything. Its methods take the position of what
// they read and return the one after it. After a problem they return the length
// of the data, so that nothing is read any more.
type syntax struct {
	data    []byte
	nesting int
	offset  int
	problem string
}

func (s *syntax) stop(i int, problem string) int {
	if s.problem == "" {
		s.offset, s.problem = i, problem
		if i >= len(s.data) {
			s.problem = "the JSON value ends too early"
		}
	}
	return len(s.data)
}

// at is the byte at a position, and 0, which is nowhere allowed, at the end.
func (s *syntax) at(i int) byte {
	if i < len(s.data) {
		return s.data[i]
	}
	return 0
}

func (s *syntax) value(i int) int {
	switch c := s.at(i); {
	case c == '"':
		return s.text(i)
	case c == '-' || isDigit(c):
		return s.number(i)
	case c == '{':
		return s.nested(i, '}', (*syntax).member)
	case c == '[':
		return s.nested(i, ']', (*syntax).value)
	case c == 't':
		return s.literal(i, "true")
	case c == 'f':
		return s.literal(i, "false")
	case c == 'n':
		return s.literal(i, "null")
	}
	return s.stop(i, "a JSON value is expected")
}

// nested reads an object or an array.
func (s *syntax) nested(i int, end byte, part func(*syntax, int) int) int {
	if s.nesting++; s.nesting > maxNesting {
		return s.stop(i, tooDeep)
	}
	i = skipSpace(s.data, i+1)
	if s.at(i) != end {
		i = skipSpace(s.data, part(s, i))
		for s.at(i) == ',' {
			i = skipSpace(s.data, part(s, skipSpace(s.data, i+1)))
		}
	}
	if s.at(i) != end {
		return s.stop(i, "a comma or the end of the object or array is expected")
	}
	s.nesting--
	return i + 1
}

// member reads a key and its value.
func (s *syntax) member(i int) int {
	if s.at(i) != '"' {
		return s.stop(i, "a key in quotes is expected")
	}
	i = skipSpace(s.data, s.text(i))
	if s.at(i) != ':' {
		return s.stop(i, "a colon is expected")
	}
	return s.value(skipSpace(s.data, i+1))
}

func (s *syntax) text(i int) int {
	for i++; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '"':
			return i + 1
		case c < ' ':
			return s.stop(i, "a string contains a control character")
		case c == '\\':
			n := escapeLength(s.data[i:])
			if n == 0 {
				return s.stop(i, "a string contains an escape that does not exist")
			}
			i += n - 1
		}
	}
	return s.stop(i, "")
}

// escapeLength is the length of the escape sequence that text begins with, and
// 0 if it is none.
func escapeLength(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(text) >= 6 && hexValue(text[2:6]) >= 0 {
			return 6
		}
	}
	return 0
}

// hexValue is the number that hexadecimal digits stand for, and negative if
// they are none.
func hexValue(digits []byte) rune {
	n := rune(0)
	for _, c := range digits {
		switch {
		case isDigit(c):
			n = n<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			n = n<<4 | rune(c-'A'+10)
		default:
			return -1
		}
	}
	return n
}

func (s *syntax) number(i int) int {
	if s.at(i) == '-' {
		i++
	}
	if s.at(i) == '0' {
		i++
	} else {
		i = s.digits(i)
	}
	if s.at(i) == '.' {
		i = s.digits(i + 1)
	}
	if c := s.at(i); c == 'e' || c == 'E' {
		i++
		if c := s.at(i); c == '+' || c == '-' {
			i++
		}
		i = s.digits(i)
	}
	return i
}

func (s *syntax) digits(i int) int {
	if !isDigit(s.at(i)) {
		return s.stop(i, "a digit is expected")
	}
	for isDigit(s.at(i)) {
		i++
	}
	return i
}

func (s *syntax) literal(i int, word string) int {
	if !bytes.HasPrefix(s.data[i:], []byte(word)) {
		return s.stop(i, "a JSON value is expected")
	}
	return i + len(word)
}

// isNumber reports whether text is a JSON number and nothing else.
func isNumber(text []byte) bool {
	s := syntax{data: text}
	return s.number(0) == len(text) && s.problem == ""
}

// The functions below read JSON that is known to be right.

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func skipSpace(data []byte, i int) int {
	for i < len(data) && isSpace(data[i]) {
		i++
	}
	return i
}

func skipString(data []byte, i int) int {
	for i++; data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// skipValue finds the end of the value at i.
func skipValue(data []byte, i int) int {
	for open := 0; i < len(data); {
		switch data[i] {
		case '"':
			i = skipString(data, i)
		case '{', '[':
			open++
			i++
		case '}', ']':
			open--
			i++
		case ',', ':', ' ', '\t', '\r', '\n': // inside an object or an array
			i++
			continue
		default:
			i = skipWord(data, i)
		}
		if open == 0 {
			break
		}
	}
	return i
}

// skipWord finds the end of a number, true, false or null.
func skipWord(data []byte, i int) int {
	for i < len(data) {
		switch data[i] {
		case ',', ':', '}', ']', ' ', '\t', '\r', '\n':
			return i
		}
		i++
	}
	return i
}

// mayHoldWrappers reports whether any value in data may name a transcoding.
// Escapes of ASCII characters can spell the key, although it is not usually
// written so.
func mayHoldWrappers(data []byte) bool {
	return bytes.Contains(data, []byte(`"`+typeKey+`"`)) || bytes.Contains(data, []byte(`\u00`))
}

// unquote returns what a string in quotes means. The result may be a part of
// quoted.
func unquote(quoted []byte) []byte {
	text := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text) {
		return text
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '\\' && text[i+1] == 'u':
			r, size := escapedRune(text[i:])
			out = utf8.AppendRune(out, r)
			i += size
		case c == '\\':
			out = append(out, escaped(text[i+1]))
			i += 2
		case c < utf8.RuneSelf:
			out = append(out, c)
			i++
		default:
			r, size := utf8.DecodeRune(text[i:])
			out = utf8.AppendRune(out, r)
			i += size
		}
	}
	return out
}

// escapedRune reads one \u escape, or two if a character needs both. Half of
// such a character becomes the replacement character.
func escapedRune(text []byte) (r rune, size int) {
	r = hexValue(text[2:6])
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(text) >= 12 && text[6] == '\\' && text[7] == 'u' {
		if pair := utf16.DecodeRune(r, hexValue(text[8:12])); pair != unicode.ReplacementChar {
			return pair, 12
		}
	}
	return unicode.ReplacementChar, 6
}

func escaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}
