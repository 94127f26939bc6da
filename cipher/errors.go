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

// ErrNotEnvelope is returned by the cipher aes for a state that does not begin
// like an envelope. It is plain text, it was compressed without being encrypted,
// or it was written by the cipher of the Python library.
var ErrNotEnvelope = errors.New("cipher: the state was stored without the cipher aes: before it was configured, or by another " +
	"program; states of the Python library need CIPHER_TOPIC=eventsourcing.cipher:AESCipher")

// KeyError says what is wrong with a key: with one of a setting or of an
// argument list, or with the one that a state needs. It never contains a key or
// a part of one.
type KeyError struct {
	// Position is the number of the key in a list, from 1, or 0 without a list.
	Position int

	// ID is the id of a key that has encrypted as many messages as is safe, as
	// an error of Encrypt, or that a state was encrypted with and the cipher has
	// not been given, as an error of Decrypt. That one is not authenticated, but
	// it has the form of an id. Errors about a setting have none.
	ID string

	// Reason says what is wrong, or what is wanted and what was given instead.
	Reason string
}

// Error gives the position or the id, and the reason.
func (e *KeyError) Error() string {
	switch {
	case e.ID != "":
		return fmt.Sprintf("cipher: key %q %s", e.ID, e.Reason)
	case e.Position == 0:
		return "cipher: key: " + e.Reason
	}
	return fmt.Sprintf("cipher: key %d: %s", e.Position, e.Reason)
}

// unavailableError is a KeyError about a key that was not given.
type unavailableError struct{ *KeyError }

func errUnavailable(id string) error {
	return unavailableError{&KeyError{ID: id, Reason: "is not available"}}
}

func (e unavailableError) Unwrap() error { return e.KeyError }

// NeedsSettings reports that a cipher with the key opens the state.
func (e unavailableError) NeedsSettings() bool { return true }

func errExhausted(id string) error {
	return &KeyError{ID: id, Reason: fmt.Sprintf("has encrypted %d messages, put a new key in front", uint64(maxMessages))}
}
