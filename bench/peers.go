package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// peers knows how the other programs are built and called. Each keeps what it caches below the working directory.
type peers struct {
	build, work string
	log         *slog.Logger
}

// password protects the peers' repositories, which hold generated data and live for one run.
const password = "bench"

// build makes a peer's program from the module beside this file, unless it is there.
func (p peers) program(ctx context.Context, name, pkg string, tags ...string) (string, error) {
	path := filepath.Join(p.build, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	p.log.InfoContext(ctx, "building", "program", name)
	args := append([]string{"build", "-C", filepath.Join("bench", "peers", name), "-o", path}, tags...)
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s (from the top of the source tree?): %w: %s", name, err, out)
	}
	return path, nil
}

// A command is a peer with its environment; its repository and caches lie below home.
type command struct {
	home string
	env  []string
}

func (p peers) command(name string, env ...string) command {
	home := filepath.Join(p.work, name)
	env = append(env, "HOME="+home, "XDG_CACHE_HOME="+filepath.Join(home, "cache"))
	for i := range env {
		env[i] = strings.ReplaceAll(env[i], "$HOME", home)
	}
	return command{home: home, env: env}
}

func (c command) repository() string { return filepath.Join(c.home, "repository") }

// empty makes an empty home.
func (c command) empty() error {
	return errors.Join(os.RemoveAll(c.home), os.MkdirAll(c.home, 0o700))
}

func (c command) run(ctx context.Context, dir string, argv ...string) (figure, error) {
	return runMeasured(ctx, dir, c.env, argv...)
}

// begin makes a repository with commands that are not measured.
func (c command) begin(commands ...[]string) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := c.empty(); err != nil {
			return err
		}
		for _, argv := range commands {
			if _, err := c.run(ctx, c.home, argv...); err != nil {
				return err
			}
		}
		return nil
	}
}

func (p peers) restic(ctx context.Context) ([]*tool, error) {
	restic, err := p.program(ctx, "restic", "github.com/restic/restic/cmd/restic")
	if err != nil {
		return nil, err
	}
	c := p.command("restic", "RESTIC_REPOSITORY=$HOME/repository", "RESTIC_PASSWORD="+password)
	return []*tool{{
		name: "restic", about: "0.18.1, compression auto, cache on; restores with --delete", repository: c.repository(), mirrors: true,
		start: c.begin([]string{restic, "init"}),
		save: func(ctx context.Context, _ phase, _, tree string) (figure, error) {
			return c.run(ctx, tree, restic, "backup", "--quiet", ".")
		},
		restore: func(ctx context.Context, _ phase, _, _, target string) (figure, error) {
			return c.run(ctx, c.home, restic, "restore", "--quiet", "--delete", "--target", target, "latest")
		},
	}}, nil
}

// kopia is measured with the settings it has of itself, which do not compress, and with s2; and restores with its
// content cache and without.
func (p peers) kopia(ctx context.Context) ([]*tool, error) {
	kopia, err := p.program(ctx, "kopia", "github.com/kopia/kopia", "-tags", "nohtmlui")
	if err != nil {
		return nil, err
	}
	plain := p.kopiaTool(kopia, "kopia", "0.23.1, its own settings: not compressed, content cache on, empty before each first restore; maintenance off")
	s2 := p.kopiaTool(kopia, "kopia s2", "the same with compression s2-default", "--compression=s2-default")
	cacheless := p.kopiaCacheless(kopia, s2)
	return []*tool{plain, s2, cacheless}, nil
}

var kopiaEnv = []string{"KOPIA_PASSWORD=" + password, "KOPIA_CONFIG_PATH=$HOME/repository.config", "KOPIA_LOG_DIR=$HOME/log",
	"KOPIA_CHECK_FOR_UPDATES=false"}

func (p peers) kopiaTool(kopia, name, about string, policy ...string) *tool {
	c := p.command(strings.ReplaceAll(name, " ", "-"), kopiaEnv...)
	commands := [][]string{{kopia, "repository", "create", "filesystem", "--path=" + c.repository()}}
	if len(policy) > 0 {
		commands = append(commands, append([]string{kopia, "policy", "set", "--global"}, policy...))
	}
	return &tool{
		name: name, about: about, repository: c.repository(), mirrors: true,
		start: c.begin(commands...),
		save: func(ctx context.Context, _ phase, _, tree string) (figure, error) {
			return c.run(ctx, c.home, kopia, "snapshot", "create", "--no-progress", "--no-auto-maintenance", tree)
		},
		restore: kopiaRestore(kopia, c),
	}
}

func kopiaRestore(kopia string, c command) func(context.Context, phase, string, string, string) (figure, error) {
	return func(ctx context.Context, _ phase, _, tree, target string) (figure, error) {
		return c.run(ctx, c.home, kopia, "snapshot", "restore", "--no-progress", "--no-auto-maintenance", "--delete-extra", tree, target)
	}
}

// kopiaCacheless restores what another row has saved.
func (p peers) kopiaCacheless(kopia string, saved *tool) *tool {
	c := p.command("kopia-cacheless", kopiaEnv...)
	connected := false
	return &tool{
		name: saved.name + ", no cache", about: "the repository of the row above, restored with a content cache of 0", mirrors: true,
		start: func(context.Context) error { connected = false; return c.empty() },
		restore: func(ctx context.Context, ph phase, set, tree, target string) (figure, error) {
			if !connected { // only now there is something to connect to
				if _, err := c.run(ctx, c.home, kopia, "repository", "connect", "filesystem", "--path="+saved.repository,
					"--content-cache-size-mb=0"); err != nil {
					return figure{}, err
				}
				connected = true
			}
			return kopiaRestore(kopia, c)(ctx, ph, set, tree, target)
		},
	}
}

func (p peers) borg(ctx context.Context) ([]*tool, error) {
	out, err := exec.CommandContext(ctx, "borg", "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("borg is Debian's package borgbackup: %w", err)
	}
	c := p.command("borg", "BORG_REPO=$HOME/repository", "BORG_PASSPHRASE="+password, "BORG_BASE_DIR=$HOME")
	saves := 0
	return []*tool{{
		name: "borg", about: strings.TrimSpace(string(out)) + ", repokey-blake2, lz4", repository: c.repository(),
		mirrors: true,
		start:   c.begin([]string{"borg", "init", "--encryption=repokey-blake2"}),
		save: func(ctx context.Context, _ phase, _, tree string) (figure, error) {
			saves++
			return c.run(ctx, tree, "borg", "create", "--compression=lz4", fmt.Sprintf("::save-%d", saves), ".")
		},
		restore: func(ctx context.Context, _ phase, _, _, target string) (figure, error) {
			return c.run(ctx, target, "borg", "extract", fmt.Sprintf("::save-%d", saves))
		},
	}}, nil
}

// cp copies to a second tree and back.
func (p peers) cp() []*tool {
	c := p.command("cp")
	return []*tool{{
		name: "cp -a", about: "one copy, neither compressed nor encrypted", repository: c.repository(), exact: true,
		start: c.begin(),
		save: func(ctx context.Context, ph phase, _, tree string) (figure, error) {
			if ph != full {
				return figure{}, errNotDone
			}
			return c.run(ctx, c.home, "cp", "-a", tree, c.repository())
		},
		restore: func(ctx context.Context, _ phase, _, tree, target string) (figure, error) {
			return c.run(ctx, c.home, "cp", "-a", tree+"/.", target)
		},
	}}
}
