// Command bench compares abaca's engine with restic, Kopia, Borg and cp on generated trees: full backup, nothing
// changed, 1 % changed, restore into nothing and restore over a tree of which 1 % differs. README.md says how the
// figures come about.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// options are the command line.
type options struct {
	sets, tools []string
	phases      []string // columns to measure; empty for all. The full backup is always made
	scale       float64
	rounds      int
	work        string // everything is kept below it and removed at the end
	build       string // where the peers' programs are, or are built to
	out         string // the Markdown file
	profiles    string // directory of CPU profiles of abaca, or empty
}

func main() {
	if os.Getenv(workerEnv) != "" {
		if err := serveWorker(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := benchmark(ctx, parse(), os.Stdout, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func parse() options {
	var o options
	sets := flag.String("sets", "large,small,source", "sets to run, of large, small, source and million")
	tools := flag.String("tools", "floor,abaca,abaca-open,restic,kopia,borg,cp", "tools to run, in this order; there is abaca-dense besides")
	phases := flag.String("phases", "", "columns to measure beside the full backup, such as \"unchanged,restore\" (default all)")
	flag.Float64Var(&o.scale, "scale", 0.25, "size of the sets; 1 is 4 GiB, 200 000 files, 100 000 files and 1 000 000 files")
	flag.IntVar(&o.rounds, "n", 5, "rounds; the tables show medians")
	flag.StringVar(&o.work, "work", filepath.Join(os.TempDir(), "abaca-bench"), "directory for trees, repositories and targets")
	flag.StringVar(&o.build, "build", "build/bench", "directory for the peers' programs")
	flag.StringVar(&o.out, "out", "build/bench/report.md", "file for the tables")
	flag.StringVar(&o.profiles, "cpuprofile", "", "directory for CPU profiles of abaca's phases")
	quick := flag.Bool("quick", false, "a smoke run of a few minutes: one round at scale 0.02 without the source tree")
	flag.Parse()
	o.sets, o.tools = strings.Split(*sets, ","), strings.Split(*tools, ",")
	if *phases != "" {
		o.phases = strings.Split(*phases, ",")
	}
	if *quick {
		o.sets, o.scale, o.rounds = []string{"large", "small"}, 0.02, 1
	}
	return o
}

// benchmark runs all that is asked for and prints the tables.
func benchmark(ctx context.Context, o options, stdout io.Writer, log *slog.Logger) (err error) {
	sets, err := chooseSets(o.sets)
	if err != nil {
		return err
	}
	if err := makeWork(o.work); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.work)) }()
	tools, versions, err := chooseTools(ctx, o, log)
	if err != nil {
		return err
	}
	r := &report{command: strings.Join(os.Args[1:], " "), versions: versions, scale: o.scale, rounds: o.rounds}
	for _, s := range sets {
		b := &bench{set: s, tools: tools, options: o, log: log.With("set", s.name), results: results{}}
		err := b.run(ctx)
		// What was measured before something failed is still worth reading.
		r.sets = append(r.sets, setResult{set: s, info: b.info, tools: tools, results: b.results})
		if werr := r.write(o.out); werr != nil {
			return werr
		}
		if err != nil {
			return fmt.Errorf("set %s: %w", s.name, err)
		}
	}
	_, err = io.WriteString(stdout, r.markdown())
	return err
}

// makeWork makes the working directory, which must not exist: it is removed with all that is in it at the end.
func makeWork(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("making the working directory, which is removed afterwards: %w", err)
	}
	return nil
}
