package operations

import "github.com/eventsourcing-go/eventsourcing/cipher"

// Keygen makes a new key of 16, 24 or 32 random bytes for the setting
// CIPHER_KEY. Another size is a cipher.ErrKey.
func Keygen(size int) (string, error) { return cipher.CreateKey(size) }
