package abaca

import (
	"os"
	"time"
)

// A Volume is the files of a share, opened for one operation by a back end and closed by whoever asked for it.
type Volume struct {
	// Root is the share's root directory, open for reading. Everything is reached beneath this descriptor;
	// its path is never used again, so that a tenant who moves or replaces directories cannot lead anyone elsewhere.
	Root *os.File
	// Still says that the tree does not change while the volume is open, because it is a snapshot.
	Still bool
	// Release gives back what the volume holds besides Root; nil where that is nothing.
	Release func() error
}

// Close closes the root directory and releases what the volume holds.
func (v *Volume) Close() error {
	err := v.Root.Close()
	if v.Release != nil {
		if rerr := v.Release(); err == nil {
			err = rerr
		}
	}
	return err
}

// Progress says how far reading or writing a tree has come. Found grows while the tree is being discovered;
// Done never exceeds Found. Bytes are bytes of file content, files are directory entries of any type.
type Progress struct {
	FilesFound, BytesFound int64
	FilesDone, BytesDone   int64
	// What a save has read so far, files once for each time they were opened, which what equals the parent is not; and the bytes that
	// it has added to the repository.
	FilesRead, BytesRead, Stored int64
}

// entryCost is what one file weighs in a percentage beside its bytes: opening one costs about as much as reading this many.
const entryCost = 16 << 10

// Percent returns a whole percentage from 0 to 99; 100 belongs to finished work alone.
func (p Progress) Percent() int {
	found := p.BytesFound + p.FilesFound*entryCost
	if found <= 0 {
		return 0
	}
	done := p.BytesDone + p.FilesDone*entryCost
	return int(min(99, max(0, done*100/found)))
}

// A Ref is the engine's name for saved data; only the engine that made it can read it. Empty means nothing saved.
type Ref string

// A SaveRequest says whose tree is saved and under which name.
type SaveRequest struct {
	Project ProjectID
	Share   ShareID
	ID      string // the backup's or snapshot's id; saving again under the same id replaces an unfinished attempt
	Parent  Ref    // an earlier save of the same share, to be read instead of what has not changed; may be empty or gone
	More    bool   // whether the project has other saved data: if there is no place for it, that is not made but is missing
}

// A Report tells what a finished save or restore did.
type Report struct {
	Files, Bytes int64  // directory entries and bytes of content in the saved tree
	Stored       int64  // bytes added to the repository, or written to the share by a restore
	Changed      int64  // files that kept changing while they were read and were kept with a mark
	Unreadable   int64  // files that could not be read, or whose attributes could not all be set on restore
	Detail       string // the first few marked paths with reasons, one a line; empty when nothing was marked
}

// A Slice is a part of all that is saved, chosen by hash: contents whose hash, read as a fraction of 1, is at least From
// and below To. From 0 to 1 is everything.
type Slice struct{ From, To float64 }

// A Verification tells what reading a saved tree back has found.
type Verification struct {
	Files   int64  // directory entries that were checked: described, and all their contents there
	Bytes   int64  // bytes of content, uncompressed, that were read back and equal their hashes; what trees share counts for the first
	Damaged int64  // entries that cannot be restored as they were saved
	Detail  string // the first hundred damaged paths with reasons, one a line; empty when nothing is damaged
}

// A Found is something saved, as it is found in a repository without the catalogue.
type Found struct {
	ID           string // that it was saved under
	Ref          Ref
	Project      ProjectID
	Share        ShareID
	Began, Ended time.Time
	Files, Bytes int64  // as in its Report
	Record       []byte // what was noted of it; nil for nothing
}
