package cipher_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

func TestCreateKey(t *testing.T) {
	t.Parallel()
	for _, size := range []int{16, 24, 32} {
		value, err := cipher.CreateKey(size)
		if err != nil {
			t.Fatalf("CreateKey(%d): %v", size, err)
		}
		if secret, err := base64.StdEncoding.DecodeString(value); err != nil || len(secret) != size {
			t.Errorf("CreateKey(%d) has %d bytes after base64, error %v", size, len(secret), err)
		}
		mustParse(t, value)
	}
	for _, size := range []int{-1, 0, 12, 20, 28, 36} {
		_, err := cipher.CreateKey(size)
		if !errors.Is(err, cipher.ErrKey) || !strings.HasPrefix(err.Error(), "cipher: key: ") {
			t.Errorf("CreateKey(%d): got %v, want an ErrKey without a position", size, err)
		}
	}
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		value string
		ids   string
	}{
		"one":             {keyA, "b67d7c79"},
		"128 bits":        {key128, "55255908"},
		"192 bits":        {key192, "4c6c61b8"},
		"two":             {keyB + "," + keyA, "bac9a1ad b67d7c79"},
		"spaces":          {" " + keyB + " ,\n" + keyA + "\n", "bac9a1ad b67d7c79"},
		"with ids":        {"2026-02:" + keyB + ",2025.11_x:" + keyA, "2026-02 2025.11_x"},
		"one id":          {"new:" + keyB + "," + keyA, "new b67d7c79"},
		"longest id":      {"abcdefghijklmnop:" + keyA, "abcdefghijklmnop"},
		"one-letter id":   {"x:" + keyA, "x"},
		"id of the other": {"bac9a1ad:" + keyA, "bac9a1ad"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ids []string
			for _, key := range mustParse(t, test.value) {
				ids = append(ids, key.ID())
			}
			if got := strings.Join(ids, " "); got != test.ids {
				t.Errorf("got ids %q, want %q", got, test.ids)
			}
		})
	}
}

func TestParseKeysMistakes(t *testing.T) {
	t.Parallel()
	ofSize := func(n int) string {
		return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("0123456789"), 4)[:n])
	}
	zeros := base64.StdEncoding.EncodeToString(make([]byte, 32))
	tests := map[string]struct {
		value string
		want  string
	}{
		"empty":            {"", "cipher: key: want at least one, got none"},
		"spaces":           {" \n", "cipher: key: want at least one, got none"},
		"not base64":       {"%" + keyA, "cipher: key 1: want standard base64, which these 45 characters are not"},
		"no padding":       {strings.TrimRight(keyA, "="), "cipher: key 1: want standard base64, which these 43 characters are not"},
		"5 bytes":          {ofSize(5), "cipher: key 1: want 16, 24 or 32 bytes after base64, got 5"},
		"20 bytes":         {ofSize(20), "cipher: key 1: want 16, 24 or 32 bytes after base64, got 20"},
		"33 bytes":         {ofSize(33), "cipher: key 1: want 16, 24 or 32 bytes after base64, got 33"},
		"second is short":  {keyA + "," + ofSize(12), "cipher: key 2: want 16, 24 or 32 bytes after base64, got 12"},
		"comma at the end": {keyA + ",", "cipher: key 2: want standard base64, got nothing"},
		"all zero":         {zeros, "cipher: key 1: weak key, all its bytes are equal"},
		"id only":          {"k1:", "cipher: key 1: want standard base64, got nothing"},
		"no id":            {":" + keyA, "cipher: key 1: want an id of 1 to 16 letters, digits, '.', '_' or '-' before the colon"},
		"key for an id":    {keyA + ":" + keyB, "cipher: key 1: want an id of 1 to 16 letters, digits, '.', '_' or '-' before the colon"},
		"192-bit id":       {key192 + ":" + keyB, "cipher: key 1: want an id of 1 to 16 letters, digits, '.', '_' or '-' before the colon"},
		"17 letters":       {"abcdefghijklmnopq:" + keyB, "cipher: key 1: want an id of 1 to 16 letters, digits, '.', '_' or '-' before the colon"},
		"same key":         {keyA + "," + keyA, "cipher: key 2: same as key 1"},
		"same, other id":   {"x:" + keyA + ",y:" + keyA, "cipher: key 2: same as key 1"},
		"same id":          {"x:" + keyA + ",x:" + keyB, `cipher: key 2: has the id "x", and so has key 1, which is another key`},
		"two mistakes": {"," + keyA + "," + ofSize(8), "cipher: key 1: want standard base64, got nothing\n" +
			"cipher: key 3: want 16, 24 or 32 bytes after base64, got 8"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys, err := cipher.ParseKeys(test.value)
			if err == nil || err.Error() != test.want {
				t.Errorf("got error %v, want %s", err, test.want)
			}
			if !errors.Is(err, cipher.ErrKey) || keys != nil {
				t.Errorf("got %v and %v (%T), want no keys and an ErrKey", keys, err, err)
			}
		})
	}
}

func TestNewKey(t *testing.T) {
	t.Parallel()
	secret := []byte("0123456789abcdef")
	key, err := cipher.NewKey("", secret)
	if err != nil {
		t.Fatal(err)
	}
	parsed := mustParse(t, base64.StdEncoding.EncodeToString(secret))[0]
	if key.ID() != parsed.ID() {
		t.Errorf("got id %q, want that of ParseKeys, %q", key.ID(), parsed.ID())
	}

	clear(secret)
	c, err := cipher.NewAES(key)
	if err != nil {
		t.Fatal(err)
	}
	other, err := cipher.NewAES(parsed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Decrypt(nil, mustEncrypt(t, c, "x", ""), nil); err != nil {
		t.Errorf("the key changed with the caller's slice: %v", err)
	}

	for name, secret := range map[string][]byte{"nothing": nil, "20 bytes": make([]byte, 20), "zeros": make([]byte, 32)} {
		if _, err := cipher.NewKey("id", secret); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	if _, err := cipher.NewKey("no spaces", []byte("0123456789abcdef")); err == nil {
		t.Error("id with a space: got no error")
	}
}

// Whatever is done with a key by printing, logging or encoding, its bytes do
// not come out.
func TestKeyIsNeverRevealed(t *testing.T) {
	t.Parallel()
	const canary = "canary-0123456789-canary-abcdefg"
	key, err := cipher.NewKey("k1", []byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	aes, err := cipher.NewAES(key)
	if err != nil {
		t.Fatal(err)
	}
	original, err := cipher.NewPythonAES(key)
	if err != nil {
		t.Fatal(err)
	}
	_, twice := cipher.NewAES(key, key)

	values := map[string]any{
		"key": key, "pointer": &key, "slice": []cipher.Key{key}, "exported field": struct{ Key cipher.Key }{key},
		"unexported field": struct{ key cipher.Key }{key}, "map": map[string]cipher.Key{"k": key},
		"AES": aes, "PythonAES": original, "field of AES": struct{ c persistence.Cipher }{aes}, "interface": struct{ c any }{key},
		"same key twice": twice, "error": fmt.Errorf("wrapped: %w", twice),
	}
	for name, value := range values {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			printed := printEveryWay(t, value)
			for form, secret := range formsOf(canary) {
				if strings.Contains(printed, secret) {
					t.Errorf("the key comes out, as %s", form)
				}
			}
		})
	}
	if got := fmt.Sprintf("%v %+v %#v %s %x %d", key, key, key, key, key, key); got != strings.TrimSpace(strings.Repeat("cipher.Key(k1) ", 6)) {
		t.Errorf("got %s, want cipher.Key(k1) each time", got)
	}
	if got := fmt.Sprint(aes, " ", original); got != "cipher aes(k1) cipher of the Python library(k1)" {
		t.Errorf("got %s, want %q", got, "cipher aes(k1) cipher of the Python library(k1)")
	}
}

// printEveryWay concatenates the outputs. That an encoder refuses a value is as
// good as one that hides it.
func printEveryWay(t *testing.T, value any) string {
	t.Helper()
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%p"} {
		fmt.Fprintf(&out, verb+"\n", value)
	}
	if text, err := json.Marshal(value); err == nil {
		out.Write(text)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "value", value)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "value", value)
	return out.String()
}

// formsOf has beginnings of the secret, in the forms in which a printer would
// write bytes.
func formsOf(secret string) map[string]string {
	head := []byte(secret[:6])
	return map[string]string{
		"text":    string(head),
		"hex":     fmt.Sprintf("%x", head),
		"HEX":     fmt.Sprintf("%X", head),
		"numbers": strings.Trim(fmt.Sprintf("%d", head), "[]"),
		"go":      strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", head), "[]byte{"), "}"),
		"octal":   strings.Trim(fmt.Sprintf("%o", head), "[]"),
		"base64":  base64.StdEncoding.EncodeToString(head),
	}
}
