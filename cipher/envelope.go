package cipher

import (
	"bytes"
	"encoding/binary"
)

// The layout is described in the documentation of the package.
const (
	envelopeMagic     = "\x93ESC"
	envelopeVersion   = 1
	envelopeAlgorithm = 1
	envelopeFixed     = len(envelopeMagic) + 3 // the header without the key id
)

// envelope is a ciphertext taken apart. Its fields are parts of the ciphertext,
// not copies.
type envelope struct {
	header []byte // everything before the nonce
	keyID  []byte // the end of header
	sealed []byte // nonce, ciphertext and tag
}

// isEnvelope reports whether state begins like a state that was encrypted by
// AES. It tells encrypted rows from others, for example when no cipher has been
// configured; that the state can be decrypted it does not tell.
func isEnvelope(state []byte) bool {
	return bytes.HasPrefix(state, []byte(envelopeMagic))
}

// parseEnvelope checks everything that can be checked without a key. The key id
// is checked because it will be shown.
func parseEnvelope(state []byte) (envelope, error) {
	if !isEnvelope(state) {
		return envelope{}, ErrNotEnvelope
	}
	if len(state) < envelopeFixed || state[4] != envelopeVersion || state[5] != envelopeAlgorithm {
		return envelope{}, ErrDecrypt
	}
	end := envelopeFixed + int(state[6])
	if len(state) < end+nonceSize+tagSize || !validKeyID(state[envelopeFixed:end]) {
		return envelope{}, ErrDecrypt
	}
	return envelope{header: state[:end], keyID: state[envelopeFixed:end], sealed: state[end:]}, nil
}

func appendHeader(dst []byte, keyID string) []byte {
	dst = append(dst, envelopeMagic...)
	dst = append(dst, envelopeVersion, envelopeAlgorithm, byte(len(keyID)))
	return append(dst, keyID...)
}

// appendBinding appends what a ciphertext is bound to.
func appendBinding(dst, header, associatedData []byte) []byte {
	dst = appendSized(dst, header)
	return appendSized(dst, associatedData)
}

func appendSized(dst, value []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(len(value)))
	return append(dst, value...)
}
