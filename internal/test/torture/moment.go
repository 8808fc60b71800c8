package torture

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
)

// counterFiles is how many files Count keeps.
const counterFiles = 400

func counterPath(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("%04d", i)) }

// Count makes files below dir and adds one to the counter in each, in turn and without end, until the function it returns is
// called. At any moment the files up to some place are one ahead of the rest; see OneMoment.
func Count(dir string) (stop func() error, err error) {
	for i := range counterFiles {
		if err := os.WriteFile(counterPath(dir, i), make([]byte, 8), 0o600); err != nil {
			return nil, err
		}
	}
	ended, stopping := make(chan error, 1), make(chan struct{})
	go func() { ended <- count(dir, stopping) }()
	return func() error { close(stopping); return <-ended }, nil
}

func count(dir string, stopping <-chan struct{}) error {
	for value := uint64(1); ; value++ {
		for i := range counterFiles {
			select {
			case <-stopping:
				return nil
			default:
			}
			if err := os.WriteFile(counterPath(dir, i), binary.BigEndian.AppendUint64(nil, value), 0o600); err != nil {
				return err
			}
		}
	}
}

// OneMoment returns an error unless the files that Count wrote, or a copy of them, are as they were at one moment. A file
// that was being written then may be empty.
func OneMoment(dir string) error {
	var first, last uint64
	seen := false
	for i := range counterFiles {
		text, err := os.ReadFile(counterPath(dir, i))
		if err != nil {
			return err
		}
		if len(text) == 0 {
			continue
		}
		value := binary.BigEndian.Uint64(text)
		if !seen {
			first, last, seen = value, value, true
		}
		if value > last || value+1 < first {
			return fmt.Errorf("file %d has %d after %d, and the first has %d", i, value, last, first)
		}
		last = value
	}
	return nil
}
