package application

import (
	"errors"
	"slices"

	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

const (
	// topicPythonTranscoder is the TRANSCODER_TOPIC of the Python library's
	// only transcoder.
	topicPythonTranscoder = "eventsourcing.persistence:JSONTranscoder"
	// modulePython is the PERSISTENCE_MODULE of Django projects.
	modulePython = "eventsourcing_django"
)

// readLayout chooses the Python layout by the settings of the Python library.
// It does not look at PERSISTENCE_MODULE if a store was given in code.
func (c *config) readLayout() error {
	setting, ok, err := c.environment.Lookup("TRANSCODER_TOPIC")
	if err != nil {
		return err
	}
	if ok && setting.Value != topicPythonTranscoder {
		return setting.Wrong("is not a transcoder of this module: the only topic is " + topicPythonTranscoder +
			", which means the Python layout; give another transcoder by application.WithTranscoder")
	}
	module, _ := c.environment.Find("PERSISTENCE_MODULE")
	c.pythonLayout = c.pythonLayout || ok || !c.hasStore && module.Value == modulePython
	return nil
}

// isPythonModule reports whether a topic is a module of Python's standard
// library that the Python library accepts as a compressor, and this one does
// not have.
func isPythonModule(topic string) bool {
	return slices.Contains([]string{"gzip", "bz2", "lzma"}, topic)
}

// transition is the cipher of a key without CIPHER_TOPIC in the Python layout.
// It encrypts as the Python library does. It also decrypts envelopes of the
// cipher aes, which earlier versions of this module wrote with such settings.
type transition struct {
	python persistence.Cipher
	aes    persistence.Cipher
}

func newTransition(keys []cipher.Key) (persistence.Cipher, error) {
	python, err := cipher.NewPythonAES(keys...)
	if err != nil {
		return nil, err
	}
	aes, err := cipher.NewAES(keys...)
	if err != nil {
		return nil, err
	}
	return &transition{python: python, aes: aes}, nil
}

// Encrypt implements persistence.Cipher.
func (t *transition) Encrypt(dst, plaintext, associatedData []byte) ([]byte, error) {
	return t.python.Encrypt(dst, plaintext, associatedData)
}

// Decrypt implements persistence.Cipher. A state of the Python library begins
// with random bytes, which may look like an envelope.
func (t *transition) Decrypt(dst, ciphertext, associatedData []byte) ([]byte, error) {
	plaintext, err := t.aes.Decrypt(dst, ciphertext, associatedData)
	if err == nil {
		return plaintext, nil
	}
	plaintext, errPython := t.python.Decrypt(dst, ciphertext, associatedData)
	if errPython != nil && !errors.Is(err, cipher.ErrNotEnvelope) {
		return nil, err
	}
	return plaintext, errPython
}

// Setting returns the value of CIPHER_TOPIC that means how it encrypts.
func (t *transition) Setting() string {
	return t.python.(interface{ Setting() string }).Setting()
}
