package cipher_test

import (
	"bytes"
	"testing"
)

func BenchmarkEncrypt(b *testing.B) {
	for _, topic := range topics {
		b.Run(topic, func(b *testing.B) {
			c := mustNew(b, topic, keyA)
			plaintext, row := bytes.Repeat([]byte("x"), 200), []byte("Account row 1")
			dst := make([]byte, 0, 400)
			b.ReportAllocs()
			b.SetBytes(int64(len(plaintext)))
			for b.Loop() {
				if _, err := c.Encrypt(dst, plaintext, row); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecrypt(b *testing.B) {
	for _, topic := range topics {
		b.Run(topic, func(b *testing.B) {
			c := mustNew(b, topic, keyA)
			row := []byte("Account row 1")
			state := mustEncrypt(b, c, string(bytes.Repeat([]byte("x"), 200)), string(row))
			dst := make([]byte, 0, 400)
			b.ReportAllocs()
			b.SetBytes(200)
			for b.Loop() {
				if _, err := c.Decrypt(dst, state, row); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
