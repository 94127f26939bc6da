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

// ErrKey says what is wrong with a key: with one of a setting or of an argument
// list, with one that has encrypted as many messages as is safe, or with the one
// that a state needs and the cipher has not been given. The text of the error
// names the key by its position in the list or by its id, and never contains a
// key or a part of one.
var ErrKey = errors.New("cipher: key cannot be used")

// keyError is an ErrKey.
type keyError struct {
	// position is the number of the key in a list, from 1, or 0 without a list.
	position int
	// id is that of a key of an error of Encrypt or Decrypt. The id of a state
	// is not authenticated, but it has the form of an id.
	id string
	// reason says what is wrong, or what is wanted and what was given instead.
	reason string
}

func (e *keyError) Error() string {
	switch {
	case e.id != "":
		return fmt.Sprintf("cipher: key %q %s", e.id, e.reason)
	case e.position == 0:
		return "cipher: key: " + e.reason
	}
	return fmt.Sprintf("cipher: key %d: %s", e.position, e.reason)
}

func (e *keyError) Unwrap() error { return ErrKey }

// unavailableError is a keyError about a key that was not given.
type unavailableError struct{ *keyError }

func errUnavailable(id string) error {
	return unavailableError{&keyError{id: id, reason: "is not available"}}
}

func (e unavailableError) Unwrap() error { return e.keyError }

// NeedsSettings reports that a cipher with the key opens the state.
func (e unavailableError) NeedsSettings() bool { return true }

func errExhausted(id string) error {
	return &keyError{id: id, reason: fmt.Sprintf("has encrypted %d messages, put a new key in front", uint64(maxMessages))}
}
