package compressor_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/compressor"
)

// A compressor appends to the slice it is given, which may be nil.
func Example() {
	c, err := compressor.NewZstd()
	if err != nil {
		panic(err)
	}
	text := strings.Repeat(`{"trick":"roll over"}`, 100)
	state, err := c.Compress(nil, []byte(text))
	if err != nil {
		panic(err)
	}
	plain, err := c.Decompress(nil, state)
	fmt.Println(len(state) < len(text)/10, string(plain) == text, err)
	// Output: true true <nil>
}

// What would become larger than the limit is refused before it takes the
// memory.
func ExampleWithLimit() {
	writer, err := compressor.NewZlib()
	if err != nil {
		panic(err)
	}
	reader, err := compressor.NewZlib(compressor.WithLimit(1000))
	if err != nil {
		panic(err)
	}
	state, err := writer.Compress(nil, make([]byte, 1<<20))
	if err != nil {
		panic(err)
	}

	_, err = reader.Decompress(nil, state)
	fmt.Println(errors.Is(err, compressor.ErrTooLarge), err)
	// Output: true compressor: state is larger than the limit of 1000 bytes
}
