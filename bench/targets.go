package main

import "math"

// A target is what abaca has to reach: a figure of its own divided by one of other tools.
type target struct {
	sets   []string
	phase  phase
	peers  []string // the least of them counts
	factor float64
	wall   bool // whether wall time counts as well as processor time; floors of waiting for disks are wall time alone
	cpu    bool
	of     phase // the peers' phase, if it is another
}

const (
	bare     = "bare floor"
	restic   = "restic"
	borg     = "borg"
	kopia    = "kopia s2"
	kopiaAs  = "kopia"
	kopiaRaw = "kopia s2, no cache"
	copied   = "cp -a"
)

var (
	usual   = []string{"large", "small", "source"}
	small   = []string{"small"}
	million = []string{"million"}
	any3    = []string{restic, borg, kopia, kopiaAs, kopiaRaw}
)

// targets are the project's.
var targets = []target{
	{sets: usual, phase: full, peers: []string{restic}, factor: 0.35, wall: true, cpu: true},
	{sets: usual, phase: full, peers: []string{borg}, factor: 0.55, wall: true, cpu: true},
	{sets: usual, phase: full, peers: []string{kopia}, factor: 0.80, wall: true, cpu: true},
	{sets: small, phase: unchanged, peers: []string{restic}, factor: 0.25, wall: true, cpu: true},
	{sets: small, phase: unchanged, peers: []string{borg}, factor: 0.20, wall: true, cpu: true},
	{sets: small, phase: unchanged, peers: []string{kopia}, factor: 0.5, wall: true, cpu: true},
	{sets: small, phase: unchanged, peers: []string{bare}, factor: 2.0, wall: true, cpu: true},
	{sets: usual, phase: changed, peers: any3, factor: 0.5, wall: true, cpu: true},
	{sets: usual, phase: restore, peers: any3, factor: 0.5, wall: true, cpu: true},
	{sets: usual, phase: over, peers: any3, factor: 0.5, wall: true, cpu: true},
	{sets: usual, phase: inPlace, peers: any3, factor: 0.5, wall: true, cpu: true, of: over},
	{sets: small, phase: restore, peers: []string{copied}, factor: 1.5, wall: true, cpu: true},
	{sets: million, phase: full, peers: []string{bare}, factor: 1.5, wall: true},
	{sets: million, phase: coldUnchanged, peers: []string{bare}, factor: 1.6, wall: true},
	{sets: million, phase: unchanged, peers: []string{bare}, factor: 2.5, wall: true},
	{sets: million, phase: restore, peers: []string{bare}, factor: 1.5, wall: true},
}

const (
	sizeFactor  = 1.25      // repository of abaca ÷ restic's, after the full backup
	memoryLimit = 400 << 20 // of abaca in every phase
)

// least is the smallest value of a metric among the peers that have one, and whose it is.
func (t target) least(r results, metric func(figure) float64) (value float64, whose string) {
	p := t.phase
	if t.of != "" {
		p = t.of
	}
	value = math.Inf(1)
	for _, name := range t.peers {
		if all := r[name][p]; len(all) > 0 {
			if v := metric(median(all)); v < value {
				value, whose = v, name
			}
		}
	}
	return value, whose
}
