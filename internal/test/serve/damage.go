package serve

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// FlipBit flips a bit in the middle of the largest pack of file contents below a data directory, as a failing disk would.
func FlipBit(dataDir string) error {
	var largest string
	var size int64
	err := filepath.WalkDir(filepath.Join(dataDir, "repository"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		// Kopia's names of packs begin with p, and below its shards with the rest of it.
		below, err := filepath.Rel(dataDir, path)
		if err != nil {
			return err
		}
		parts := strings.Split(below, string(filepath.Separator))
		if len(parts) < 4 || !strings.HasPrefix(parts[3], "p") {
			return nil
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			largest, size = path, info.Size()
		}
		return err
	})
	if err != nil {
		return err
	}
	if largest == "" {
		return errors.New("the repository has no pack of file contents")
	}
	f, err := os.OpenFile(largest, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, size/2)
	if err == nil {
		b[0] ^= 1
		_, err = f.WriteAt(b, size/2)
	}
	return errors.Join(err, f.Close())
}
