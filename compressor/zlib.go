package compressor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/zlib"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// defaultZlibLevel is the lowest level at which states without repetitions, as
// those of most events are, become smaller. It is still faster than the usual
// level 6 of the standard library.
const defaultZlibLevel = 7

type zlibCompressor struct {
	settings settings
	writers  sync.Pool // of *zlibWriter
	readers  sync.Pool // of *zlibReader
}

// zlibWriter writes into a slice that each use brings along.
type zlibWriter struct {
	out []byte
	z   *zlib.Writer
}

// Write appends. It is the destination of z.
func (w *zlibWriter) Write(p []byte) (int, error) {
	w.out = append(w.out, p...)
	return len(p), nil
}

// zlibReader reads from a slice that each use brings along. z is nil before the
// first use, because it can only be made from the beginning of a stream.
type zlibReader struct {
	in bytes.Reader
	z  io.ReadCloser
}

// NewZlib returns the compressor "zlib", or an error if an option is out of
// range. It compresses in the zlib format (RFC 1950), which zlib.compress of
// Python writes and zlib.decompress reads.
//
// Both methods return an ErrTooLarge if the plain form is larger than the limit,
// and Decompress an ErrDamaged for anything else. The spare capacity of dst must
// not overlap src, and after an error of Decompress its contents are undefined.
func NewZlib(options ...Option) (persistence.Compressor, error) {
	settings, err := newSettings(options, defaultZlibLevel, zlib.BestCompression)
	if err != nil {
		return nil, err
	}
	return &zlibCompressor{settings: settings}, nil
}

// String returns a text with the level.
func (c *zlibCompressor) String() string {
	return fmt.Sprintf("compressor zlib(level %d)", c.settings.level)
}

// Compress implements persistence.Compressor.
func (c *zlibCompressor) Compress(dst, src []byte) ([]byte, error) {
	if len(src) > c.settings.limit {
		return nil, &tooLargeError{limit: c.settings.limit}
	}
	w, err := c.writer()
	if err != nil {
		return nil, err
	}
	w.out = dst
	w.z.Reset(w)
	_, err = w.z.Write(src)
	err = errors.Join(err, w.z.Close())
	dst, w.out = w.out, nil
	c.writers.Put(w)
	return dst, err
}

func (c *zlibCompressor) writer() (*zlibWriter, error) {
	if w, ok := c.writers.Get().(*zlibWriter); ok {
		return w, nil
	}
	w := new(zlibWriter)
	var err error
	w.z, err = zlib.NewWriterLevel(w, c.settings.level)
	return w, err
}

// Decompress implements persistence.Compressor.
func (c *zlibCompressor) Decompress(dst, src []byte) ([]byte, error) {
	r, ok := c.readers.Get().(*zlibReader)
	if !ok {
		r = new(zlibReader)
	}
	defer c.release(r)
	if err := r.reset(src); err != nil {
		return nil, damaged(err)
	}
	dst, err := r.appendTo(dst, c.settings.limit)
	if err == nil && r.in.Len() > 0 {
		return nil, damaged(errTrailing)
	}
	return dst, err
}

// release lets go of the caller's slice.
func (c *zlibCompressor) release(r *zlibReader) {
	r.in.Reset(nil)
	c.readers.Put(r)
}

func (r *zlibReader) reset(src []byte) (err error) {
	r.in.Reset(src)
	if r.z != nil {
		return r.z.(zlib.Resetter).Reset(&r.in, nil)
	}
	r.z, err = zlib.NewReader(&r.in)
	return err
}

// appendTo reads to the end of the stream, which has the checksum, or one byte
// past the limit.
func (r *zlibReader) appendTo(dst []byte, limit int) ([]byte, error) {
	end := len(dst) + limit
	dst = slices.Grow(dst, min(limit+1, 4*r.in.Len()))
	for len(dst) <= end {
		dst = slices.Grow(dst, 1)
		n, err := r.z.Read(dst[len(dst):min(cap(dst), end+1)])
		dst = dst[:len(dst)+n]
		switch {
		case err == io.EOF && len(dst) <= end:
			return dst, nil
		case err != nil && err != io.EOF:
			return nil, damaged(err)
		}
	}
	return nil, &tooLargeError{limit: limit}
}

// Setting returns the value of COMPRESSOR_TOPIC that means it.
func (*zlibCompressor) Setting() string { return "zlib" }
