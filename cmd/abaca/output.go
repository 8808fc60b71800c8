package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"
)

// addFormat gives a command, and what is below it, the flag that says how answers are printed.
func addFormat(cmd *cobra.Command, format *choice) {
	*format = choice{value: "table", of: []string{"table", "json"}}
	cmd.PersistentFlags().VarP(format, "output", "o", "how to print answers")
	register(cmd, "output", cobra.FixedCompletions(format.of, cobra.ShellCompDirectiveNoFileComp))
}

// printList prints items as a table of rows or, for programs, as the server's own objects.
func (r *remote) printList(w io.Writer, items any, header []string, rows [][]string) error {
	return printList(w, r.format, items, header, rows)
}

func printList(w io.Writer, format choice, items any, header []string, rows [][]string) error {
	if format.value == "json" {
		return printJSON(w, items)
	}
	return writeTable(w, append([][]string{header}, rows...))
}

// writeTable aligns the columns of rows.
func writeTable(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = printable(cell)
		}
		if _, err := io.WriteString(t, strings.Join(row, "\t")+"\n"); err != nil {
			return err
		}
	}
	return t.Flush()
}

// printItem prints one object: a line for each of its keys, in the server's order, or the object itself.
func (r *remote) printItem(w io.Writer, item any) error {
	if r.format.value == "json" {
		return printJSON(w, item)
	}
	data, err := json.Marshal(item)
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	var rows [][]string
	d := json.NewDecoder(bytes.NewReader(data))
	if _, err := d.Token(); err != nil { // the opening brace
		return fmt.Errorf("reading the answer: %w", err)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		if key != "links" { // of use to programs alone
			rows = append(rows, []string{fmt.Sprint(key), plain(value)})
		}
	}
	return writeTable(w, rows)
}

func printJSON(w io.Writer, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s\n", data)
	return err
}

// plain is a JSON value as people write it: text without quotes, a dash for nothing.
func plain(value json.RawMessage) string {
	var v any
	if json.Unmarshal(value, &v) != nil {
		return string(value)
	}
	switch v := v.(type) {
	case nil:
		return "-"
	case string:
		return v
	default:
		return string(value)
	}
}

// printable quotes text that would move the cursor, colour the terminal or break the table: names are chosen by other people.
func printable(s string) string {
	if s == "" {
		return "-"
	}
	for _, c := range s {
		if !unicode.IsPrint(c) {
			return strconv.Quote(s)
		}
	}
	return s
}

// when shortens a time of the API, which is UTC, to its seconds.
func when(t string) string {
	t, _, _ = strings.Cut(t, ".")
	return strings.Replace(t, "T", " ", 1)
}
