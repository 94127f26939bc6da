package compressor_test

import "testing"

func BenchmarkCompress(b *testing.B) {
	for _, topic := range topics {
		b.Run(topic, func(b *testing.B) {
			c := mustNew(b, topic)
			src, dst := []byte(event), make([]byte, 0, 400)
			b.ReportAllocs()
			b.SetBytes(int64(len(event)))
			for b.Loop() {
				if _, err := c.Compress(dst, src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecompress(b *testing.B) {
	for _, topic := range topics {
		b.Run(topic, func(b *testing.B) {
			c := mustNew(b, topic)
			state := mustCompress(b, c, event)
			dst := make([]byte, 0, 800)
			b.ReportAllocs()
			b.SetBytes(int64(len(event)))
			for b.Loop() {
				if _, err := c.Decompress(dst, state); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
