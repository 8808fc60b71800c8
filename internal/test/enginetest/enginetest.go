// Package enginetest is what every engine must pass: it saves and restores real trees, spoils them in between, and
// attacks a restore while it runs.
package enginetest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"abaca"
	"abaca/internal/test/torture"
)

// An Engine is what package manager needs of one, as far as trees are concerned.
type Engine interface {
	Save(ctx context.Context, req abaca.SaveRequest, vol *abaca.Volume, report func(abaca.Progress)) (abaca.Ref, abaca.Report, error)
	Restore(ctx context.Context, project abaca.ProjectID, ref abaca.Ref, vol *abaca.Volume, report func(abaca.Progress)) (abaca.Report, error)
	Delete(ctx context.Context, project abaca.ProjectID, id string) error
}

// Run runs the suite; open makes an engine without data that lives as long as the test.
func Run(t *testing.T, open func(t *testing.T) Engine) {
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"the torture tree comes back in every field", (*suite).torture},
		{"a second restore changes nothing", (*suite).idempotent},
		{"an unchanged tree stores next to nothing again", (*suite).incremental},
		{"random trees survive random vandalism between backups", (*suite).random},
		{"each of several backups comes back as it was", (*suite).history},
		{"links planted in the share lead nowhere", (*suite).planted},
		{"directories swapped for links during a restore lead nowhere", (*suite).swapped},
		{"a restore that was broken off anywhere is completed by the next", (*suite).brokenOff},
		{"immutable and append-only files and directories are replaced and reported", (*suite).flagged},
		{"what was never saved or was deleted cannot be restored, for good", (*suite).gone},
		{"progress never exceeds what was found and ends there", (*suite).progress},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(&suite{T: t, engine: open(t)})
		})
	}
}

const (
	// Project is whose trees the suite saves.
	Project = abaca.ProjectID("0123456789abcdef")

	share = abaca.ShareID("b7e2a9a2-8f3b-4a55-9e57-2f2b3a6a3c11")
)

type suite struct {
	*testing.T
	engine Engine
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// volume opens a directory as a share until the test ends.
func (s *suite) volume(path string) *abaca.Volume {
	s.Helper()
	root, err := os.Open(path)
	s.must(err)
	vol := &abaca.Volume{Root: root}
	s.Cleanup(func() { vol.Close() })
	return vol
}

func (s *suite) plant() string {
	s.Helper()
	root := s.TempDir()
	missing, err := torture.Plant(root)
	s.must(err)
	for _, m := range missing {
		s.Log("left out:", m)
	}
	return root
}

func (s *suite) save(root, id string, parent abaca.Ref) (abaca.Ref, abaca.Report) {
	s.Helper()
	request := abaca.SaveRequest{Project: Project, Share: share, ID: id, Parent: parent}
	ref, report, err := s.engine.Save(s.Context(), request, s.volume(root), func(abaca.Progress) {})
	s.must(err)
	return ref, report
}

func (s *suite) restore(ref abaca.Ref, root string) abaca.Report {
	s.Helper()
	report, err := s.engine.Restore(s.Context(), Project, ref, s.volume(root), func(abaca.Progress) {})
	s.must(err)
	return report
}

func (s *suite) equal(want, got string) {
	s.Helper()
	differences, err := torture.Compare(want, got)
	s.must(err)
	if len(differences) > 0 {
		s.Fatalf("%d differences:\n%.4000s", len(differences), strings.Join(differences, "\n"))
	}
}

func (s *suite) torture() {
	source, target := s.plant(), s.TempDir()
	ref, saved := s.save(source, "one", "")
	report := s.restore(ref, target)
	s.equal(source, target)
	if report.Files != saved.Files || report.Bytes != saved.Bytes {
		s.Errorf("saved %d files of %d bytes, restored %d of %d", saved.Files, saved.Bytes, report.Files, report.Bytes)
	}
	if os.Getuid() == 0 && (saved.Unreadable > 0 || report.Unreadable > 0) {
		s.Errorf("something was not kept:\n%s\n%s", saved.Detail, report.Detail)
	}
	n, err := torture.Vandalise(target, 11, 400)
	s.must(err)
	s.Logf("%d changes", n)
	s.restore(ref, target)
	s.equal(source, target)
}

func (s *suite) idempotent() {
	source, target := s.plant(), s.TempDir()
	ref, _ := s.save(source, "one", "")
	s.restore(ref, target)
	for _, root := range []string{target, source} {
		before := s.changeTimes(root)
		if report := s.restore(ref, root); report.Stored != 0 {
			s.Errorf("wrote %d bytes", report.Stored)
		}
		if s.changeTimes(root) != before {
			s.Errorf("something was changed in %s", root)
		}
	}
}

// changeTimes lists the inodes and change times of all that can be reached by paths.
func (s *suite) changeTimes(root string) string {
	s.Helper()
	var b strings.Builder
	s.must(filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		var st unix.Stat_t
		if err != nil || len(path) > 3500 {
			return filepath.SkipDir
		}
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		b.WriteString(strings.Join([]string{path, itoa(st.Ino), itoa(uint64(st.Ctim.Nano()))}, " ") + "\n")
		return nil
	}))
	return b.String()
}

func (s *suite) incremental() {
	source, target := s.TempDir(), s.TempDir()
	s.must(torture.Grow(source, 5, 500))
	first, full := s.save(source, "one", "")
	second, again := s.save(source, "two", first)
	if again.Stored > full.Stored/10+64<<10 {
		s.Errorf("the first backup stored %d bytes, the second of the same tree %d", full.Stored, again.Stored)
	}
	s.must(s.engine.Delete(s.Context(), Project, "one"))
	s.restore(second, target)
	s.equal(source, target)
}

func (s *suite) random() {
	for seed := range uint64(4) {
		source, target := s.TempDir(), s.TempDir()
		s.must(torture.Grow(source, seed, 250))
		var parent abaca.Ref
		for round := range uint64(3) {
			id := "backup-" + itoa(seed) + "-" + itoa(round)
			ref, _ := s.save(source, id, parent)
			s.restore(ref, target)
			s.equal(source, target)
			_, err := torture.Vandalise(source, seed<<8|round, 80)
			s.must(err)
			_, err = torture.Vandalise(target, seed<<8|round|0x80, 80)
			s.must(err)
			parent = ref
		}
	}
}

func (s *suite) history() {
	source := s.TempDir()
	s.must(torture.Grow(source, 42, 200))
	type backup struct {
		ref  abaca.Ref
		copy string
	}
	var backups []backup
	var parent abaca.Ref
	for round := range uint64(4) {
		parent, _ = s.save(source, "round-"+itoa(round), parent)
		kept := s.TempDir()
		s.restore(parent, kept)
		s.equal(source, kept)
		backups = append(backups, backup{parent, kept})
		_, err := torture.Vandalise(source, round, 60)
		s.must(err)
	}
	for _, b := range backups { // back and forth over one share
		s.restore(b.ref, source)
		s.equal(b.copy, source)
	}
}

func (s *suite) progress() {
	source := s.plant()
	var last abaca.Progress
	check := func(p abaca.Progress) {
		if p.FilesDone > p.FilesFound || p.BytesDone > p.BytesFound || p.FilesDone < last.FilesDone {
			s.Errorf("progress went from %+v to %+v", last, p)
		}
		last = p
	}
	request := abaca.SaveRequest{Project: Project, Share: share, ID: "one"}
	ref, saved, err := s.engine.Save(s.Context(), request, s.volume(source), check)
	s.must(err)
	if last.FilesDone != saved.Files || last.BytesDone != saved.Bytes {
		s.Errorf("saving %+v ended at %+v", saved, last)
	}
	last = abaca.Progress{}
	_, err = s.engine.Restore(s.Context(), Project, ref, s.volume(s.TempDir()), check)
	s.must(err)
	if last.FilesDone != saved.Files || last.BytesDone != saved.Bytes {
		s.Errorf("restoring %+v ended at %+v", saved, last)
	}
}
