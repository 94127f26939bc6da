package mapper_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"io"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zlib"

	"github.com/eventsourcing-go/eventsourcing/domain"
)

// plainMapper is what the mapper is compared with: the same steps as one writes
// them down at first, with a new compressor and a new cipher for each event,
// and encoding/json.
type plainMapper struct {
	compressed, encrypted bool
	key                   []byte
}

// plainState is all that a state has in it.
type plainState struct {
	ID        uuid.UUID
	Timestamp time.Time
	Data      plainEvent
}

func (m plainMapper) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(m.key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (m plainMapper) encode(event domain.Event) ([]byte, error) {
	state, err := json.Marshal(plainState{event.ID, event.Timestamp, event.Data.(plainEvent)})
	if err == nil && m.compressed {
		var b bytes.Buffer
		w := zlib.NewWriter(&b)
		if _, err = w.Write(state); err == nil {
			err = w.Close()
		}
		state = b.Bytes()
	}
	if err != nil || !m.encrypted {
		return state, err
	}
	aead, err := m.aead()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return aead.Seal(nonce, nonce, state, nil), nil
}

func (m plainMapper) decode(state []byte) (s plainState, err error) {
	if m.encrypted {
		aead, err := m.aead()
		if err != nil {
			return s, err
		}
		if state, err = aead.Open(nil, state[:aead.NonceSize()], state[aead.NonceSize():], nil); err != nil {
			return s, err
		}
	}
	if m.compressed {
		r, err := zlib.NewReader(bytes.NewReader(state))
		if err != nil {
			return s, err
		}
		if state, err = io.ReadAll(r); err != nil {
			return s, err
		}
	}
	return s, json.Unmarshal(state, &s)
}

func eachPlainMapper(b *testing.B, f func(b *testing.B, m plainMapper)) {
	for _, chain := range mapperChains {
		b.Run(chain.name, func(b *testing.B) {
			b.ReportAllocs()
			f(b, plainMapper{chain.compressed, chain.encrypted, bytes.Repeat([]byte{1, 2}, 16)})
		})
	}
}

func BenchmarkPlainMapperToStored(b *testing.B) {
	eachPlainMapper(b, func(b *testing.B, m plainMapper) {
		event := benchEvent()
		for b.Loop() {
			if _, err := m.encode(event); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPlainMapperToDomain(b *testing.B) {
	eachPlainMapper(b, func(b *testing.B, m plainMapper) {
		state, err := m.encode(benchEvent())
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := m.decode(state); err != nil {
				b.Fatal(err)
			}
		}
	})
}
