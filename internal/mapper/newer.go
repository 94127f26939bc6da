package mapper

import (
	"bytes"
	"errors"
	"unicode/utf8"

	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A state that cannot be read is damaged, or another program or other settings
// can read it. A follower may park a damaged event. For the other kind it
// waits: to pass over such events would lose what the other program owes them.
// What cannot be told from the other kind counts as that.

// newerError marks a cause as an ErrNewerProgram. It keeps the text.
type newerError struct{ error }

func (e newerError) Unwrap() []error { return []error{persistence.ErrNewerProgram, e.error} }

func newer(err error) error { return newerError{err} }

// needs marks an error if other settings would help. The error itself may say
// whether they do; otherwise it is as is given.
func needs(err error, otherwise bool) error {
	type settingsError interface {
		error
		NeedsSettings() bool
	}
	if known, ok := errors.AsType[settingsError](err); ok {
		otherwise = known.NeedsSettings()
	}
	if otherwise {
		return newer(err)
	}
	return err
}

// The envelope of the package cipher, whose documentation describes it. The
// mapper reads nothing by it; it is for errors that say what is absent.
const (
	envelopeMagic   = "\x93ESC"
	envelopeVersion = "\x01\x01" // version and algorithm
	// smallestSealed is the size of the smallest ciphertext: a nonce and a tag.
	smallestSealed = 12 + 16
)

// undecryptable says what an error of the cipher means. An envelope names its
// key, so if the cipher writes such envelopes and has the key, the state is
// damaged. Other layouts name no key.
func (m *Mapper) undecryptable(state []byte, err error) error {
	sample, _ := m.cipher.Encrypt(nil, nil, nil)
	rest, sealed := bytes.CutPrefix(state, []byte(envelopeMagic))
	if sealed && bytes.HasPrefix(sample, []byte(envelopeMagic)) {
		other := len(rest) >= len(envelopeVersion) && !bytes.HasPrefix(rest, []byte(envelopeVersion))
		return needs(err, other)
	}
	return needs(err, isPlain(state) || isForeign(state))
}

// uncompressed says what a state means that is not plain, for a mapper without
// a compressor.
func (m *Mapper) uncompressed(state []byte, err error) error {
	if m.cipher != nil || isForeign(state) { // a state that was decrypted is not damaged
		return newer(err)
	}
	return err
}

// undecompressed says what an error of the compressor means. A state that
// begins like those of the compressor is damaged, unless it was decrypted.
func (m *Mapper) undecompressed(state []byte, err error) error {
	sample, failed := m.compressor.Compress(nil, []byte{layoutOne})
	own := failed == nil && len(sample) > 1 && (bytes.HasPrefix(state, sample[:2]) || formatHint(state) != "" && formatHint(state) == formatHint(sample))
	if !own {
		err = m.unreadable(state, err)
	}
	return needs(err, m.cipher != nil || !own && isForeign(state))
}

// isForeign reports whether other settings may read a state that is not plain:
// it begins like one of a known format, or it may be a ciphertext without an
// envelope. No ciphertext is text.
func isForeign(state []byte) bool {
	return formatHint(state) != "" || len(state) >= smallestSealed && !utf8.Valid(state)
}

// undecodable marks a schema version that the program does not know.
func undecodable(err error) error {
	if _, ok := errors.AsType[*eventtype.VersionError](err); ok {
		return newer(err)
	}
	return err
}
