package cipher

import (
	"slices"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

type aesCipher struct {
	ring    ring
	scratch scratchPool
}

// NewAES returns the cipher "aes", which encrypts with the first key and
// decrypts with all. It encrypts with AES-GCM, in an envelope that names the
// key, and binds each ciphertext to its row. No keys, zero keys, the same key
// twice and two keys with one id are reported together, as an ErrKey.
//
// Encrypt adds 35 bytes and the key id to the plaintext. Only the same
// associated data, which may be nil, opens a ciphertext: Decrypt returns
// ErrNotEnvelope, an ErrKey with the id of a key that this cipher has not been
// given, or ErrDecrypt, and then the bytes of dst after its length are
// undefined. In both methods dst may overlap the other arguments.
//
// After 2³² messages with one key Encrypt returns an ErrKey with its id; the
// remedy is a new first key. The messages are counted from zero by every cipher,
// so the count is a backstop: processes that together write more must rotate
// their key earlier.
func NewAES(keys ...Key) (persistence.Cipher, error) {
	ring, err := newRing(keys)
	if err != nil {
		return nil, err
	}
	return &aesCipher{ring: ring}, nil
}

// Encrypt implements persistence.Cipher.
func (c *aesCipher) Encrypt(dst, plaintext, associatedData []byte) ([]byte, error) {
	key, err := c.ring.active()
	if err != nil {
		return nil, err
	}
	binding := c.scratch.get()
	defer c.scratch.put(binding)
	*binding = appendBinding(*binding, key.header, associatedData)

	// The plain text is moved to its place before anything else is written, so
	// that dst and plaintext may share memory.
	start, body := len(dst), len(dst)+len(key.header)
	dst = slices.Grow(dst, len(key.header)+nonceSize+len(plaintext)+tagSize)[:body+len(plaintext)]
	copy(dst[body:], plaintext)
	copy(dst[start:], key.header)
	return key.aead.Seal(dst[:body], nil, dst[body:], *binding), nil
}

// Decrypt implements persistence.Cipher.
func (c *aesCipher) Decrypt(dst, ciphertext, associatedData []byte) ([]byte, error) {
	env, err := parseEnvelope(ciphertext)
	if err != nil {
		return nil, err
	}
	key, err := c.ring.find(env.keyID)
	if err != nil {
		return nil, err
	}
	// What is opened is copied, so that dst and ciphertext may share memory.
	buffer := c.scratch.get()
	defer c.scratch.put(buffer)
	*buffer = appendBinding(*buffer, env.header, associatedData)
	split := len(*buffer)
	*buffer = append(*buffer, env.sealed...)
	return open(key, dst, (*buffer)[split:], (*buffer)[:split])
}

// open hides the reason of a failure.
func open(key *ringKey, dst, sealed, binding []byte) ([]byte, error) {
	plaintext, err := key.aead.Open(dst, nil, sealed, binding)
	if err != nil {
		return nil, ErrDecrypt
	}
	return plaintext, nil
}

// String returns a text with the ids of the keys.
func (c *aesCipher) String() string { return "cipher aes(" + c.ring.String() + ")" }

// Setting returns the value of CIPHER_TOPIC that means it.
func (*aesCipher) Setting() string { return "aes" }
