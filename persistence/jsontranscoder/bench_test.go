package jsontranscoder_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/transcoding"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

// plainEvent is about 200 bytes of JSON and has nothing that the transcoder
// adds to encoding/json.
type plainEvent struct {
	Name     string   `json:"name"`
	Street   string   `json:"street"`
	City     string   `json:"city"`
	Quantity int      `json:"quantity"`
	Price    float64  `json:"price"`
	Express  bool     `json:"express"`
	Tags     []string `json:"tags"`
	Note     string   `json:"note,omitempty"`
}

var samplePlain = plainEvent{
	Name: "Ada Lovelace", Street: "12 St James's Square", City: "London", Quantity: 42, Price: 1815.125, Express: true,
	Tags: []string{"fragile", "gift", "insured"}, Note: "Leave it with the neighbour, they know about the parcel.",
}

// wrappedEvent is about 200 bytes of JSON, most of it values with transcodings.
type wrappedEvent struct {
	DogID uuid.UUID      `json:"dog_id"`
	At    time.Time      `json:"at"`
	Fee   python.Decimal `json:"fee"`
	Notes []string       `json:"notes"`
}

var sampleWrapped = wrappedEvent{
	DogID: uuid.MustParse("1e1d7398-8986-57af-bb01-11a89b2f8b02"),
	At:    time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC),
	Fee:   "10.10",
	Notes: []string{"first", "über"},
}

func BenchmarkEncode(b *testing.B) {
	benchmarks := []struct {
		name  string
		value any
	}{
		{"plain", samplePlain},
		{"wrapped", sampleWrapped},
		{"map", map[string]any{"name": "Ada", "quantity": int64(42), "tags": []any{"a", "b"}, "id": sampleWrapped.DogID}},
	}
	for _, bm := range benchmarks {
		transcoder := newTranscoder()
		b.Run(bm.name+"/transcoder", func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				var err error
				if buf, err = transcoder.Encode(buf[:0], bm.value); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(buf)), "bytes")
		})
		b.Run(bm.name+"/encoding-json", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := json.Marshal(bm.value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	transcoder := newTranscoder()
	benchmarkDecode[plainEvent](b, transcoder, "plain", samplePlain)
	benchmarkDecode[wrappedEvent](b, transcoder, "wrapped", sampleWrapped)
	benchmarkDecode[any](b, transcoder, "any", samplePlain)
}

func benchmarkDecode[T any](b *testing.B, transcoder transcoding.JSON, name string, sample any) {
	data, err := transcoder.Encode(nil, sample)
	if err != nil {
		b.Fatal(err)
	}
	plain, err := json.Marshal(sample)
	if err != nil {
		b.Fatal(err)
	}
	b.Run(name+"/transcoder", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var value T
			if err := transcoder.Decode(data, &value); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run(name+"/encoding-json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var value T
			if err := json.Unmarshal(plain, &value); err != nil {
				b.Fatal(err)
			}
		}
	})
}
