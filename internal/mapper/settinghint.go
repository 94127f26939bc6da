package mapper

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf8"
)

// formats are the first bytes of the formats that states can have, with the
// setting that opens them.
var formats = []struct{ prefix, setting string }{
	{envelopeMagic, "it is an envelope of the cipher aes: set CIPHER_TOPIC=aes and CIPHER_KEY"},
	{"\x28\xb5\x2f\xfd", "it begins as zstd does: set COMPRESSOR_TOPIC=zstd"},
	{"\x78\x01", hintZlib}, {"\x78\x5e", hintZlib}, {"\x78\x9c", hintZlib}, {"\x78\xda", hintZlib},
	{"\x1f\x8b\x08", hintPythonModule("gzip")},
	{"BZh", hintPythonModule("bz2")},
	{"\xfd7zXZ\x00", hintPythonModule("lzma")},
}

const hintZlib = "it begins as zlib does: set COMPRESSOR_TOPIC=zlib"

func hintPythonModule(name string) string {
	return "it begins as Python's module " + name + " writes it: implement persistence.Compressor and give it by " +
		"application.WithCompressor"
}

// formatHint returns the setting that opens a state which begins like one of a
// known format, or "".
func formatHint(state []byte) string {
	for _, f := range formats {
		if bytes.HasPrefix(state, []byte(f.prefix)) {
			return f.setting
		}
	}
	return ""
}

// unreadable adds to an error the setting that would open the bytes, as far as
// their beginning says it. Bytes that no format begins with may be a ciphertext
// of the Python library, unless they were decrypted.
func (m *Mapper) unreadable(state []byte, err error) error {
	hint := formatHint(state)
	if hint == "" && m.cipher == nil && len(state) >= smallestSealed && !utf8.Valid(state) {
		hint = "if the Python library has encrypted it, set CIPHER_TOPIC=eventsourcing.cipher:AESCipher and CIPHER_KEY"
	}
	return withHint(err, hint)
}

// undecrypted adds to the error of a cipher what the state looks like. An
// envelope names its key, and its cipher says what is absent.
func undecrypted(state []byte, err error) error {
	switch hint := formatHint(state); {
	case bytes.HasPrefix(state, []byte(envelopeMagic)):
		return err
	case isPlain(state) && !mayBeSealed(state):
		return withHint(err, "it is not encrypted: remove CIPHER_TOPIC and CIPHER_KEY, or encrypt what is stored first")
	case hint != "":
		return withHint(err, "it is not encrypted, and "+hint+" without CIPHER_TOPIC and CIPHER_KEY")
	}
	return withHint(err, "it needs another CIPHER_KEY or CIPHER_TOPIC, or it was altered")
}

func withHint(err error, hint string) error {
	if hint == "" {
		return err
	}
	return fmt.Errorf("%w; %s", err, hint)
}

// mayBeSealed reports whether a state that begins like a plain one may be a
// ciphertext of the Python library, which begins with random bytes: one of 128
// begins like this. A plain JSON text is valid UTF-8, and a plain header has a
// time of a year that can be stored; neither holds for most random bytes.
func mayBeSealed(state []byte) bool {
	switch {
	case len(state) < smallestSealed:
		return false
	case state[0] == layoutPython:
		return !utf8.Valid(state)
	}
	year := time.UnixMicro(int64(binary.BigEndian.Uint64(state[17:25]))).UTC().Year()
	return year < 1 || year > 9999
}
