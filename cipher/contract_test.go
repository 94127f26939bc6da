package cipher_test

import (
	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// What the framework asks of a cipher.
var (
	_ persistence.Cipher = (*cipher.AES)(nil)
	_ persistence.Cipher = (*cipher.PythonAES)(nil)
	_ persistence.Cipher = stateCipher(nil)
)
