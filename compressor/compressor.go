package compressor

// The topics that New knows.
const (
	// TopicZlib names Zlib.
	TopicZlib = "zlib"

	// TopicZstd names Zstd.
	TopicZstd = "zstd"

	// TopicPythonZlib names Zlib, too. It is the topic of the class in the
	// Python library.
	TopicPythonZlib = "eventsourcing.compressor:ZlibCompressor"
)

// Compressor is what New returns. It can be used wherever the framework wants a
// compressor, by many goroutines at once.
type Compressor interface {
	// Compress appends the compressed form of src to dst and returns the
	// extended slice.
	Compress(dst, src []byte) ([]byte, error)

	// Decompress appends the plain form of src to dst and returns the extended
	// slice.
	Decompress(dst, src []byte) ([]byte, error)
}

// New returns the compressor that topic, the setting COMPRESSOR_TOPIC, names.
// It returns an *UnknownTopicError for another name, never a compressor that
// does nothing, and errors of type *OptionError for options out of range.
func New(topic string, options ...Option) (Compressor, error) {
	switch topic {
	case TopicZlib, TopicPythonZlib:
		return orError(NewZlib(options...))
	case TopicZstd:
		return orError(NewZstd(options...))
	}
	return nil, &UnknownTopicError{Topic: topic, Known: []string{TopicPythonZlib, TopicZlib, TopicZstd}}
}

// orError keeps a nil pointer from becoming an interface that is not nil.
func orError[C Compressor](c C, err error) (Compressor, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}
