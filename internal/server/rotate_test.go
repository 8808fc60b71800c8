package server_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"abaca/internal/server"
	"abaca/internal/test/serve"
)

func rotate(t *testing.T, c server.Config) server.Rotation {
	t.Helper()
	done, err := c.RotateKey(context.Background(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if len(done.Failed) > 0 {
		t.Fatal(done.Failed)
	}
	return done
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// secrets are the wrapped passwords of all projects.
func secrets(t *testing.T, c server.Config) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(c.DataDir, "repository", "*", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	m := map[string][]byte{}
	for _, p := range paths {
		m[p] = read(t, p)
	}
	return m
}

// opens are how many projects' passwords the key in a file opens, and how many it does not.
func opens(t *testing.T, c server.Config, key string) (open, others int) {
	t.Helper()
	check, err := c.CheckKey(t.Context(), key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return len(check.Opens), len(check.Others)
}

// savedOf makes a share of a project's with a file, and a backup of it.
func savedOf(t *testing.T, s *serve.Server, project string) (share, backup string) {
	t.Helper()
	s.Token = "admin:" + project
	share = s.NewShare("docs")
	write(t, filepath.Join(s.Share(share), "file"), []byte(project))
	return share, s.NewBackup(share)
}

// comesBack fails unless a backup restores the file of savedOf.
func comesBack(t *testing.T, s *serve.Server, project, share, backup string) {
	t.Helper()
	s.Token = "admin:" + project
	write(t, filepath.Join(s.Share(share), "file"), []byte("spoilt"))
	s.Restore(backup)
	if got := read(t, filepath.Join(s.Share(share), "file")); string(got) != project {
		t.Errorf("of project %s there came back %q", project, got)
	}
}

func TestTheMasterKeyChangesUnderARunningServer(t *testing.T) {
	dir := t.TempDir()
	s := serve.StartIn(t, dir)
	share1, one := savedOf(t, s, "one")
	share2, two := savedOf(t, s, "two")
	s.Stop()
	s = serve.StartIn(t, dir) // with nothing open
	old := filepath.Join(t.TempDir(), "old.key")
	write(t, old, read(t, s.Config.MasterKeyFile))
	comesBack(t, s, "one", share1, one)
	done := rotate(t, s.Config)
	if done.Rewrapped != 2 || done.Continued || done.Previous != "" {
		t.Errorf("it did %+v", done)
	}
	comesBack(t, s, "one", share1, one)
	comesBack(t, s, "two", share2, two)
	share3, three := savedOf(t, s, "three") // whose key is wrapped for the first time
	if open, others := opens(t, s.Config, ""); open != 3 || others != 0 {
		t.Errorf("the new key opens %d and not %d", open, others)
	}
	if open, others := opens(t, s.Config, old); open != 0 || others != 3 {
		t.Errorf("the old key opens %d and not %d", open, others)
	}
	if left, _ := filepath.Glob(s.Config.MasterKeyFile + "*"); len(left) != 1 {
		t.Errorf("there are %v", left)
	}
	s.Stop()
	s = serve.StartIn(t, dir)
	for project, saved := range map[string][2]string{"one": {share1, one}, "two": {share2, two}, "three": {share3, three}} {
		comesBack(t, s, project, saved[0], saved[1])
	}
}

func TestARotationThatIsInterruptedAnywhereGoesOn(t *testing.T) {
	otherKey := []byte(strings.Repeat("5a", 32) + "\n")
	for name, interrupt := range map[string]func(t *testing.T, c server.Config, old []byte){
		"while it keeps the previous key": func(t *testing.T, c server.Config, old []byte) {
			t.Helper()
			write(t, c.MasterKeyPrevious+".new", old[:7])
		},
		"before there is a new key": func(t *testing.T, c server.Config, old []byte) {
			t.Helper()
			write(t, c.MasterKeyPrevious, old)
		},
		"while it writes the new key": func(t *testing.T, c server.Config, old []byte) {
			t.Helper()
			write(t, c.MasterKeyPrevious, old)
			write(t, c.MasterKeyFile+".new", otherKey[:9])
		},
		"before anything is wrapped anew": func(t *testing.T, c server.Config, old []byte) {
			t.Helper()
			write(t, c.MasterKeyPrevious, old)
			write(t, c.MasterKeyFile, otherKey)
		},
		"when some are wrapped anew": func(t *testing.T, c server.Config, old []byte) {
			t.Helper()
			before := secrets(t, c)
			rotate(t, c)
			write(t, c.MasterKeyPrevious, old)
			for path, secret := range before {
				write(t, path, secret)
				break
			}
		},
		"when all are wrapped anew": func(t *testing.T, c server.Config, old []byte) {
			t.Helper()
			rotate(t, c)
			write(t, c.MasterKeyPrevious, old)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := serve.StartIn(t, dir)
			share1, one := savedOf(t, s, "one")
			share2, two := savedOf(t, s, "two")
			s.Stop()
			old := read(t, s.Config.MasterKeyFile)
			interrupt(t, s.Config, old)
			s = serve.StartIn(t, dir)
			comesBack(t, s, "one", share1, one)
			comesBack(t, s, "two", share2, two)
			rotate(t, s.Config)
			comesBack(t, s, "one", share1, one)
			if open, others := opens(t, s.Config, ""); open != 2 || others != 0 {
				t.Errorf("the new key opens %d and not %d", open, others)
			}
			if bytes.Equal(old, read(t, s.Config.MasterKeyFile)) {
				t.Error("the key is the one of before")
			}
			if _, err := os.Stat(s.Config.MasterKeyPrevious); err == nil {
				t.Error("the previous key is still there")
			}
			if _, err := os.Stat(s.Config.MasterKeyPrevious + ".new"); err == nil {
				t.Error("a draft of the previous key is still there")
			}
		})
	}
}

func TestAnOperatorsOwnKeysAreWrappedWithAndLeftAlone(t *testing.T) {
	dir, keys := t.TempDir(), t.TempDir()
	load := func(settings map[string]any) server.Config {
		t.Helper()
		settings["data_dir"], settings["listen"], settings["workers.backoff"] = dir, "127.0.0.1:0", "10ms"
		c, err := server.Load("", nil, settings)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first, second := strings.Repeat("11", 32), strings.Repeat("22", 32)
	s := serve.StartWith(t, load(map[string]any{"master_key": first}))
	share, backup := savedOf(t, s, "one")
	s.Stop()
	if _, err := s.Config.RotateKey(t.Context(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "master_key_previous") {
		t.Errorf("without a previous key: %v", err)
	}
	previous := filepath.Join(keys, "previous")
	write(t, previous, []byte("# of last year\n"+first[:32]+" "+first[32:]+"\n"))
	c := load(map[string]any{"master_key": second, "master_key_previous": previous})
	s = serve.StartWith(t, c)
	comesBack(t, s, "one", share, backup)
	if done := rotate(t, c); done.Rewrapped != 1 || !done.Continued || done.Previous != previous {
		t.Errorf("it did %+v", done)
	}
	s.Stop()
	s = serve.StartWith(t, load(map[string]any{"master_key": second}))
	comesBack(t, s, "one", share, backup)
}
