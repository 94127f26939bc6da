package cipher

// The topics that New knows.
const (
	// TopicAES names AES.
	TopicAES = "aes"

	// TopicPythonAES names PythonAES. It is the topic of the class in the
	// Python library.
	TopicPythonAES = "eventsourcing.cipher:AESCipher"
)

// Cipher is what New returns. It can be used wherever the framework wants a
// cipher, by many goroutines at once.
type Cipher interface {
	// Encrypt appends the encrypted form of plaintext to dst and returns the
	// extended slice.
	Encrypt(dst, plaintext, associatedData []byte) ([]byte, error)

	// Decrypt appends the plain form of ciphertext to dst and returns the
	// extended slice.
	Decrypt(dst, ciphertext, associatedData []byte) ([]byte, error)
}

// New returns the cipher that topic, the setting CIPHER_TOPIC, names. It
// returns an *UnknownTopicError for another name, never a cipher that does
// nothing, and errors of type *KeyError for keys the cipher cannot use.
func New(topic string, keys ...Key) (Cipher, error) {
	switch topic {
	case TopicAES:
		return orError(NewAES(keys...))
	case TopicPythonAES:
		return orError(NewPythonAES(keys...))
	}
	return nil, &UnknownTopicError{Length: len(topic), Known: []string{TopicAES, TopicPythonAES}}
}

// orError keeps a nil pointer from becoming an interface that is not nil.
func orError[C Cipher](c C, err error) (Cipher, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}
