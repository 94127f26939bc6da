package cipher

import (
	"crypto/aes"
	stdcipher "crypto/cipher"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
)

const (
	nonceSize = 12
	tagSize   = 16

	// maxMessages is how many messages one key may encrypt with random nonces.
	// With more, the chance that a nonce repeats is no longer negligible, and a
	// repeated nonce reveals both messages and permits forgeries.
	maxMessages = 1 << 32
)

// ring has the keys of a cipher, ready for use. The first encrypts. It does not
// change after newRing.
type ring []*ringKey

// ringKey is a key whose schedule has been computed once, for all goroutines.
type ringKey struct {
	id     string
	header []byte

	// aead puts a random nonce before the ciphertext and the tag after it.
	aead stdcipher.AEAD

	// sealed counts the messages encrypted since the ring was made.
	sealed atomic.Uint64
}

// newRing reports all mistakes together, as an ErrKey.
func newRing(keys []Key) (ring, error) {
	if len(keys) == 0 {
		return nil, &keyError{reason: "want at least one, got none"}
	}
	mistakes := append(checkPresent(keys), checkDistinct(keys)...)
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	r := make(ring, len(keys))
	for i, key := range keys {
		var err error
		if r[i], err = newRingKey(key); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func checkPresent(keys []Key) (mistakes []error) {
	for i, key := range keys {
		if key.isZero() {
			mistakes = append(mistakes, &keyError{position: i + 1, reason: "is empty, make it with ParseKeys or NewKey"})
		}
	}
	return mistakes
}

func newRingKey(key Key) (*ringKey, error) {
	block, err := aes.NewCipher(key.secret())
	if err != nil {
		return nil, fmt.Errorf("cipher: key %q: %w", key.id, err)
	}
	aead, err := stdcipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("cipher: key %q: %w", key.id, err)
	}
	return &ringKey{id: key.id, header: appendHeader(nil, key.id), aead: aead}, nil
}

// active returns the key that encrypts the next message, which it counts.
func (r ring) active() (*ringKey, error) {
	key := r[0]
	if key.sealed.Add(1) > maxMessages {
		return nil, errExhausted(key.id)
	}
	return key, nil
}

// find searches linearly, which for a handful of keys is faster than a map.
func (r ring) find(id []byte) (*ringKey, error) {
	for _, key := range r {
		if key.id == string(id) {
			return key, nil
		}
	}
	return nil, errUnavailable(string(id))
}

func (r ring) String() string {
	ids := make([]string, len(r))
	for i, key := range r {
		ids[i] = key.id
	}
	return strings.Join(ids, " ")
}
