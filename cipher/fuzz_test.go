package cipher_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// FuzzAES reads arbitrary states, which must be refused with a documented
// error, and encrypts them, which must be undone by decrypting.
func FuzzAES(f *testing.F) {
	for _, vector := range readVectors(f, "envelope.txt") {
		f.Add(fromHex(f, vector[3]), fromHex(f, vector[1]))
	}
	f.Add(mustEncrypt(f, mustNew(f, "aes", keyA), "text", "row"), []byte("row"))
	f.Add([]byte("\x93ESC\x01\x01\xff"), []byte(nil))
	f.Add([]byte(`{"amount":"10.50"}`), []byte(nil))
	c := mustNew(f, "aes", keyB+","+keyA)
	f.Fuzz(func(t *testing.T, data, row []byte) {
		_, err := c.Decrypt(nil, data, row)
		unavailable := errors.Is(err, cipher.ErrKey)
		if err != nil && err != cipher.ErrDecrypt && err != cipher.ErrNotEnvelope && !unavailable {
			t.Errorf("got error %v, want ErrDecrypt or ErrNotEnvelope", err)
		}
		checkRoundTrip(t, c, data, row)
	})
}

// FuzzPythonAES is FuzzAES for the layout of the Python library.
func FuzzPythonAES(f *testing.F) {
	for _, vector := range readVectors(f, "python.txt") {
		f.Add(fromHex(f, vector[2]), []byte("row"))
	}
	f.Add(make([]byte, 28), []byte(nil))
	f.Add([]byte(`{"amount":"10.50"}`), []byte(nil))
	c := mustNew(f, "eventsourcing.cipher:AESCipher", keyB+","+keyA)
	f.Fuzz(func(t *testing.T, data, row []byte) {
		if _, err := c.Decrypt(nil, data, row); err != nil && err != cipher.ErrDecrypt {
			t.Errorf("got error %v, want ErrDecrypt", err)
		}
		checkRoundTrip(t, c, data, row)
	})
}

// FuzzParseKeys reads arbitrary settings, and gives a cipher what it accepts.
func FuzzParseKeys(f *testing.F) {
	for _, value := range []string{"", keyA, keyA + "," + keyB, "k1:" + keyA, ":,:", key192 + ":" + key128, " ,"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		keys, err := cipher.ParseKeys(value)
		if err != nil && !errors.Is(err, cipher.ErrKey) {
			t.Errorf("got error %v (%T), want an ErrKey", err, err)
		}
		if err != nil {
			return
		}
		if _, err := cipher.NewAES(keys...); err != nil {
			t.Errorf("NewAES refuses what ParseKeys accepts: %v", err)
		}
	})
}

func checkRoundTrip(t *testing.T, c persistence.Cipher, plaintext, row []byte) {
	t.Helper()
	state, err := c.Encrypt(nil, plaintext, row)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Decrypt(nil, state, row); err != nil || !bytes.Equal(got, plaintext) {
		t.Errorf("got %q, error %v, want %q", got, err, plaintext)
	}
}
