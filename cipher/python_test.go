package cipher_test

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"io"
	"slices"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/cipher"
)

// States that the Python library wrote can be read.
func TestPythonAESReadsPython(t *testing.T) {
	t.Parallel()
	for _, vector := range readVectors(t, "python.txt") {
		transcoding, topic, state := vector[0], vector[1], fromHex(t, vector[2])
		t.Run(transcoding+" "+topic, func(t *testing.T) {
			t.Parallel()
			for name, keys := range map[string]string{"its key": keyA, "second key": keyB + "," + keyA} {
				text, err := mustNew(t, "eventsourcing.cipher:AESCipher", keys).Decrypt(nil, state, []byte("ignored"))
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if transcoding == "zlib-aes" {
					text = inflate(t, text)
				}
				var event struct{ Timestamp any }
				if err := json.Unmarshal(text, &event); err != nil || event.Timestamp == nil {
					t.Errorf("%s: got %q, error %v", name, text, err)
				}
			}
			if _, err := mustNew(t, "eventsourcing.cipher:AESCipher", keyB).Decrypt(nil, state, nil); err != cipher.ErrDecrypt {
				t.Errorf("another key: got error %v, want ErrDecrypt", err)
			}
		})
	}
}

func inflate(t *testing.T, data []byte) []byte {
	t.Helper()
	r, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestPythonAESOverhead(t *testing.T) {
	t.Parallel()
	if got := len(mustEncrypt(t, mustNew(t, "eventsourcing.cipher:AESCipher", keyA), "text", "row")); got != 28+4 {
		t.Errorf("got %d bytes, want 32", got)
	}
}

func TestPythonAESRefusesEveryChangedByte(t *testing.T) {
	t.Parallel()
	c := mustNew(t, "eventsourcing.cipher:AESCipher", keyB+","+keyA)
	state := mustEncrypt(t, c, `{"amount":"10.50"}`, "")
	for position := range state {
		for change := 1; change < 256; change++ {
			altered := slices.Clone(state)
			altered[position] ^= byte(change)
			if got, err := c.Decrypt(nil, altered, nil); got != nil || err != cipher.ErrDecrypt {
				t.Fatalf("byte %d with change %#x: got %q, error %v, want nil and %v", position, change, got, err, cipher.ErrDecrypt)
			}
		}
	}
}

func TestPythonAESRefusesEveryTruncation(t *testing.T) {
	t.Parallel()
	c := mustNew(t, "eventsourcing.cipher:AESCipher", keyA)
	state := mustEncrypt(t, c, `{"amount":"10.50"}`, "")
	for size := range state {
		if got, err := c.Decrypt(nil, state[:size], nil); got != nil || err != cipher.ErrDecrypt {
			t.Errorf("%d of %d bytes: got %q, error %v, want ErrDecrypt", size, len(state), got, err)
		}
	}
}

func TestPythonAESRefusesEnvelope(t *testing.T) {
	t.Parallel()
	state := mustEncrypt(t, mustNew(t, "aes", keyA), "text", "")
	if _, err := mustNew(t, "eventsourcing.cipher:AESCipher", keyA).Decrypt(nil, state, nil); err != cipher.ErrDecrypt {
		t.Errorf("got error %v, want ErrDecrypt", err)
	}
}
