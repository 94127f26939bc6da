package cipher

import (
	"slices"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

type pythonCipher struct {
	ring    ring
	scratch scratchPool
}

// NewPythonAES returns a cipher that encrypts with the first key and decrypts
// with all, in the layout of the class AESCipher of the Python library
// eventsourcing: nonce (12 bytes), tag (16 bytes), ciphertext. No keys, zero
// keys, the same key twice and two keys with one id are reported together, as an
// ErrKey.
//
// Use it only for a database that is shared with Python. The layout has no room
// for associated data, which are ignored. Every single state is still secret
// and unaltered, but a writer to the database can move states between rows, and
// they open there: one account's deposit becomes another's. Nor does a state
// name its key, so with several keys decryption tries one after the other. Its
// only error is ErrDecrypt, and then the bytes of dst after its length are
// undefined. Encrypt fails as that of NewAES does.
func NewPythonAES(keys ...Key) (persistence.Cipher, error) {
	ring, err := newRing(keys)
	if err != nil {
		return nil, err
	}
	return &pythonCipher{ring: ring}, nil
}

// Encrypt implements persistence.Cipher. The ciphertext is 28 bytes longer than
// the plaintext. dst may overlap plaintext.
func (c *pythonCipher) Encrypt(dst, plaintext, _ []byte) ([]byte, error) {
	key, err := c.ring.active()
	if err != nil {
		return nil, err
	}
	start := len(dst)
	dst = slices.Grow(dst, nonceSize+len(plaintext)+tagSize)[:start+len(plaintext)]
	copy(dst[start:], plaintext) // moved first, so that dst and plaintext may share memory
	dst = key.aead.Seal(dst[:start], nil, dst[start:], nil)
	moveTagForward(dst[start+nonceSize:])
	return dst, nil
}

// moveTagForward makes ciphertext and tag, the order of Go, into tag and
// ciphertext.
func moveTagForward(sealed []byte) {
	var tag [tagSize]byte
	copy(tag[:], sealed[len(sealed)-tagSize:])
	copy(sealed[tagSize:], sealed)
	copy(sealed, tag[:])
}

// Decrypt implements persistence.Cipher. dst may overlap ciphertext.
func (c *pythonCipher) Decrypt(dst, ciphertext, _ []byte) ([]byte, error) {
	if len(ciphertext) < nonceSize+tagSize {
		return nil, ErrDecrypt
	}
	sealed := c.scratch.get()
	defer c.scratch.put(sealed)
	*sealed = appendTagLast(*sealed, ciphertext)
	for _, key := range c.ring {
		if plaintext, err := open(key, dst, *sealed, nil); err == nil {
			return plaintext, nil
		}
	}
	return nil, ErrDecrypt
}

// appendTagLast appends original, which has the tag before the ciphertext, in
// the order of Go.
func appendTagLast(dst, original []byte) []byte {
	nonce, rest := original[:nonceSize], original[nonceSize:]
	dst = append(dst, nonce...)
	dst = append(dst, rest[tagSize:]...)
	return append(dst, rest[:tagSize]...)
}

// String returns a text with the ids of the keys.
func (c *pythonCipher) String() string {
	return "cipher of the Python library(" + c.ring.String() + ")"
}

// Setting returns the value of CIPHER_TOPIC that means it.
func (*pythonCipher) Setting() string { return "eventsourcing.cipher:AESCipher" }
