package cipher

import "slices"

// AES encrypts with AES-GCM, in an envelope that names the key, and binds each
// ciphertext to its row. It is safe for concurrent use.
type AES struct {
	ring    ring
	scratch scratchPool
}

// NewAES returns a cipher that encrypts with the first key and decrypts with
// all. No keys, zero keys, the same key twice and two keys with one id are
// reported together, as errors of type *KeyError.
func NewAES(keys ...Key) (*AES, error) {
	ring, err := newRing(keys)
	if err != nil {
		return nil, err
	}
	return &AES{ring: ring}, nil
}

// Encrypt appends an envelope with the encrypted plaintext to dst and returns
// the extended slice. Only the same associatedData, which may be nil, will open
// it. The envelope is 35 bytes and the key id longer than the plaintext. dst
// may overlap plaintext and associatedData.
//
// After 2³² messages with one key it returns a *KeyExhaustedError. The messages
// are counted from zero by every AES, so the count is a backstop: processes
// that together write more must rotate their key earlier.
func (c *AES) Encrypt(dst, plaintext, associatedData []byte) ([]byte, error) {
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

// Decrypt appends the plain text of an envelope to dst and returns the extended
// slice. It returns ErrNotEnvelope, a *KeyUnavailableError or ErrDecrypt, and
// then the bytes of dst after its length are undefined. dst may overlap
// ciphertext and associatedData.
func (c *AES) Decrypt(dst, ciphertext, associatedData []byte) ([]byte, error) {
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
func (c *AES) String() string { return "cipher.AES(" + c.ring.String() + ")" }
