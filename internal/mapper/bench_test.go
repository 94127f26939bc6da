package mapper_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/compressor"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

// plainEvent is about 200 bytes of JSON.
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

// parcel is the aggregate whose events the mapper is measured with.
type parcel struct {
	domain.Aggregate
	Events int
}

// Apply makes samplePlain's type an event.
func (plainEvent) Apply(p *parcel) { p.Events++ }

var parcels = domain.Define("Parcel", domain.On("Described", plainEvent{}))

// mapperChains are the steps after the transcoder.
var mapperChains = []struct {
	name                  string
	compressed, encrypted bool
}{
	{"json", false, false},
	{"json+zlib", true, false},
	{"json+aes", false, true},
	{"json+zlib+aes", true, true},
}

func newBenchMapper(b *testing.B, compressed, encrypted bool) *mapper.Mapper {
	b.Helper()
	config := mapper.Config{Application: "Benchmark", Transcoder: jsontranscoder.New(python.Transcodings()...)}
	if compressed {
		zlib, err := compressor.NewZlib()
		if err != nil {
			b.Fatal(err)
		}
		config.Compressor = zlib
	}
	if encrypted {
		value, err := cipher.CreateKey(32)
		if err != nil {
			b.Fatal(err)
		}
		keys, err := cipher.ParseKeys(value)
		if err != nil {
			b.Fatal(err)
		}
		aes, err := cipher.NewAES(keys...)
		if err != nil {
			b.Fatal(err)
		}
		config.Cipher = aes
	}
	m := mapper.New(config)
	if err := m.Add(parcels); err != nil {
		b.Fatal(err)
	}
	return m
}

// benchEvent is an event of about 200 bytes of JSON, without metadata.
func benchEvent() domain.Event {
	id := uuid.MustParse("1e1d7398-8986-57af-bb01-11a89b2f8b02")
	at := time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)
	return parcels.Create(id, samplePlain, domain.At(at)).PendingEvents()[0]
}

func BenchmarkMapperToStored(b *testing.B) {
	for _, chain := range mapperChains {
		b.Run(chain.name, func(b *testing.B) {
			m := newBenchMapper(b, chain.compressed, chain.encrypted)
			event := benchEvent()
			var stored persistence.StoredEvent
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if stored, err = m.ToStored(event); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(stored.State)), "bytes")
		})
	}
}

func BenchmarkMapperToDomain(b *testing.B) {
	for _, chain := range mapperChains {
		b.Run(chain.name, func(b *testing.B) {
			m := newBenchMapper(b, chain.compressed, chain.encrypted)
			stored, err := m.ToStored(benchEvent())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.ToDomain(stored); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
