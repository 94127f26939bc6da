package cipher_test

import (
	"bytes"
	"crypto/aes"
	stdcipher "crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/cipher"
)

// The first bytes of the parts of an envelope whose key id has eight
// characters.
const (
	magicEnd  = 4
	idLength  = 6
	idStart   = 7
	headerEnd = idStart + 8
)

// The stored format never changes.
func TestAESGolden(t *testing.T) {
	t.Parallel()
	for _, vector := range readVectors(t, "envelope.txt") {
		c := mustNew(t, "aes", vector[0])
		row, want, state := fromHex(t, vector[1]), fromHex(t, vector[2]), fromHex(t, vector[3])
		if got, err := c.Decrypt(nil, state, row); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%.40s...: got %q, error %v, want %q", vector[3], got, err, want)
		}
	}
}

// What Encrypt writes is what the documentation of the package says, read here
// without help of the package.
func TestAESLayout(t *testing.T) {
	t.Parallel()
	state := mustEncrypt(t, mustNew(t, "aes", "key-1:"+key128), "text", "row")
	header, nonce, sealed := state[:12], state[12:24], state[24:]
	if want := "9345534301010" + "5" + hex.EncodeToString([]byte("key-1")); hex.EncodeToString(header) != want {
		t.Errorf("got header %x, want %s", header, want)
	}
	secret, err := base64.StdEncoding.DecodeString(key128)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := stdcipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	binding := append(binary.BigEndian.AppendUint64(nil, 12), header...)
	binding = append(binary.BigEndian.AppendUint64(binding, 3), "row"...)
	if got, err := aead.Open(nil, nonce, sealed, binding); err != nil || string(got) != "text" {
		t.Errorf("got %q, error %v, want no error and %q", got, err, "text")
	}
}

// isWantedForChange reports whether err is the right one for a changed byte at
// position. A changed key id, or length of it, may read as the id of a key that
// is not there.
func isWantedForChange(err error, position int) bool {
	isUnavailable := errors.Is(err, cipher.ErrKey)
	switch {
	case position < magicEnd:
		return err == cipher.ErrNotEnvelope
	case position >= idLength && position < headerEnd && isUnavailable:
		return true
	}
	return err == cipher.ErrDecrypt
}

func TestAESRefusesEveryChangedByte(t *testing.T) {
	t.Parallel()
	c := mustNew(t, "aes", keyB+","+keyA)
	state := mustEncrypt(t, c, `{"amount":"10.50"}`, "row")
	for position := range state {
		for change := 1; change < 256; change++ {
			altered := slices.Clone(state)
			altered[position] ^= byte(change)
			got, err := c.Decrypt(nil, altered, []byte("row"))
			if got != nil || !isWantedForChange(err, position) {
				t.Fatalf("byte %d with change %#x: got %q, error %v", position, change, got, err)
			}
		}
	}
}

// An envelope that names the other of two available keys.
func TestAESRefusesExchangedKeyID(t *testing.T) {
	t.Parallel()
	c := mustNew(t, "aes", keyB+","+keyA)
	state := mustEncrypt(t, c, "text", "row")
	copy(state[idStart:], mustParse(t, keyA)[0].ID())
	if _, err := c.Decrypt(nil, state, []byte("row")); err != cipher.ErrDecrypt {
		t.Errorf("got error %v, want ErrDecrypt", err)
	}
}

func TestAESRefusesEveryTruncation(t *testing.T) {
	t.Parallel()
	c := mustNew(t, "aes", keyA)
	state := mustEncrypt(t, c, `{"amount":"10.50"}`, "row")
	for size := range state {
		want := cipher.ErrDecrypt
		if size < magicEnd {
			want = cipher.ErrNotEnvelope
		}
		if got, err := c.Decrypt(nil, state[:size], []byte("row")); got != nil || err != want {
			t.Errorf("%d of %d bytes: got %q, error %v, want %v", size, len(state), got, err, want)
		}
	}
	if _, err := c.Decrypt(nil, append(state, 0), []byte("row")); err != cipher.ErrDecrypt {
		t.Errorf("one byte more: got error %v, want ErrDecrypt", err)
	}
}

func TestAESRefusesOtherAssociatedData(t *testing.T) {
	t.Parallel()
	c := mustNew(t, "aes", keyA)
	state := mustEncrypt(t, c, "text", "row 1")
	for _, other := range []string{"", "row", "row 2", "row 1 ", " row 1", "row 1\x00"} {
		if got, err := c.Decrypt(nil, state, []byte(other)); got != nil || err != cipher.ErrDecrypt {
			t.Errorf("%q: got %q, error %v, want ErrDecrypt", other, got, err)
		}
	}
}

func TestAESNilAndEmptyAssociatedDataAreTheSame(t *testing.T) {
	t.Parallel()
	c := mustNew(t, "aes", keyA)
	state, err := c.Encrypt(nil, []byte("text"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Decrypt(nil, state, []byte{}); err != nil || string(got) != "text" {
		t.Errorf("got %q, error %v, want no error and %q", got, err, "text")
	}
}

func TestAESRefusesOtherKeys(t *testing.T) {
	t.Parallel()
	state := mustEncrypt(t, mustNew(t, "aes", "k1:"+keyA), "text", "row")
	if _, err := mustNew(t, "aes", "k1:"+keyB).Decrypt(nil, state, []byte("row")); err != cipher.ErrDecrypt {
		t.Errorf("another key with the same id: got error %v, want ErrDecrypt", err)
	}
	_, err := mustNew(t, "aes", "k2:"+keyA).Decrypt(nil, state, []byte("row"))
	if !errors.Is(err, cipher.ErrKey) || err.Error() != `cipher: key "k1" is not available` {
		t.Errorf("unknown id: got error %v, want an ErrKey for k1", err)
	}
}

// There is no silent fallback for states that are not ours.
func TestAESRefusesForeignStates(t *testing.T) {
	t.Parallel()
	c := mustNew(t, "aes", keyA)
	original := mustEncrypt(t, mustNew(t, "eventsourcing.cipher:AESCipher", keyA), "text", "")
	for name, state := range map[string][]byte{
		"nothing": nil, "JSON": []byte(`{"amount":"10.50"}`), "zlib": {0x78, 0x9c, 3, 0, 0, 0, 0, 1},
		"zstd": {0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0}, "original": original,
	} {
		if got, err := c.Decrypt(nil, state, nil); got != nil || err != cipher.ErrNotEnvelope {
			t.Errorf("%s: got %q, error %v, want ErrNotEnvelope", name, got, err)
		}
	}
}

func TestErrorsDoNotRevealContent(t *testing.T) {
	t.Parallel()
	c := mustNew(t, "aes", keyA)
	state := append(mustEncrypt(t, c, "canary", "canary"), "canary"...)
	for _, input := range [][]byte{state, []byte("canary"), []byte("\x93ESC\x01\x01\x08canary\n\n" + strings.Repeat("canary", 9))} {
		if _, err := c.Decrypt(nil, input, []byte("canary")); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("got error %v, want one without the input", err)
		}
	}
}
