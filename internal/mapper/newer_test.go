package mapper_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/compressor"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// storedAs returns an event as a mapper with this chain stores it. A ciphertext
// without an envelope is random; once in 128 times it begins like a plain
// state.
func storedAs(t *testing.T, c chain) persistence.StoredEvent {
	t.Helper()
	m := newMapper(t, c.config(t))
	for {
		stored, err := m.ToStored(dogEvents("Fido")[0])
		if err != nil {
			t.Fatal(err)
		}
		if c.cipher == "" || stored.State[0] != 1 && stored.State[0] != '{' {
			return stored
		}
	}
}

// A state that other settings can read is never taken for a damaged one,
// whatever the program has and lacks.
func TestOtherSettingsAreNoDamage(t *testing.T) {
	t.Parallel()
	for _, written := range chains() {
		stored := storedAs(t, written)
		for _, reading := range chains() {
			config := reading.config(t)
			for key, exchange := range map[string]bool{"keyA": false, "keyB": true} {
				if exchange && config.Cipher != nil {
					config.Cipher = newCipher(t, reading.cipher, keyB)
				}
				_, err := newMapper(t, config).ToDomain(stored)
				if err != nil && !errors.Is(err, persistence.ErrNewerProgram) {
					t.Errorf("%v read by %v with %s: %v, want an ErrNewerProgram", written, reading, key, err)
				}
				if err == nil && written.cipher != "" && (reading.cipher != written.cipher || exchange) {
					t.Errorf("%v read by %v with %s: no error", written, reading, key)
				}
			}
		}
	}
}

// What is damaged is no ErrNewerProgram, if the program can tell that it has
// all that the state needs.
func TestDamageIsNoNewerProgram(t *testing.T) {
	t.Parallel()
	plain, aes := chain{}, chain{cipher: cipher.TopicAES}
	text := func(text string) func([]byte) []byte { return func([]byte) []byte { return []byte(text) } }
	other := func(at int) func([]byte) []byte {
		return func(state []byte) []byte { state[at]++; return state }
	}
	for name, test := range map[string]struct {
		chain  chain
		damage func([]byte) []byte
		newer  bool
	}{
		"header cut short":             {plain, func(state []byte) []byte { return state[:20] }, false},
		"JSON cut short":               {plain, cut, false},
		"no state":                     {plain, text(""), false},
		"text":                         {plain, text("overwritten by a person with an editor"), false},
		"broken object":                {plain, text(`{"timestamp": `), false},
		"text, with a key":             {aes, text("overwritten by a person with an editor"), false},
		"altered ciphertext":           {aes, flip, false},
		"ciphertext cut short":         {aes, cut, false},
		"envelope cut short":           {aes, text("\x93ESC"), false},
		"envelope of a later version":  {aes, other(4), true},
		"envelope, other algorithm":    {aes, other(5), true},
		"zlib cut short":               {chain{compressor: compressor.TopicZlib}, cut, false},
		"zstd cut short":               {chain{compressor: compressor.TopicZstd}, cut, false},
		"altered, of an unnamed key":   {chain{cipher: cipher.TopicPythonAES}, flip, true},
		"cut short, of an unnamed key": {chain{cipher: cipher.TopicPythonAES}, text("\xff"), false},
	} {
		stored := storedAs(t, test.chain)
		stored.State = test.damage(slices.Clone(stored.State))
		_, err := newMapper(t, test.chain.config(t)).ToDomain(stored)
		if err == nil || errors.Is(err, persistence.ErrNewerProgram) != test.newer {
			t.Errorf("%s: %v; want an ErrNewerProgram: %t", name, err, test.newer)
		}
	}
}

// A transcoding that the program lacks is of a newer program.
func TestNewerTranscoding(t *testing.T) {
	t.Parallel()
	config := mapper.Config{Application: school}
	event := kennels.Create(DogID("kennel"), opened{}).PendingEvents()[0]
	for _, state := range []string{`{"Name":{"_type_":"colour","_data_":"red"}}`, `{"Name":["red"]}`} {
		stored := toStored(t, newMapper(t, config, kennels.Schema), event)
		stored.State = append(stored.State[:len(stored.State)-len(`{"Name":""}`)], state...)
		_, err := newMapper(t, config, kennels.Schema).ToDomain(stored)
		wantMappingError(t, err, "decode", stored, 0)
		if newer := strings.Contains(state, "_type_"); errors.Is(err, persistence.ErrNewerProgram) != newer {
			t.Errorf("%s: %v; want an ErrNewerProgram: %t", state, err, newer)
		}
	}
}
