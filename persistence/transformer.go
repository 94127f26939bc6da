package persistence

// Compressor makes the state of an event smaller before it is encrypted and
// stored. Implementations are in the package compressor; a user's own only has
// to have these methods. A Compressor is used by many goroutines at once.
type Compressor interface {
	// Compress appends the compressed form of src to dst and returns the
	// extended slice.
	Compress(dst, src []byte) ([]byte, error)

	// Decompress appends the plain form of src to dst and returns the extended
	// slice. It must refuse to produce more than its documented limit, because
	// src may come from a database that others can write.
	Decompress(dst, src []byte) ([]byte, error)
}

// Cipher keeps the state of events secret and unaltered in the database.
// Implementations are in the package cipher. A Cipher is used by many
// goroutines at once.
//
// The associated data says which row a ciphertext belongs to: whether it is an
// event or a snapshot, its application, originator, version and topic. A cipher
// that can must authenticate it, so that a ciphertext copied to another row no
// longer opens.
type Cipher interface {
	// Encrypt appends the encrypted form of plaintext to dst and returns the
	// extended slice.
	Encrypt(dst, plaintext, associatedData []byte) ([]byte, error)

	// Decrypt appends the plain form of ciphertext to dst and returns the
	// extended slice. Its errors never contain key material, plain text or
	// ciphertext.
	//
	// An error may have a method NeedsSettings() bool, which reports whether
	// other settings, such as a further key, can open the ciphertext. Without
	// it the ciphertext counts as one that they can, unless an envelope of the
	// package cipher shows that the key was there.
	Decrypt(dst, ciphertext, associatedData []byte) ([]byte, error)
}
