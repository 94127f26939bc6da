package compressor_test

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/eventsourcing-go/eventsourcing/compressor"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var topics = []string{"zlib", "zstd"}

// event is about as long as the state of an ordinary event.
const event = `{"timestamp":{"_type_":"datetime_iso","_data_":"2026-11-23T01:23:01.373531+00:00"},` +
	`"originator_topic":"training_school.domain:Dog","name":"Fido","tricks":["roll over","play dead","roll over"]}`

// forEachTopic runs a test of what both compressors promise.
func forEachTopic(t *testing.T, test func(t *testing.T, topic string)) {
	t.Helper()
	for _, topic := range topics {
		t.Run(topic, func(t *testing.T) {
			t.Parallel()
			test(t, topic)
		})
	}
}

// newCompressor makes the compressor of a topic.
func newCompressor(topic string, options ...compressor.Option) (persistence.Compressor, error) {
	if topic == "zstd" {
		return compressor.NewZstd(options...)
	}
	return compressor.NewZlib(options...)
}

func mustNew(tb testing.TB, topic string, options ...compressor.Option) persistence.Compressor {
	tb.Helper()
	c, err := newCompressor(topic, options...)
	if err != nil {
		tb.Fatalf("%s: %v", topic, err)
	}
	return c
}

func mustCompress(tb testing.TB, c persistence.Compressor, plain string) []byte {
	tb.Helper()
	state, err := c.Compress(nil, []byte(plain))
	if err != nil {
		tb.Fatalf("Compress: %v", err)
	}
	return state
}

// readVectors returns the fields of the lines of a file in testdata.
func readVectors(tb testing.TB, name string) [][]string {
	tb.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	var vectors [][]string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			vectors = append(vectors, strings.Fields(line))
		}
	}
	return vectors
}

func fromHex(tb testing.TB, s string) []byte {
	tb.Helper()
	data, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}
