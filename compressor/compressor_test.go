package compressor_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/compressor"
)

func TestNewRefusesOptions(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		topic   string
		options []compressor.Option
		want    string
	}{
		"no limit":       {"zlib", []compressor.Option{compressor.WithLimit(0)}, "compressor: limit: want 1 to 1073741824, got 0"},
		"negative limit": {"zstd", []compressor.Option{compressor.WithLimit(-1)}, "compressor: limit: want 1 to 1073741824, got -1"},
		"huge limit":     {"zstd", []compressor.Option{compressor.WithLimit(1<<30 + 1)}, "compressor: limit: want 1 to 1073741824, got 1073741825"},
		"level 0":        {"zlib", []compressor.Option{compressor.WithLevel(0)}, "compressor: level: want 1 to 9, got 0"},
		"level 10":       {"zlib", []compressor.Option{compressor.WithLevel(10)}, "compressor: level: want 1 to 9, got 10"},
		"level 23":       {"zstd", []compressor.Option{compressor.WithLevel(23)}, "compressor: level: want 1 to 22, got 23"},
		"two mistakes": {"zlib", []compressor.Option{compressor.WithLimit(0), compressor.WithLevel(0)},
			"compressor: limit: want 1 to 1073741824, got 0\ncompressor: level: want 1 to 9, got 0"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := newCompressor(test.topic, test.options...)
			if c != nil || err == nil || err.Error() != test.want {
				t.Errorf("got %v and error %v, want nil and %s", c, err, test.want)
			}
		})
	}
}

func TestString(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		c := mustNew(t, topic, compressor.WithLevel(5))
		mustCompress(t, c, event) // which leaves buffers in it
		if got, want := fmt.Sprintf("%v %+v", c, c), "compressor "+topic+"(level 5)"; got != want+" "+want {
			t.Errorf("got %s, want %s twice", got, want)
		}
	})
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		for level := 1; level <= 9; level++ {
			c := mustNew(t, topic, compressor.WithLevel(level))
			for _, size := range []int{0, 1, 2, 200, 1023, 1024, 1025, 70_000, 300_000} {
				plain := strings.Repeat(event, size/len(event)+1)[:size]
				got, err := c.Decompress(nil, mustCompress(t, c, plain))
				if err != nil || string(got) != plain {
					t.Errorf("level %d, %d bytes: got %d bytes and error %v, want no error and %v", level, size, len(got), err, plain)
				}
			}
		}
	})
}

// Even the short states of ordinary events, which hardly repeat anything,
// become smaller.
func TestMakesSmaller(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		c := mustNew(t, topic)
		for _, vector := range readVectors(t, "python.txt") {
			plain := string(fromHex(t, vector[2]))
			if got := len(mustCompress(t, c, plain)); len(plain) > 128 && got >= len(plain)*19/20 {
				t.Errorf("%s: made %d bytes of %d, want less than %d", vector[0], got, len(plain), len(plain)*19/20)
			}
		}
	})
}

// dst may be nil, have contents or have room. The contents do not count against
// the limit.
func TestAppends(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		c := mustNew(t, topic, compressor.WithLimit(len(event)))
		for name, dst := range map[string][]byte{
			"nil": nil, "empty with room": make([]byte, 0, 500), "contents": []byte(event),
			"contents and room": append(make([]byte, 0, 1000), event...),
			"room for a part":   append(make([]byte, 0, len(event)+40), event...),
		} {
			state, err := c.Compress(dst, []byte(event))
			if err != nil || !bytes.HasPrefix(state, dst) {
				t.Fatalf("%s: Compress lost what was in dst, error %v, want no error and it to begin with %q", name, err, dst)
			}
			got, err := c.Decompress(dst, slices.Clone(state[len(dst):]))
			if err != nil || string(got) != string(dst)+event {
				t.Errorf("%s: Decompress got %q, error %v, want no error and %v", name, got, err, string(dst)+event)
			}
		}
	})
}

// What is returned does not change with the next use, although buffers are used
// again.
func TestResultsAreIndependent(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		c := mustNew(t, topic)
		first := mustCompress(t, c, event)
		mustCompress(t, c, strings.ToUpper(event))
		plain, err := c.Decompress(nil, first)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Decompress(nil, mustCompress(t, c, strings.ToUpper(event))); err != nil || string(plain) != event {
			t.Errorf("got %q, error %v, want no error and %v", plain, err, event)
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		c := mustNew(t, topic)
		var group sync.WaitGroup
		for worker := range 8 {
			group.Go(func() {
				for i := range 100 {
					plain := fmt.Sprint(event, worker, i)
					state, err := c.Compress(nil, []byte(plain))
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := c.Decompress(nil, state); err != nil || string(got) != plain {
						t.Errorf("got %q, error %v, want %q", got, err, plain)
						return
					}
				}
			})
		}
		group.Wait()
	})
}

// A state that has exactly the size of the limit passes both ways, one byte
// more neither.
func TestLimit(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		wide := mustNew(t, topic)
		for _, limit := range []int{1, 100, 1023, 1024, 1025, 4096, 200_000} {
			c := mustNew(t, topic, compressor.WithLimit(limit))
			if _, err := c.Decompress(nil, mustCompress(t, c, strings.Repeat("x", limit))); err != nil {
				t.Errorf("limit %d: got error %v", limit, err)
			}
			larger := strings.Repeat("x", limit+1)
			_, err := c.Compress(nil, []byte(larger))
			checkTooLarge(t, err, limit)
			got, err := c.Decompress(nil, mustCompress(t, wide, larger))
			if checkTooLarge(t, err, limit); got != nil {
				t.Errorf("limit %d: got %d bytes, want none", limit, len(got))
			}
		}
	})
}

func checkTooLarge(t *testing.T, err error, limit int) {
	t.Helper()
	want := fmt.Sprintf("compressor: state is larger than the limit of %d bytes", limit)
	if !errors.Is(err, compressor.ErrTooLarge) || err.Error() != want {
		t.Errorf("got error %v, want an ErrTooLarge for %d bytes", err, limit)
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		c := mustNew(t, topic)
		state := mustCompress(t, c, event)
		damages := map[string][]byte{
			"nothing": nil, "one byte": {0}, "plain text": []byte(event), "other magic": []byte("\x93ESC and more"),
			"trailing byte": append(slices.Clone(state), 0), "two states": slices.Concat(state, state),
			"trailing bytes": append(slices.Clone(state), "garbage, and quite some of it"...),
		}
		for _, other := range topics {
			if other != topic {
				damages["written by "+other] = mustCompress(t, mustNew(t, other), event)
			}
		}
		for size := range state {
			damages[fmt.Sprintf("%d of %d bytes", size, len(state))] = state[:size]
		}
		for name, damaged := range damages {
			if got, err := c.Decompress(nil, damaged); got != nil || !errors.Is(err, compressor.ErrDamaged) {
				t.Errorf("%s: got %q, error %v, want ErrDamaged", name, got, err)
			}
		}
		if got, err := c.Decompress(nil, state); err != nil || string(got) != event {
			t.Errorf("undamaged, after all the damage: got %q, error %v, want no error and %v", got, err, event)
		}
	})
}

// Both formats have a checksum. A changed byte is refused, or was one that
// means nothing.
func TestChangedByte(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		c := mustNew(t, topic, compressor.WithLimit(1000))
		state := mustCompress(t, c, event)
		for position := range state {
			for bit := range 8 {
				altered := slices.Clone(state)
				altered[position] ^= 1 << bit
				got, err := c.Decompress(nil, altered)
				if err == nil && string(got) != event || err != nil && !errors.Is(err, compressor.ErrTooLarge) && !errors.Is(err, compressor.ErrDamaged) {
					t.Fatalf("byte %d, bit %d: got %q, error %v, want the text, ErrDamaged or a size that is too large", position, bit, got, err)
				}
			}
		}
	})
}

func TestErrorsDoNotRevealContent(t *testing.T) {
	t.Parallel()
	forEachTopic(t, func(t *testing.T, topic string) {
		c := mustNew(t, topic)
		state := mustCompress(t, c, "canary")
		for _, input := range [][]byte{[]byte("canary"), append(state, "canary"...), state[:len(state)-1]} {
			if _, err := c.Decompress(nil, input); err == nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("got error %v, want one without the input", err)
			}
		}
	})
}

// A bomb is refused without memory for what it would become. Not parallel,
// because it measures the whole process.
func TestBombs(t *testing.T) {
	const limit, allowed = 1 << 20, 8 << 20
	for name, bomb := range bombs(t) {
		t.Run(name, func(t *testing.T) {
			topic, _, _ := strings.Cut(name, " ")
			c := mustNew(t, topic, compressor.WithLimit(limit))
			var got []byte
			var err error
			allocated := allocatedBy(func() { got, err = c.Decompress(nil, bomb) })
			if checkTooLarge(t, err, limit); got != nil {
				t.Errorf("got %d bytes, want none", len(got))
			}
			if allocated > allowed {
				t.Errorf("allocated %d bytes for a limit of %d, want at most %v", allocated, limit, allowed)
			}
		})
	}
}

func bombs(t *testing.T) map[string][]byte {
	t.Helper()
	zeros := strings.Repeat("\x00", 16<<20)
	large := compressor.WithLimit(len(zeros))
	return map[string][]byte{
		"zlib of 16 MiB":             mustCompress(t, mustNew(t, "zlib", large), zeros),
		"zstd of 16 MiB":             mustCompress(t, mustNew(t, "zstd", large), zeros),
		"zstd without content size":  repeatBlocks(100_000),
		"zstd with 64 KiB of blocks": repeatBlocks(16 << 10),
		"zstd claiming 4 GiB":        slices.Concat(zstdMagic, []byte{0xa0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0}),
		"zstd claiming 2⁶⁴-1 bytes":  slices.Concat(zstdMagic, []byte{0xe0}, bytes.Repeat([]byte{0xff}, 8), []byte{1, 0, 0}),
		"zstd with window of 3 TiB":  slices.Concat(zstdMagic, []byte{0, 0xff, 1, 0, 0}),
		"zstd with window of 2 MiB":  slices.Concat(zstdMagic, []byte{0, 11 << 3, 1, 0, 0}),
	}
}

var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// repeatBlocks is a frame with a window of 1 MiB, that does not tell its size,
// with n blocks of four bytes that each stand for 128 KiB.
func repeatBlocks(n int) []byte {
	const size, repeated, last = 128 << 10, 1 << 1, 1
	block := func(header int) []byte { return []byte{byte(header), byte(header >> 8), byte(header >> 16), 'x'} }
	frame := slices.Concat(zstdMagic, []byte{0, 10 << 3})
	frame = append(frame, bytes.Repeat(block(size<<3|repeated), n-1)...)
	return append(frame, block(size<<3|repeated|last)...)
}

func allocatedBy(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
