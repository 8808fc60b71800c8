package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// A report is what a run says in the end.
type report struct {
	command  string
	versions []string
	scale    float64
	rounds   int
	sets     []setResult
}

type setResult struct {
	set     set
	info    setInfo
	tools   []*tool
	results results
}

func (r *report) write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(r.markdown()), 0o644)
}

func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Made by `go run ./bench %s` on %d processors; scale %g, medians of %d.\n\n", r.command, runtime.NumCPU(), r.scale, r.rounds)
	for _, v := range r.versions {
		fmt.Fprintf(&b, "- %s\n", v)
	}
	for _, s := range r.sets {
		s.figures(&b)
		s.verdicts(&b)
		s.checks(&b)
	}
	return b.String()
}

// figures writes one row for each tool.
func (s setResult) figures(b *strings.Builder) {
	fmt.Fprintf(b, "\n### Set %s: %s\n\n%s. Cells: wall s / CPU s / peak MiB; restores: wall s (and until synced).", s.set.name, s.info.size, s.set.about)
	if s.set.cold {
		fmt.Fprintf(b, " Caches dropped before \"%s\" and \"%s\": %v.", full, coldUnchanged, s.info.cold)
	}
	var columns []phase
	for _, p := range phases {
		if slices.ContainsFunc(s.tools, func(t *tool) bool { return len(s.results[t.name][p]) > 0 }) {
			columns = append(columns, p)
		}
	}
	b.WriteString("\n\n| tool |")
	for _, p := range columns {
		fmt.Fprintf(b, " %s |", p)
	}
	b.WriteString(" repository MB |\n|---|" + strings.Repeat("---|", len(columns)+1) + "\n")
	for _, t := range s.tools {
		fmt.Fprintf(b, "| %s |", t.name)
		for _, p := range columns {
			fmt.Fprintf(b, " %s |", cell(p, s.results[t.name][p]))
		}
		size := "–"
		if n, ok := s.info.sizes[t.name]; ok {
			size = fmt.Sprintf("%.0f", float64(n.full)/1e6)
			if n.all != 0 {
				size += fmt.Sprintf(" → %.0f", float64(n.all)/1e6)
			}
		}
		fmt.Fprintf(b, " %s |\n", size)
	}
}

func cell(p phase, all []figure) string {
	if len(all) == 0 {
		return "–"
	}
	f := median(all)
	wall := number(f.Wall)
	if p == restore || p == over || p == inPlace {
		wall += " (" + number(f.Synced) + ")"
	}
	return fmt.Sprintf("%s / %s / %d", wall, number(f.CPU), f.RSS>>20)
}

func number(seconds float64) string {
	if seconds < 10 {
		return fmt.Sprintf("%.2f", seconds)
	}
	return fmt.Sprintf("%.1f", seconds)
}

// The rows that targets are compared for.
var judged = []string{"abaca", "abaca (open)"}

// verdicts writes one row for each target of the set, and says whether it is met.
func (s setResult) verdicts(b *strings.Builder) {
	b.WriteString("\n| abaca ÷ peer | to reach | abaca: wall, CPU | abaca (open): wall, CPU |\n|---|---|---|---|\n")
	for _, t := range targets {
		if !slices.Contains(t.sets, s.set.name) {
			continue
		}
		names := t.whose(s.results)
		if names == "" {
			continue
		}
		fmt.Fprintf(b, "| %s ÷ %s | ≤ %g |", t.phase, names, t.factor)
		for _, name := range judged {
			fmt.Fprintf(b, " %s |", t.verdict(s.results, name))
		}
		b.WriteString("\n")
	}
	ours, theirs := s.info.sizes["abaca"].full, s.info.sizes["restic"].full
	if ours > 0 && theirs > 0 {
		fmt.Fprintf(b, "| repository ÷ restic | ≤ %g | %s | |\n", sizeFactor, verdict(float64(ours)/float64(theirs), sizeFactor))
	}
	b.WriteString("| peak MiB | ≤ 400 |")
	for _, name := range judged {
		fmt.Fprintf(b, " %s |", s.memory(name))
	}
	b.WriteString("\n")
}

func (t target) whose(r results) string {
	_, byWall := t.least(r, func(f figure) float64 { return f.Wall })
	_, byCPU := t.least(r, func(f figure) float64 { return f.CPU })
	if t.wall && t.cpu && byWall != byCPU {
		return byWall + ", " + byCPU
	}
	return byWall
}

// verdict gives the ratios of one row of abaca's.
func (t target) verdict(r results, name string) string {
	all := r[name][t.phase]
	if len(all) == 0 {
		return "–"
	}
	own := median(all)
	var parts []string
	if t.wall {
		least, _ := t.least(r, func(f figure) float64 { return f.Wall })
		parts = append(parts, verdict(own.Wall/least, t.factor))
	}
	if t.cpu {
		least, _ := t.least(r, func(f figure) float64 { return f.CPU })
		parts = append(parts, verdict(own.CPU/least, t.factor))
	}
	return strings.Join(parts, ", ")
}

func verdict(ratio, limit float64) string {
	if math.Round(ratio*100) <= math.Round(limit*100) {
		return fmt.Sprintf("%.2f met", ratio)
	}
	return fmt.Sprintf("**%.2f missed**", ratio)
}

func (s setResult) memory(name string) string {
	var most int64
	for _, all := range s.results[name] {
		for _, f := range all {
			most = max(most, f.RSS)
		}
	}
	switch {
	case most == 0:
		return "–"
	case most <= memoryLimit:
		return fmt.Sprintf("%d met", most>>20)
	}
	return fmt.Sprintf("**%d missed**", most>>20)
}

func (s setResult) checks(b *strings.Builder) {
	if len(s.info.checked) > 0 {
		fmt.Fprintf(b, "\nCompared with the source in round 1: %s.\n", strings.Join(s.info.checked, "; "))
	}
}
