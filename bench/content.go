package main

import (
	"encoding/binary"
	"math/rand/v2"
)

// A content makes file content from a seed: noise, which does not compress, or text of a vocabulary of which a few
// words are frequent and most are rare, which compresses to about half.
type content struct {
	noise *rand.ChaCha8
	pick  *rand.Rand
	words [][]byte // as often as they are frequent
}

const (
	vocabulary = 20_000
	wordSlots  = 1 << 16
)

func newContent(seed uint64) *content {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	c := &content{noise: rand.NewChaCha8(key), pick: rand.New(rand.NewPCG(seed, 1))}
	// The vocabulary is one for all seeds, as a language is one for all texts.
	letters := rand.New(rand.NewPCG(1, 2))
	all := make([][]byte, vocabulary)
	for i := range all {
		word := make([]byte, 2+letters.IntN(9))
		for j := range word {
			word[j] = byte('a' + letters.IntN(26))
		}
		all[i] = append(word, ' ')
	}
	frequency := rand.NewZipf(letters, 1.1, 4, vocabulary-1)
	c.words = make([][]byte, wordSlots)
	for i := range c.words {
		c.words[i] = all[frequency.Uint64()]
	}
	return c
}

// fill fills b with text or noise.
func (c *content) fill(b []byte, text bool) {
	if !text {
		_, _ = c.noise.Read(b) // it never fails
		return
	}
	for len(b) > 0 {
		b = b[copy(b, c.words[c.pick.Uint64()%wordSlots]):]
	}
}
