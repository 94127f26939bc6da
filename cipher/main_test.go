package cipher_test

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Keys for tests. Their bytes are 0, 1, 2 ... and 1, 2, 3 ...
const (
	keyA   = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	keyB   = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
	key128 = "AAECAwQFBgcICQoLDA0ODw=="
	key192 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
)

func mustParse(tb testing.TB, value string) []cipher.Key {
	tb.Helper()
	keys, err := cipher.ParseKeys(value)
	if err != nil {
		tb.Fatalf("ParseKeys: %v", err)
	}
	return keys
}

// newCipher makes the cipher of a topic.
func newCipher(topic string, keys ...cipher.Key) (persistence.Cipher, error) {
	if topic == "aes" {
		return cipher.NewAES(keys...)
	}
	return cipher.NewPythonAES(keys...)
}

func mustNew(tb testing.TB, topic, keys string) persistence.Cipher {
	tb.Helper()
	c, err := newCipher(topic, mustParse(tb, keys)...)
	if err != nil {
		tb.Fatalf("%s: %v", topic, err)
	}
	return c
}

func mustEncrypt(tb testing.TB, c persistence.Cipher, plaintext, associatedData string) []byte {
	tb.Helper()
	state, err := c.Encrypt(nil, []byte(plaintext), []byte(associatedData))
	if err != nil {
		tb.Fatalf("Encrypt: %v", err)
	}
	return state
}

// readVectors returns the fields of the lines of a file in testdata.
func readVectors(tb testing.TB, name string) [][]string {
	tb.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	var vectors [][]string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			vectors = append(vectors, strings.Fields(line))
		}
	}
	return vectors
}

func fromHex(tb testing.TB, s string) []byte {
	tb.Helper()
	if s == "-" {
		return nil
	}
	data, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}
