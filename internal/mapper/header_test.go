package mapper

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
)

// headerVector is a line of testdata/header.txt.
type headerVector struct {
	name    string
	header  header
	payload []byte
	state   []byte
}

func readHeaderVectors(tb testing.TB) (vectors []headerVector) {
	tb.Helper()
	text, err := os.ReadFile("testdata/header.txt")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) != 7 {
			tb.Fatalf("line %q has %d fields, want 7", line, len(fields))
		}
		vectors = append(vectors, headerVector{
			name: fields[0],
			header: header{
				id: uuid.MustParse(fields[1]), timestamp: parseTime(tb, fields[2]), version: parseInt(tb, fields[3]),
				metadata: parseMetadata(fields[4]),
			},
			payload: parseHex(tb, fields[5]),
			state:   parseHex(tb, fields[6]),
		})
	}
	return vectors
}

func parseTime(tb testing.TB, s string) time.Time {
	tb.Helper()
	parsed, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		tb.Fatal(err)
	}
	return parsed.UTC()
}

func parseInt(tb testing.TB, s string) int {
	tb.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// parseMetadata reads "key=value;key=value", in any order, or "-".
func parseMetadata(s string) domain.Metadata {
	if s == "-" {
		return nil
	}
	m := domain.Metadata{}
	for entry := range strings.SplitSeq(s, ";") {
		key, value, _ := strings.Cut(entry, "=")
		m[key] = value
	}
	return m
}

func parseHex(tb testing.TB, s string) []byte {
	tb.Helper()
	data, err := hex.DecodeString(strings.TrimPrefix(s, "-"))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// The layout of stored states never changes.
func TestHeaderGolden(t *testing.T) {
	t.Parallel()
	for _, vector := range readHeaderVectors(t) {
		t.Run(vector.name, func(t *testing.T) {
			t.Parallel()
			if got := append(vector.header.append(nil), vector.payload...); !bytes.Equal(got, vector.state) {
				t.Errorf("append: got  %x\nwant %x", got, vector.state)
			}
			h, payload, err := parseHeader(vector.state)
			if err != nil || !reflect.DeepEqual(h, vector.header) || !bytes.Equal(payload, vector.payload) {
				t.Errorf("parse: got %+v, payload %q, error %v\nwant %+v, payload %q",
					h, payload, err, vector.header, vector.payload)
			}
		})
	}
}

// The first 25 bytes are as documented, read here without help of the package.
func TestHeaderLayout(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	at := time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC)
	h := header{id: id, timestamp: at, version: 300, metadata: domain.Metadata{"b": "2", "a": "1"}}
	got := h.append([]byte("before"))
	want := append([]byte("before\x01"), id[:]...)
	want = binary.BigEndian.AppendUint64(want, 0xffffffffffffffff) // one microsecond before 1970
	want = append(want, 0xac, 0x02, 2, 1, 'a', 1, '1', 1, 'b', 1, '2')
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func TestHeaderKeepsTheZeroTime(t *testing.T) {
	t.Parallel()
	h, _, err := parseHeader((&header{version: 1, metadata: domain.Metadata{}}).append(nil))
	if err != nil || !h.timestamp.IsZero() || h.metadata != nil {
		t.Errorf("got %+v, error %v, want the zero time and no metadata", h, err)
	}
}

// Every damage is the same error, because its bytes must not be shown.
func TestHeaderDamaged(t *testing.T) {
	t.Parallel()
	h := header{id: uuid.New(), timestamp: time.UnixMicro(1).UTC(), version: 1, metadata: domain.Metadata{"key": "value"}}
	whole := h.append(nil)
	fixed := string(whole[:25])
	damaged := map[string]string{
		"another layout":               "\x02" + string(whole[1:]),
		"an endless version":           fixed + strings.Repeat("\xff", 20),
		"a version of 65 bits":         fixed + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x00",
		"metadata that are not there":  fixed + "\x01\x01",
		"metadata beyond all bounds":   fixed + "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"a key that is too long":       fixed + "\x01\x01\x02k",
		"a key beyond all bounds":      fixed + "\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01k",
		"a value that is too long":     fixed + "\x01\x01\x01k\x02v",
		"a second entry that is short": fixed + "\x01\x02\x01k\x01v\x01",
	}
	for size := range whole {
		damaged["the first "+strconv.Itoa(size)+" bytes"] = string(whole[:size])
	}
	for name, state := range damaged {
		if h, payload, err := parseHeader([]byte(state)); err != errHeader || payload != nil {
			t.Errorf("%s: got %+v, payload %q, error %v, want %v and nil", name, h, payload, err, errHeader)
		}
	}
}

// A version that does not fit is one that no program knows, and not another
// one.
func TestHeaderLargeVersion(t *testing.T) {
	t.Parallel()
	state := append((&header{}).append(nil)[:25], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00"...)
	if h, _, err := parseHeader(state); err != nil || h.version != 1<<31-1 {
		t.Errorf("got version %d, error %v, want no error and version %v", h.version, err, 1<<31-1)
	}
}

// A number of entries that is not true takes no memory.
func TestHeaderAllocatesForWhatIsThere(t *testing.T) {
	const size = 1 << 20
	for _, promised := range []uint64{size / 2, size, 1 << 63} {
		state := append((&header{}).append(nil)[:25], 1)
		state = binary.AppendUvarint(state, promised)
		state = append(state, bytes.Repeat([]byte{0xff}, size)...)
		var err error
		if n := allocated(func() { _, _, err = parseHeader(state) }); err != errHeader || n > 64<<10 {
			t.Errorf("%d entries: allocated %d bytes, error %v, want %v and at most %v", promised, n, err, errHeader, 64<<10)
		}
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// FuzzHeader parses arbitrary bytes, which must not take much more memory than
// they have and must be refused with the one error, and writes what it read,
// which must be read back the same.
func FuzzHeader(f *testing.F) {
	for _, vector := range readHeaderVectors(f) {
		f.Add(vector.state)
		f.Add(vector.state[:len(vector.state)/2])
	}
	f.Add([]byte(nil))
	f.Add([]byte{layoutOne})
	f.Fuzz(func(t *testing.T, state []byte) {
		var h header
		var payload []byte
		var err error
		if n := allocated(func() { h, payload, err = parseHeader(state) }); n > 1<<20+100*uint64(len(state)) {
			t.Errorf("allocated %d bytes for %d, want at most %v", n, len(state), 1<<20+100*uint64(len(state)))
		}
		if err != nil {
			if err != errHeader || payload != nil {
				t.Errorf("got payload %q, error %v, want %v and nil", payload, err, errHeader)
			}
			return
		}
		again, rest, err := parseHeader(append(h.append(nil), payload...))
		if err != nil || !reflect.DeepEqual(again, h) || !bytes.Equal(rest, payload) {
			t.Errorf("got %+v, payload %q, error %v\nwant %+v, payload %q", again, rest, err, h, payload)
		}
	})
}
