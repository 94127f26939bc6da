package mapper_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// storedAs returns an event as a mapper with this chain stores it.
func storedAs(t *testing.T, c chain) persistence.StoredEvent {
	t.Helper()
	return toStored(t, newMapper(t, c.config(t)), dogEvents("Fido")[0])
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

// A ciphertext without an envelope is random, so some begin like a plain state.
// They are no damage for a program without the cipher either.
func TestCiphertextThatBeginsLikePlain(t *testing.T) {
	t.Parallel()
	sealed := newMapper(t, chain{cipher: "eventsourcing.cipher:AESCipher"}.config(t))
	for _, first := range []byte{1, '{'} {
		states, readers := 0, []*mapper.Mapper{newMapper(t, chain{}.config(t)), newMapper(t, chain{compressor: "zlib"}.config(t))}
		for states < 20 {
			stored := toStored(t, sealed, dogEvents("Fido")[0])
			if stored.State[0] != first {
				continue
			}
			if first == 1 { // most random times cannot be stored
				stored.State[17] = 0xc0
			}
			states++
			for _, reader := range readers {
				_, err := reader.ToDomain(stored)
				if !errors.Is(err, persistence.ErrNewerProgram) || !strings.Contains(err.Error(), "CIPHER_TOPIC=eventsourcing.cipher:AESCipher") {
					t.Errorf("%v, want an ErrNewerProgram that names the cipher", err)
				}
				if layout := reader.LayoutOf(stored); layout.Plain != 0 || layout.Python {
					t.Errorf("the layout is %+v, want one that is not opened", layout)
				}
			}
		}
	}
}

// The error of a state that no setting of the program opens names the one that
// would.
func TestSettingThatOpens(t *testing.T) {
	t.Parallel()
	const python, key = "CIPHER_TOPIC=eventsourcing.cipher:AESCipher", "another CIPHER_KEY"
	plain, zlib, aes, pythonAES := chain{}, chain{compressor: "zlib"}, chain{cipher: "aes"}, chain{cipher: "eventsourcing.cipher:AESCipher"}
	for name, test := range map[string]struct {
		written, reading chain
		state            string // in place of what was written
		want             string
	}{
		"zlib":                   {written: zlib, want: "COMPRESSOR_TOPIC=zlib"},
		"zlib of Python":         {state: "\x78\x9c\x00", want: "COMPRESSOR_TOPIC=zlib"},
		"zlib read by zstd":      {written: zlib, reading: chain{compressor: "zstd"}, want: "COMPRESSOR_TOPIC=zlib"},
		"zlib in a cipher":       {written: chain{"zlib", "eventsourcing.cipher:AESCipher"}, reading: pythonAES, want: "COMPRESSOR_TOPIC=zlib"},
		"zlib read by a cipher":  {written: zlib, reading: pythonAES, want: "COMPRESSOR_TOPIC=zlib without CIPHER_TOPIC and CIPHER_KEY"},
		"zstd":                   {written: chain{compressor: "zstd"}, reading: zlib, want: "COMPRESSOR_TOPIC=zstd"},
		"aes":                    {written: aes, want: "CIPHER_TOPIC=aes and CIPHER_KEY"},
		"aes, with a compressor": {written: aes, reading: zlib, want: "CIPHER_TOPIC=aes and CIPHER_KEY"},
		"Python's cipher":        {written: pythonAES, want: python},
		"Python's cipher and compressor, with the compressor": {written: chain{"zlib", "eventsourcing.cipher:AESCipher"}, reading: zlib, want: python},
		"Python's cipher read by aes":                         {written: pythonAES, reading: aes, want: python},
		"plain read by a cipher":                              {reading: pythonAES, want: "remove CIPHER_TOPIC and CIPHER_KEY"},
		"gzip":                                                {state: "\x1f\x8b\x08\x00", want: "Python's module gzip"},
		"bz2, with a compressor":                              {reading: zlib, state: "BZh91AY", want: "Python's module bz2"},
		"lzma":                                                {state: "\xfd7zXZ\x00", want: "Python's module lzma"},
		"damaged":                                             {written: zlib, reading: zlib, state: "\x78\x9c\x00", want: "damaged"},
		"altered":                                             {written: pythonAES, reading: pythonAES, state: strings.Repeat("\xff", 40), want: key},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.written == plain && test.state == "" && test.reading == plain {
				t.Fatal("nothing is wrong")
			}
			stored := storedAs(t, test.written)
			if test.state != "" {
				stored.State = []byte(test.state)
			}
			_, err := newMapper(t, test.reading.config(t)).ToDomain(stored)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if test.want == "damaged" && strings.Contains(err.Error(), "COMPRESSOR_TOPIC") {
				t.Errorf("%v names a setting that is set", err)
			}
		})
	}
}

// A damaged state is no ErrNewerProgram if the program knows that it has all that
// the state needs.
func TestDamageIsNoNewerProgram(t *testing.T) {
	t.Parallel()
	plain, aes := chain{}, chain{cipher: "aes"}
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
		"zlib cut short":               {chain{compressor: "zlib"}, cut, false},
		"zstd cut short":               {chain{compressor: "zstd"}, cut, false},
		"altered, of an unnamed key":   {chain{cipher: "eventsourcing.cipher:AESCipher"}, flip, true},
		"cut short, of an unnamed key": {chain{cipher: "eventsourcing.cipher:AESCipher"}, text("\xff"), false},
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
		stored := toStored(t, newMapper(t, config, kennels), event)
		stored.State = append(stored.State[:len(stored.State)-len(`{"Name":""}`)], state...)
		_, err := newMapper(t, config, kennels).ToDomain(stored)
		wantMappingError(t, err, "decode", stored, 0)
		if newer := strings.Contains(state, "_type_"); errors.Is(err, persistence.ErrNewerProgram) != newer {
			t.Errorf("%s: %v; want an ErrNewerProgram: %t", state, err, newer)
		}
	}
}
