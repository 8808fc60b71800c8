package engine

import (
	"encoding/binary"
	"math/rand/v2"
)

// Chunks of file content. One mask of 19 bits behind the minimum gives chunks of about 1 MiB, finds its boundaries
// again after an insertion better than "normalised" chunking with several masks, and hashes only half of the bytes.
const (
	minChunk  = 512 << 10
	maxChunk  = 8 << 20
	chunkMask = (1<<19 - 1) << (64 - 19) // the top bits, which the latest 64 bytes have all moved
	gearReach = 64                       // how many bytes the hash remembers
)

// A gear is the table of a rolling hash: h = h<<1 + gear[byte]. Each repository has its own, derived from its key, so
// that the lengths of chunks tell nothing about known content to who sees the storage.
type gear [256]uint64

func newGear(key [32]byte) *gear {
	source := rand.NewChaCha8(key)
	var g gear
	var b [8]byte
	for i := range g {
		source.Read(b[:])
		g[i] = binary.LittleEndian.Uint64(b[:])
	}
	return &g
}

// A cutter finds where the chunk that starts at b[0] ends while b is still growing.
type cutter struct {
	gear *gear
	at   int // how far b has been looked at
	hash uint64
}

// cut returns the length of the chunk, or 0 if b does not reach its end yet. b is the chunk so far, from its start.
func (c *cutter) cut(b []byte) int {
	if c.at == 0 {
		if len(b) < minChunk {
			return 0
		}
		c.at = minChunk - gearReach
	}
	end := min(len(b), maxChunk)
	h, g := c.hash, c.gear
	for i, x := range b[c.at:end] {
		h = h<<1 + g[x]
		if h&chunkMask == 0 && c.at+i+1 >= minChunk {
			n := c.at + i + 1
			c.at, c.hash = 0, 0
			return n
		}
	}
	c.at, c.hash = end, h
	if end == maxChunk {
		c.at, c.hash = 0, 0
		return maxChunk
	}
	return 0
}
