// Package cipher keeps the state of stored events secret and unaltered in the
// database.
//
// # Making a key
//
// A key is 16, 24 or 32 random bytes, written in base64. Make one, and keep it
// where secrets are kept, outside the database; if it is lost, everything that
// was encrypted with it is lost:
//
//	value, err := cipher.CreateKey(32)
//
// # Choosing a cipher
//
// ParseKeys reads keys in the form of the setting CIPHER_KEY:
//
//	keys, err := cipher.ParseKeys(value)
//	...
//	c, err := cipher.NewAES(keys...)
//
// There are two ciphers, which are also the values of the setting CIPHER_TOPIC.
// Both are safe for concurrent use:
//
//   - NewAES ("aes") makes the one to use. Each ciphertext names its key and is
//     bound to its row.
//   - NewPythonAES ("eventsourcing.cipher:AESCipher") makes one that reads and
//     writes the layout of the Python library, for a database that is shared
//     with it. It binds nothing, and its documentation says what that costs.
//
// Neither reads what the other wrote, and neither ever returns its input as if
// it were plain text.
//
// # Rotating keys
//
// The first key encrypts, all keys decrypt. To rotate, put a new key first and
// keep the old one after it:
//
//	CIPHER_KEY="<new key>,<old key>"
//
// If several processes share a database, first add the new key after the old
// one everywhere, and then put it first, so that no process meets a key it has
// not been given. Each key has an id, which is stored with every ciphertext. It
// is derived from the key, unless the setting gives one:
//
//	CIPHER_KEY="2026-02:<new key>,2025-11:<old key>"
//
// Ids are not secret. They have 1 to 16 characters out of A-Z, a-z, 0-9, '.',
// '_' and '-'. Giving an old key another id makes its ciphertexts unreadable
// until the id is given back.
//
// # The envelope
//
// The cipher aes stores an envelope. Its numbers are single bytes:
//
//	offset  size  content
//	0       4     magic: 0x93 'E' 'S' 'C'
//	4       1     version: 1
//	5       1     algorithm: 1, AES-GCM with a nonce of 12 bytes and a tag of 16 bytes
//	6       1     n, the length of the key id: 1 to 16
//	7       n     key id
//	7+n     12    nonce, random
//	19+n    m     ciphertext, as long as the plain text
//	19+n+m  16    tag
//
// The header, which is everything before the nonce, is not encrypted. It is
// authenticated, together with the associated data that the caller gives. Each
// of the two is preceded by its length, as 8 bytes in big-endian order, so that
// nothing can be moved from one to the other:
//
//	length(header) header length(associated data) associated data
//
// No JSON document, no UTF-8 text and no zlib or zstd stream begins with the
// magic.
//
// # Guarantees of the cipher aes
//
//  1. Without the key nothing of the plain text can be read but its length.
//  2. A ciphertext opens only with the associated data it was made with, so it
//     cannot be moved to another row.
//  3. A change of any bit is refused.
//  4. A state that is no envelope is refused with ErrNotEnvelope, an unknown
//     key with ErrKey, and everything else with ErrDecrypt, which
//     does not say why.
//  5. No error and no log output contains a key, a plain text or a ciphertext.
//
// A cipher cannot notice that a row was deleted, or that it was replaced by an
// earlier ciphertext of the same row. The length of a state that was compressed
// before it was encrypted says something about its content: keep secrets and
// text chosen by an attacker out of the same compressed event.
package cipher
