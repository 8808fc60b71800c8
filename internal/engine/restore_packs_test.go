package engine

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/compression"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
)

// If Kopia ever derives keys, frames contents or packs them in another way, this test must fail, and the version
// stays pinned until the reader has learnt it.
func TestContentsReadFromPacksAreWhatKopiaReads(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	secret, err := packSecret(r.FormatManager())
	if err != nil {
		t.Fatal(err)
	}
	pieces := writeContents(t, r)
	ctx := context.Background()
	reader := newPackReader(kopiaReader{r}, secret)
	direct := 0
	err = reader.each(ctx, pieces, func(p *piece, data []byte, err error) error {
		if err != nil {
			return err
		}
		want, err := r.ContentReader().GetContent(ctx, p.at.ContentID)
		if err != nil {
			return err
		}
		if !bytes.Equal(data, want) {
			t.Errorf("content %v of %d bytes, codec %x, is read differently", p.at.ContentID, p.length, p.at.CompressionHeaderID)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range pieces { // and without falling back
		p := &pieces[i]
		var buf rangeBuffer
		if err := buf.fetch(ctx, r.BlobReader(), p.at.PackBlobID, int64(p.at.PackOffset), int64(p.at.PackedLength)); err != nil {
			t.Fatal(err)
		}
		if _, err := reader.decode(buf.b, &p.at); err != nil {
			t.Errorf("codec %x, %d bytes: %v", p.at.CompressionHeaderID, p.length, err)
		} else if p.at.CompressionHeaderID != 0 {
			direct++
		}
	}
	if direct == 0 {
		t.Error("nothing was compressed")
	}
}

func TestContentHashesAreKopias(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	hashes := contentHashes(r.FormatManager())
	h := hashes()
	for _, p := range writeContents(t, r) {
		data, err := r.ContentReader().GetContent(context.Background(), p.at.ContentID)
		if err != nil {
			t.Fatal(err)
		}
		if !h.matches(data, p.at.ContentID) {
			t.Errorf("%v is not the hash of its content", p.at.ContentID)
		}
		if h.matches(append(data, 0), p.at.ContentID) {
			t.Errorf("%v matches something else", p.at.ContentID)
		}
	}
}

// writeContents writes contents of many sizes with all codecs, twice each in the returned plan.
func writeContents(t *testing.T, r repo.DirectRepository) (pieces []piece) {
	t.Helper()
	ctx := context.Background()
	ctx, w, err := r.NewDirectWriter(ctx, repo.WriteSessionOptions{Purpose: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close(ctx)
	random := rand.NewChaCha8([32]byte{1})
	var ids []content.ID
	for _, codec := range []string{"", "s2-default", "s2-better", "zstd-fastest", "zstd"} {
		for _, size := range []int{1, 100, 4096, 65537, 1 << 20, 1<<20 + 1, 5 << 20} {
			noise := make([]byte, size)
			random.Read(noise)
			text := append([]byte(codec), bytes.Repeat([]byte("compress me "), size/12+1)...)
			mixed := append(text[:len(text)/2:len(text)/2], noise...)
			for _, data := range [][]byte{noise, text, mixed} {
				id := writeObject(t, ctx, w, data, codec)
				cid, _, ok := id.ContentID()
				if !ok {
					t.Fatalf("object %v is no single content", id)
				}
				ids = append(ids, cid)
			}
		}
	}
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		info, err := r.ContentInfo(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		p := piece{length: int64(info.OriginalLength), at: info}
		pieces = append(pieces, p, p)
	}
	sortPieces(pieces)
	return pieces
}

func writeObject(t *testing.T, ctx context.Context, w repo.RepositoryWriter, data []byte, codec string) object.ID {
	t.Helper()
	out := w.NewObjectWriter(ctx, object.WriterOptions{Splitter: "FIXED-8M", Compressor: compression.Name(codec)})
	defer out.Close()
	if _, err := out.Write(data); err != nil {
		t.Fatal(err)
	}
	id, err := out.Result()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func FuzzDecodeS2(f *testing.F) {
	f.Add([]byte("\xff\x06\x00\x00S2sTwO\x01\x05\x00\x00\x00\x00\x00\x00a"), 10)
	f.Add([]byte("\x00\xff\xff\xff"), 1)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		if size < 0 || size > 1<<20 {
			return
		}
		out, err := decodeS2(make([]byte, 0, size), in, size)
		if err == nil && len(out) > size {
			t.Errorf("%d bytes for %d", len(out), size)
		}
	})
}
