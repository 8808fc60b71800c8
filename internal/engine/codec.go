package engine

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/kopia/kopia/repo/compression"
)

// Names that Kopia gives to compressions and splitters.
const (
	codecFast   = "s2-default"
	codecDense  = "zstd-fastest"
	wholeChunks = "FIXED-8M" // never splits what this package's chunker has cut
)

// A blockCodec is Kopia's "s2-default" made of plain block calls. The stream is the same, so stock Kopia reads it; but
// Kopia's own writer starts goroutines for every content, which costs more than compressing a small one.
type blockCodec struct {
	compression.Compressor
	header  [4]byte
	scratch sync.Pool
}

// The framing of a compressed stream, as github.com/google/snappy/blob/master/framing_format.txt and the s2 package
// document it: an identifier, then pieces of at most 1 MiB with type, length, checksum and data.
const (
	streamIdentifier = "\xff\x06\x00\x00S2sTwO"
	pieceCompressed  = 0x00
	piecePlain       = 0x01
	pieceSize        = 1 << 20
	pieceHeader      = 8

	// Pieces up to this size are searched more thoroughly. It takes two and a half times as long and saves a tenth of
	// what is stored of them; in larger pieces the fast search finds more by itself, and time counts for more.
	thorough = 16 << 10
)

// registerCodec puts the codec in the place of Kopia's.
func registerCodec() {
	stock := compression.ByName[codecFast]
	c := &blockCodec{Compressor: stock}
	binary.BigEndian.PutUint32(c.header[:], uint32(stock.HeaderID()))
	c.scratch.New = func() any {
		return &scratch{in: make([]byte, 0, pieceSize), out: make([]byte, pieceHeader+s2.MaxEncodedLen(pieceSize))}
	}
	compression.ByName[codecFast] = c
	compression.ByHeaderID[stock.HeaderID()] = c
}

type scratch struct{ in, out []byte }

// Compress writes Kopia's header and the stream. Once a whole piece did not shrink by a sixteenth the rest is copied:
// Kopia then finds the result no smaller and keeps the content as it is.
func (c *blockCodec) Compress(output io.Writer, input io.Reader) error {
	if _, err := output.Write(append(c.header[:], streamIdentifier...)); err != nil {
		return err
	}
	s := c.scratch.Get().(*scratch)
	defer c.scratch.Put(s)
	hopeless := false
	for {
		n, err := io.ReadFull(input, s.in[:pieceSize])
		if n > 0 {
			if werr := s.writePiece(output, s.in[:n], &hopeless); werr != nil {
				return werr
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *scratch) writePiece(output io.Writer, in []byte, hopeless *bool) error {
	kind, body := byte(piecePlain), in
	if !*hopeless {
		encode := s2.Encode
		if len(in) <= thorough {
			encode = s2.EncodeBetter
		}
		compressed := encode(s.out[pieceHeader:], in)
		if len(compressed) < len(in)-len(in)/16 {
			kind, body = pieceCompressed, compressed
		} else {
			*hopeless = len(in) == pieceSize
		}
	}
	head := s.out[:pieceHeader]
	length := len(body) + 4
	head[0], head[1], head[2], head[3] = kind, byte(length), byte(length>>8), byte(length>>16)
	binary.LittleEndian.PutUint32(head[4:], maskedChecksum(in))
	if kind == pieceCompressed {
		_, err := output.Write(s.out[:pieceHeader+len(body)])
		return err
	}
	if _, err := output.Write(head); err != nil {
		return err
	}
	_, err := output.Write(body)
	return err
}

// maskedChecksum is the framing format's: CRC-32C, rotated and moved so that a checksum of checksums is no trap.
func maskedChecksum(b []byte) uint32 {
	c := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	return c>>15 | c<<17 + 0xa282ead8
}
