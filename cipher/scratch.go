package cipher

import "sync"

// maxScratch is the largest buffer that is kept for reuse, in bytes. Rare large
// states must not pin memory for ever.
const maxScratch = 64 << 10

// scratchPool has buffers for associated data and ciphertexts. Plain text is
// never put into one, because they live on.
type scratchPool struct{ pool sync.Pool }

func (p *scratchPool) get() *[]byte {
	if buffer, ok := p.pool.Get().(*[]byte); ok {
		return buffer
	}
	return new([]byte)
}

func (p *scratchPool) put(buffer *[]byte) {
	if cap(*buffer) > maxScratch {
		return
	}
	*buffer = (*buffer)[:0]
	p.pool.Put(buffer)
}
