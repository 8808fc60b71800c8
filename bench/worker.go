package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/pprof"

	"golang.org/x/sys/unix"
)

// Whatever reads or writes trees is done by workers: this program again, told by an environment variable to take
// requests from its input. A worker that gets one request and then the end of its input is a whole process, whose
// resources the kernel counts as it does for the peers. A worker that stays is like a server. The parent stays small,
// because a child's peak memory begins with what its parent had.
const workerEnv = "ABACA_BENCH_WORKER"

// A request is one thing for a worker to do.
type request struct {
	Op      string  // a key of operations
	Tree    string  // the tree that is read or written
	Other   string  // a second one, where there are two
	Root    string  // of the engine's repositories
	Key     string  // file of the engine's master key
	Dense   bool    // whether the engine compresses densely
	ID      string  // of the save
	Parent  string  // of the save
	Set     string  // name of the set to generate
	Scale   float64 // of the set
	Seed    uint64
	Profile string // file for a CPU profile; none if empty
}

// A reply says what became of a request. The figures are those of the operation alone, without the process's start.
type reply struct {
	Figure figure
	Detail string
	Error  string
}

// A worker is a running one.
type worker struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *json.Decoder
	stderr *tail
}

// startWorker starts a worker; whoever does so stops it.
func startWorker(ctx context.Context) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{cmd: exec.CommandContext(ctx, self), stderr: &tail{}}
	w.cmd.Env = append(os.Environ(), workerEnv+"=1")
	w.cmd.Stderr = w.stderr
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = json.NewDecoder(out)
	return w, w.cmd.Start()
}

// do carries out one request.
func (w *worker) do(req request) (reply, error) {
	if err := json.NewEncoder(w.in).Encode(req); err != nil {
		return reply{}, fmt.Errorf("asking a worker to %s: %w: %s", req.Op, err, w.stderr)
	}
	var r reply
	if err := w.out.Decode(&r); err != nil {
		return reply{}, fmt.Errorf("waiting for a worker to %s: %w: %s", req.Op, err, w.stderr)
	}
	if r.Error != "" {
		return reply{}, fmt.Errorf("%s: %s", req.Op, r.Error)
	}
	return r, nil
}

// stop ends the worker and waits for it.
func (w *worker) stop() error {
	return errors.Join(w.in.Close(), w.cmd.Wait())
}

// once carries out a request in a worker of its own, and measures the whole process as well.
func once(ctx context.Context, req request) (whole figure, r reply, err error) {
	began := now()
	w, err := startWorker(ctx)
	if err != nil {
		return figure{}, reply{}, err
	}
	r, err = w.do(req)
	if serr := w.stop(); err == nil {
		err = serr
	}
	if err != nil {
		return figure{}, reply{}, err
	}
	return ofProcess(began, w.cmd.ProcessState), r, nil
}

// serveWorker is the other side: it carries out requests until there are no more.
func serveWorker(in io.Reader, out io.Writer) error {
	h := &hands{}
	requests, replies := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var req request
		if err := requests.Decode(&req); errors.Is(err, io.EOF) {
			return h.close()
		} else if err != nil {
			return errors.Join(err, h.close())
		}
		r, err := h.measured(req)
		if err != nil {
			r.Error = err.Error()
		}
		if err := replies.Encode(r); err != nil {
			return errors.Join(err, h.close())
		}
	}
}

// measured carries out a request and takes its figures.
func (h *hands) measured(req request) (r reply, err error) {
	op, ok := operations[req.Op]
	if !ok {
		return reply{}, fmt.Errorf("no operation %q", req.Op)
	}
	work, err := op(h, context.Background(), req)
	if err != nil {
		return reply{}, err
	}
	if req.Profile != "" {
		f, err := os.Create(req.Profile)
		if err != nil {
			return reply{}, err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return reply{}, err
		}
		defer pprof.StopCPUProfile()
	}
	forgetPeak()
	began, before := now(), ownCPU()
	r.Detail, err = work()
	r.Figure = figure{Wall: since(began), CPU: ownCPU() - before, RSS: peak()}
	return r, err
}

// ownCPU is the processor time of this process so far, in seconds.
func ownCPU() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return seconds(u.Utime) + seconds(u.Stime)
}

func seconds(t unix.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
