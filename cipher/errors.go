package cipher

import (
	"errors"
	"fmt"
)

// ErrDecrypt is returned for every ciphertext that cannot be opened: too short,
// altered, of an unknown version, made with another key or for another row.
// There is one error with one text, because the difference would help only
// those who probe.
var ErrDecrypt = errors.New("cipher: state cannot be decrypted")

// ErrNotEnvelope is returned by AES for a state that does not begin like an
// envelope. It is plain text, it was compressed without being encrypted, or it
// was written by PythonAES.
var ErrNotEnvelope = errors.New("cipher: the state was stored without the cipher aes: before it was configured, or by another " +
	"program; states of the Python library need CIPHER_TOPIC=eventsourcing.cipher:AESCipher")

// KeyUnavailableError says that a state was encrypted with a key that this
// cipher has not been given.
type KeyUnavailableError struct {
	// KeyID is the id in the envelope. It is not authenticated, but it has the
	// form of an id.
	KeyID string
}

// Error names the id of the missing key.
func (e *KeyUnavailableError) Error() string {
	return fmt.Sprintf("cipher: key %q is not available", e.KeyID)
}

// NeedsSettings reports that a cipher with the key opens the state.
func (e *KeyUnavailableError) NeedsSettings() bool { return true }

// KeyExhaustedError says that a key has encrypted as many messages as is safe
// in this process. The remedy is a new first key.
type KeyExhaustedError struct {
	// KeyID is the id of the key.
	KeyID string
}

// Error names the id of the key and the limit.
func (e *KeyExhaustedError) Error() string {
	return fmt.Sprintf("cipher: key %q has encrypted %d messages, put a new key in front", e.KeyID, uint64(maxMessages))
}

// KeyError says what is wrong with one of the keys of a setting or of an
// argument list. It never contains a key or a part of one.
type KeyError struct {
	// Position counts the keys from 1. It is 0 if there is no list.
	Position int

	// Reason says what is wrong, or what is wanted and what was given instead.
	Reason string
}

// Error gives the position and the reason.
func (e *KeyError) Error() string {
	if e.Position == 0 {
		return "cipher: key: " + e.Reason
	}
	return fmt.Sprintf("cipher: key %d: %s", e.Position, e.Reason)
}
