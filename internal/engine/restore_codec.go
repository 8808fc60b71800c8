package engine

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/kopia/kopia/repo/compression"
)

// A contentCodec decompresses contents into a buffer of its own.
type contentCodec struct {
	out  []byte
	zstd *zstd.Decoder
}

var errUnknownCodec = errors.New("unknown codec")

// decode returns size bytes, which are valid until the next call and may share memory with in.
func (c *contentCodec) decode(in []byte, codec compression.HeaderID, size int) ([]byte, error) {
	if codec == 0 {
		return in, nil
	}
	if len(in) < 4 || compression.HeaderID(binary.BigEndian.Uint32(in)) != codec {
		return nil, errors.New("the codec's header is missing")
	}
	if cap(c.out) < size {
		c.out = make([]byte, 0, max(size, min(2*cap(c.out), 1<<20), 64<<10))
	}
	switch compression.HeaderIDToName[codec] {
	case "s2-default", "s2-better", "s2-parallel-4", "s2-parallel-8":
		return decodeS2(c.out[:0], in[4:], size)
	case "zstd", "zstd-fastest", "zstd-better-compression", "zstd-best-compression":
		if c.zstd == nil {
			d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
			if err != nil {
				return nil, err
			}
			c.zstd = d
		}
		return c.zstd.DecodeAll(in[4:], c.out[:0])
	}
	return nil, errUnknownCodec
}

// Types of the frames of an s2 stream, which is the snappy framing format with longer blocks.
const (
	frameCompressed = 0x00
	framePlain      = 0x01
	frameSkippable  = 0x80 // and above: padding, identifiers, indexes
)

// decodeS2 appends the content of a stream to out, which must have room for size bytes. Checksums are not looked at:
// the stream was just authenticated as a whole.
func decodeS2(out, in []byte, size int) ([]byte, error) {
	const header, checksum = 4, 4
	for len(in) > 0 {
		if len(in) < header {
			return nil, fmt.Errorf("s2: a frame of %d bytes", len(in))
		}
		kind := in[0]
		length := int(in[1]) | int(in[2])<<8 | int(in[3])<<16
		if length > len(in)-header {
			return nil, errors.New("s2: a frame is cut off")
		}
		body := in[header : header+length]
		in = in[header+length:]
		if kind >= frameSkippable {
			continue
		}
		if kind > framePlain || length < checksum {
			return nil, fmt.Errorf("s2: a frame of type %d", kind)
		}
		body = body[checksum:]
		if kind == framePlain {
			if len(out)+len(body) > size {
				return nil, errors.New("s2: too long")
			}
			out = append(out, body...)
			continue
		}
		n, err := s2.DecodedLen(body)
		if err != nil || len(out)+n > size {
			return nil, fmt.Errorf("s2: a block that is too long (%d): %w", n, err)
		}
		if _, err := s2.Decode(out[len(out):len(out)+n:len(out)+n], body); err != nil {
			return nil, fmt.Errorf("s2: %w", err)
		}
		out = out[:len(out)+n]
	}
	return out, nil
}
