package main

import (
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"abaca"
)

// A verifiedItem is a record as programs read it, in the API's style.
type verifiedItem struct {
	ID        string   `json:"id"`
	Kind      string   `json:"kind"` // "backup" or "snapshot"
	Name      *string  `json:"name"`
	ProjectID string   `json:"project_id"`
	ShareID   string   `json:"share_id"`
	BeganAt   *string  `json:"began_at"` // null where it was never verified
	EndedAt   *string  `json:"ended_at"`
	From      float64  `json:"from"` // what part of the contents was read back, by hash, as fractions of 1
	To        float64  `json:"to"`
	Files     int64    `json:"files"`
	Bytes     int64    `json:"bytes"`
	Damaged   int64    `json:"damaged"`
	Detail    []string `json:"detail"`
}

// printVerified prints what was verified, when, and with what result.
func printVerified(w io.Writer, format choice, verified []abaca.Verified) error {
	items := make([]verifiedItem, len(verified))
	rows := make([][]string, len(verified))
	for i, v := range verified {
		items[i] = verifiedItem{
			ID: v.ID, Kind: kindOf(v.Saved), Name: v.Name, ProjectID: string(v.Project), ShareID: string(v.Share),
			BeganAt: timestamp(v.Began), EndedAt: timestamp(v.Ended), From: v.Slice.From, To: v.Slice.To,
			Files: v.Files, Bytes: v.Bytes, Damaged: v.Damaged, Detail: details(v.Detail),
		}
		rows[i] = []string{v.ID, nameOf(v.Saved), kindOf(v.Saved), string(v.Share)}
		if v.Ended.IsZero() {
			rows[i] = append(rows[i], "", "", "", "", "never")
			continue
		}
		rows[i] = append(rows[i], strconv.FormatInt(v.Files, 10), size(v.Bytes), percentage(v.Slice.To-v.Slice.From).String(),
			strconv.FormatInt(v.Damaged, 10), when(*timestamp(v.Ended)))
	}
	header := []string{"ID", "NAME", "KIND", "SHARE", "FILES", "READ BACK", "PART", "DAMAGED", "VERIFIED"}
	return printList(w, format, items, header, rows)
}

// printDamage prints the damaged paths on standard error, a line each, and returns how many trees have any.
func printDamage(cmd *cobra.Command, verified []abaca.Verified) (damaged int) {
	for _, v := range verified {
		if v.Damaged == 0 {
			continue
		}
		damaged++
		for _, line := range details(v.Detail) {
			cmd.PrintErrf("%s: %s\n", label(kindOf(v.Saved), nameOf(v.Saved), v.ID), printable(line))
		}
	}
	return damaged
}

func nameOf(s abaca.Saved) string {
	if s.Name == nil {
		return ""
	}
	return *s.Name
}

func kindOf(s abaca.Saved) string { return strings.TrimPrefix(string(s.Kind), "share_") }

func details(text string) []string {
	if text == "" {
		return []string{}
	}
	return strings.Split(text, "\n")
}

// timestamp writes a time as the API does; nil for none.
func timestamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := t.UTC().Format("2006-01-02T15:04:05.000000")
	return &text
}

// size writes bytes in the largest unit that leaves a whole part.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, u := float64(n), 0
	for v >= 1024 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	if u == 0 {
		return strconv.FormatInt(n, 10) + " B"
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + units[u]
}
