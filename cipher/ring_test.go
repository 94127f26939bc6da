package cipher

import (
	"errors"
	"testing"
)

// This test is inside the package because no test can wait for 2³² messages.
func TestKeyIsExhausted(t *testing.T) {
	t.Parallel()
	key, err := NewKey("k1", []byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewAES(key)
	if err != nil {
		t.Fatal(err)
	}
	c.(*aesCipher).ring[0].sealed.Store(maxMessages - 1)
	last, err := c.Encrypt(nil, []byte("text"), nil)
	if err != nil {
		t.Fatalf("the last message: %v", err)
	}
	for range 2 {
		_, err = c.Encrypt(nil, []byte("text"), nil)
		if !errors.Is(err, ErrKey) {
			t.Fatalf("one message more: got error %v, want an ErrKey for k1", err)
		}
	}
	if want := `cipher: key "k1" has encrypted 4294967296 messages, put a new key in front`; err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	if _, err := c.Decrypt(nil, last, nil); err != nil {
		t.Errorf("an exhausted key still decrypts, got error %v", err)
	}
}

func TestLargeBuffersAreNotKept(t *testing.T) {
	t.Parallel()
	var p scratchPool
	large := make([]byte, maxScratch+1)
	p.put(&large)
	if got := p.get(); cap(*got) != 0 {
		t.Errorf("got a buffer of %d bytes, want 0", cap(*got))
	}
}
