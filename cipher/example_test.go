package cipher_test

import (
	"errors"
	"fmt"

	"github.com/eventsourcing-go/eventsourcing/cipher"
)

// A state that was written for one row does not open in another.
func Example() {
	value, err := cipher.CreateKey(32)
	if err != nil {
		panic(err)
	}
	keys, err := cipher.ParseKeys(value)
	if err != nil {
		panic(err)
	}
	c, err := cipher.NewAES(keys...)
	if err != nil {
		panic(err)
	}

	state, err := c.Encrypt(nil, []byte(`{"amount":"10.50"}`), []byte("account 1, version 7"))
	if err != nil {
		panic(err)
	}
	text, err := c.Decrypt(nil, state, []byte("account 1, version 7"))
	fmt.Println(string(text), err)
	_, err = c.Decrypt(nil, state, []byte("account 2, version 7"))
	fmt.Println(err)
	// Output:
	// {"amount":"10.50"} <nil>
	// cipher: state cannot be decrypted
}

// The setting may give ids, and has the newest key in front.
func ExampleParseKeys() {
	keys, err := cipher.ParseKeys("2026-02:AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=, AAECAwQFBgcICQoLDA0ODw==")
	fmt.Println(keys, err)

	_, err = cipher.ParseKeys("c2hvcnQgYW5kIG5vdCBnb29k")
	fmt.Println(err)
	// Output:
	// [cipher.Key(2026-02) cipher.Key(55255908)] <nil>
	// cipher: key 1: want 16, 24 or 32 bytes after base64, got 18
}

// After a rotation the old key still reads, and without it the error names the
// id of the missing key.
func ExampleNewAES_rotation() {
	before, err := cipher.ParseKeys("old:AAECAwQFBgcICQoLDA0ODw==")
	if err != nil {
		panic(err)
	}
	after, err := cipher.ParseKeys("new:AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=")
	if err != nil {
		panic(err)
	}
	writer, err := cipher.NewAES(before...)
	if err != nil {
		panic(err)
	}
	reader, err := cipher.NewAES(after...)
	if err != nil {
		panic(err)
	}

	state, err := writer.Encrypt(nil, []byte("text"), nil)
	if err != nil {
		panic(err)
	}
	_, err = reader.Decrypt(nil, state, nil)
	fmt.Println(errors.Is(err, cipher.ErrKey), err)
	// Output: true cipher: key "old" is not available
}
