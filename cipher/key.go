package cipher

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxKeyID is shorter than the base64 form of the shortest key (24 characters),
// so a key put in the place of an id is refused, and neither stored in every
// row nor printed.
const maxKeyID = 16

// Key is a secret key with the id that is stored beside everything it encrypts.
// Keys come from ParseKeys and NewKey; the zero Key is refused by every cipher.
//
// A Key may be passed to loggers and formatters: they see its id, never its
// bytes. Keys are not comparable with ==.
type Key struct {
	id string

	// secret returns the bytes. A closure is opaque to the printers that follow
	// pointers and unexported fields by reflection, such as those of test
	// libraries.
	secret func() []byte
}

// CreateKey returns the base64 form of size random bytes, to be used as a
// CIPHER_KEY. Size is 16, 24 or 32; another one returns an ErrKey.
func CreateKey(size int) (string, error) {
	if err := checkSize(size, "bytes"); err != nil {
		return "", err
	}
	secret := make([]byte, size)
	rand.Read(secret) // never fails
	return base64.StdEncoding.EncodeToString(secret), nil
}

// NewKey returns a key for bytes that come from elsewhere than a setting, for
// example from a key management service. It copies secret, which has 16, 24 or
// 32 bytes. An empty id is replaced by one derived from the bytes, which is the
// one ParseKeys gives. Errors are ErrKey.
func NewKey(id string, secret []byte) (Key, error) {
	if err := checkSecret(secret, "bytes"); err != nil {
		return Key{}, err
	}
	return newKey(id, secret)
}

// ParseKeys reads the setting CIPHER_KEY: keys in standard base64, separated by
// commas, each optionally with an id and a colon before it. Spaces around a key
// are ignored. The first key is to encrypt, all are to decrypt.
//
// All mistakes are reported together, as an ErrKey.
func ParseKeys(value string) ([]Key, error) {
	if strings.TrimSpace(value) == "" {
		return nil, &keyError{reason: "want at least one, got none"}
	}
	var keys []Key
	var mistakes []error
	for i, field := range strings.Split(value, ",") {
		key, err := parseKey(strings.TrimSpace(field))
		keys = append(keys, key)
		mistakes = append(mistakes, atPosition(err, i+1))
	}
	if err := errors.Join(append(mistakes, checkDistinct(keys)...)...); err != nil {
		return nil, err
	}
	return keys, nil
}

// parseKey reads "base64" or "id:base64".
func parseKey(field string) (Key, error) {
	id, encoded, named := strings.Cut(field, ":")
	if !named {
		id, encoded = "", field
	} else if id == "" {
		return Key{}, errKeyID()
	}
	secret, err := decodeSecret(encoded)
	if err != nil {
		return Key{}, err
	}
	return newKey(id, secret)
}

// decodeSecret drops the error of the base64 package, which would tell a
// position inside the key.
func decodeSecret(encoded string) ([]byte, error) {
	if encoded == "" {
		return nil, &keyError{reason: "want standard base64, got nothing"}
	}
	secret, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, &keyError{reason: fmt.Sprintf("want standard base64, which these %d characters are not", len(encoded))}
	}
	return secret, checkSecret(secret, "bytes after base64")
}

func newKey(id string, secret []byte) (Key, error) {
	if id == "" {
		id = deriveKeyID(secret)
	}
	if !validKeyID(id) {
		return Key{}, errKeyID()
	}
	secret = bytes.Clone(secret)
	return Key{id: id, secret: func() []byte { return secret }}, nil
}

// deriveKeyID is part of the stored format: another derivation would make every
// row written without an explicit id unreadable. The prefix keeps the hash from
// being of use anywhere else.
func deriveKeyID(secret []byte) string {
	hash := sha256.New()
	io.WriteString(hash, "eventsourcing cipher key id\x00") // a hash never fails
	hash.Write(secret)
	return hex.EncodeToString(hash.Sum(nil)[:4])
}

func validKeyID[T string | []byte](id T) bool {
	for i := range len(id) {
		if !isKeyIDByte(id[i]) {
			return false
		}
	}
	return len(id) >= 1 && len(id) <= maxKeyID
}

func isKeyIDByte(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '.' || b == '_' || b == '-'
}

// errKeyID does not repeat the id, which may be a key in the wrong place.
func errKeyID() error {
	return &keyError{reason: fmt.Sprintf("want an id of 1 to %d letters, digits, '.', '_' or '-' before the colon", maxKeyID)}
}

func checkSecret(secret []byte, unit string) error {
	if err := checkSize(len(secret), unit); err != nil {
		return err
	}
	if bytes.Count(secret, secret[:1]) == len(secret) {
		return &keyError{reason: "weak key, all its bytes are equal"}
	}
	return nil
}

func checkSize(size int, unit string) error {
	switch size {
	case 16, 24, 32:
		return nil
	}
	return &keyError{reason: fmt.Sprintf("want 16, 24 or 32 %s, got %d", unit, size)}
}

// checkDistinct compares each key with those before it. Zero keys are an error
// that is reported elsewhere, and are passed over here.
func checkDistinct(keys []Key) (mistakes []error) {
	for i := range keys {
		for j := range i {
			if reason := clash(keys[i], keys[j], j+1); reason != "" {
				mistakes = append(mistakes, &keyError{position: i + 1, reason: reason})
			}
		}
	}
	return mistakes
}

// clash says why key cannot be in one list with other, which is at position; it
// is empty if it can.
func clash(key, other Key, position int) string {
	switch {
	case key.isZero() || other.isZero():
		return ""
	case bytes.Equal(key.secret(), other.secret()):
		return fmt.Sprintf("same as key %d", position)
	case key.id == other.id:
		return fmt.Sprintf("has the id %q, and so has key %d, which is another key", key.id, position)
	}
	return ""
}

// atPosition puts the position in the list into a keyError.
func atPosition(err error, position int) error {
	if keyErr, ok := errors.AsType[*keyError](err); ok {
		keyErr.position = position
	}
	return err
}

// ID returns the id that is stored beside everything the key encrypts. It is
// not secret.
func (k Key) ID() string { return k.id }

// Format writes a text with the id of the key, for every verb, so that no verb
// prints the fields.
func (k Key) Format(state fmt.State, _ rune) {
	io.WriteString(state, k.text()) // a formatter has nowhere to report an error
}

// MarshalText returns what Format writes, so that an encoder and a logger write
// the id and not the key. There is no way back.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.text()), nil }

func (k Key) text() string { return "cipher.Key(" + k.id + ")" }

func (k Key) isZero() bool { return k.secret == nil }
