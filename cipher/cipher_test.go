package cipher_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

var topics = []string{"aes", "eventsourcing.cipher:AESCipher"}

// forEachTopic runs a test of what both ciphers promise.
func forEachTopic(t *testing.T, test func(t *testing.T, topic string)) {
	t.Helper()
	for _, topic := range topics {
		t.Run(topic, func(t *testing.T) {
			t.Parallel()
			test(t, topic)
		})
	}
}

func TestNewRefusesKeys(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		a, b := mustParse(t, "x:"+keyA)[0], mustParse(t, "x:"+keyB)[0]
		for name, keys := range map[string][]cipher.Key{
			"none": nil, "zero": {{}}, "second is zero": {a, {}}, "same": {a, a}, "same id": {a, b},
		} {
			c, err := newCipher(topic, keys...)
			if !errors.Is(err, cipher.ErrKey) || c != nil {
				t.Errorf("%s: got %v and error %v, want nil and an ErrKey", name, c, err)
			}
		}
	})
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		for _, key := range []string{key128, key192, keyA} {
			c := mustNew(t, topic, key)
			for _, size := range []int{0, 1, 15, 16, 17, 200, 1000, 100_000} {
				plaintext := strings.Repeat("x", size)
				state := mustEncrypt(t, c, plaintext, "row")
				got, err := c.Decrypt(nil, state, []byte("row"))
				if err != nil || string(got) != plaintext {
					t.Errorf("%d bytes: got %d bytes and error %v, want no error and %v", size, len(got), err, plaintext)
				}
			}
		}
	})
}

func TestSameTextTwiceGivesOtherStates(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		c := mustNew(t, topic, keyA)
		if bytes.Equal(mustEncrypt(t, c, "text", ""), mustEncrypt(t, c, "text", "")) {
			t.Error("got the same state twice")
		}
	})
}

// dst may be nil, have contents, have room, or share memory with the input.
func TestAppends(t *testing.T) {
	t.Parallel()
	const plaintext = "the quick brown fox jumps over the lazy dog, twice over"
	forEachTopic(t, func(t *testing.T, topic string) {
		c := mustNew(t, topic, keyA)
		for name, dst := range map[string][]byte{
			"nil": nil, "empty with room": make([]byte, 0, 500), "contents": []byte("before"),
			"contents and room": append(make([]byte, 0, 500), "before"...),
			"room for a part":   append(make([]byte, 0, 40), "before"...),
		} {
			state, err := c.Encrypt(dst, []byte(plaintext), []byte("row"))
			if err != nil || !bytes.HasPrefix(state, dst) {
				t.Fatalf("%s: Encrypt lost what was in dst, error %v, want no error and it to begin with %q", name, err, dst)
			}
			got, err := c.Decrypt(dst, slices.Clone(state[len(dst):]), []byte("row"))
			if err != nil || string(got) != string(dst)+plaintext {
				t.Errorf("%s: Decrypt got %q, error %v, want no error and %v", name, got, err, string(dst)+plaintext)
			}
		}
	})
}

func TestSharedMemory(t *testing.T) {
	t.Parallel()
	const plaintext = "the quick brown fox jumps over the lazy dog, twice over"
	forEachTopic(t, func(t *testing.T, topic string) {
		c := mustNew(t, topic, keyA)
		for offset := range 80 {
			memory := make([]byte, 400)
			input := memory[40 : 40+copy(memory[40:], plaintext)]
			state, err := c.Encrypt(memory[:offset], input, []byte("row"))
			if err != nil {
				t.Fatalf("offset %d: Encrypt: %v", offset, err)
			}
			state = state[offset:]
			got, err := c.Decrypt(memory[:offset/2], state, []byte("row"))
			if err != nil || string(got[offset/2:]) != plaintext {
				t.Fatalf("offset %d: got %q, error %v, want no error and %v", offset, got, err, plaintext)
			}
		}
	})
}

func TestAssociatedDataInSharedMemory(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		c := mustNew(t, topic, keyA)
		memory := append(make([]byte, 0, 400), "row"...)
		state, err := c.Encrypt(memory[:0], []byte("text"), memory)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Decrypt(nil, state, []byte("row")); err != nil || string(got) != "text" {
			t.Errorf("got %q, error %v, want no error and %q", got, err, "text")
		}
	})
}

func TestInputIsNotChanged(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		c := mustNew(t, topic, keyB+","+keyA)
		plaintext, row := []byte("text"), []byte("row")
		state, err := c.Encrypt(nil, plaintext, row)
		if err != nil {
			t.Fatal(err)
		}
		before := slices.Clone(state)
		if _, err := c.Decrypt(nil, state, row); err != nil {
			t.Fatal(err)
		}
		if string(plaintext) != "text" || string(row) != "row" || !bytes.Equal(state, before) {
			t.Errorf("the input is %q, %q, %q afterwards, want text, row and %q", plaintext, row, state, before)
		}
	})
}

func TestRotation(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		before, after := mustNew(t, topic, keyA), mustNew(t, topic, keyB+","+keyA)
		ahead := mustNew(t, topic, keyA+","+keyB)
		for name, step := range map[string]struct{ writer, reader persistence.Cipher }{
			"old row, after": {before, after}, "new row, prepared": {after, ahead}, "prepared row, old": {ahead, before},
		} {
			got, err := step.reader.Decrypt(nil, mustEncrypt(t, step.writer, "text", "row"), []byte("row"))
			if err != nil || string(got) != "text" {
				t.Errorf("%s: got %q, error %v, want no error and %q", name, got, err, "text")
			}
		}
		if _, err := before.Decrypt(nil, mustEncrypt(t, after, "text", "row"), []byte("row")); err == nil {
			t.Error("the new key was not used to encrypt")
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		c := mustNew(t, topic, keyB+","+keyA)
		var group sync.WaitGroup
		for worker := range 8 {
			group.Go(func() {
				for i := range 200 {
					text, row := fmt.Sprint("text ", worker, i), fmt.Appendf(nil, "row %d", i)
					state, err := c.Encrypt(nil, []byte(text), row)
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := c.Decrypt(nil, state, row); err != nil || string(got) != text {
						t.Errorf("got %q, error %v, want %q", got, err, text)
						return
					}
				}
			})
		}
		group.Wait()
	})
}

// Encrypting and decrypting into a slice with room costs no memory.
func TestAllocations(t *testing.T) {
	for _, topic := range topics {
		c := mustNew(t, topic, keyA)
		plaintext, row := bytes.Repeat([]byte("x"), 200), []byte("Account row 1")
		state := mustEncrypt(t, c, string(plaintext), string(row))
		dst := make([]byte, 0, 400)
		if n := testing.AllocsPerRun(100, func() { _, _ = c.Encrypt(dst, plaintext, row) }); n >= 1 && !raceEnabled {
			t.Errorf("%s: Encrypt allocates %v times, want 0", topic, n)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = c.Decrypt(dst, state, row) }); n >= 1 && !raceEnabled {
			t.Errorf("%s: Decrypt allocates %v times, want 0", topic, n)
		}
	}
}
