package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"abaca"
	"abaca/internal/server"
)

func newRepositoryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "repository",
		Short: "Look at the repositories, of which each project has one",
		Long: `Look at the repositories, of which each project has one.

These commands work on the server's data directory, whether or not a server is running on it, and read the server's configuration.`,
	}
	return group(cmd, newRepositoryList(), newRepositoryStats())
}

// visited does something with the projects that have a repository, or with the one that is asked for.
func (s *settings) visited(ctx context.Context, asked string, do func(*server.Visit, []abaca.ProjectID) error) error {
	c, err := s.load()
	if err != nil {
		return err
	}
	at, err := server.OpenBeside(ctx, c, c.Logger())
	if err != nil {
		return err
	}
	projects, err := at.Manager.Engine.Projects(ctx)
	if asked != "" && err == nil {
		if !slices.Contains(projects, abaca.ProjectID(asked)) {
			err = fmt.Errorf("nothing is saved of a project %q", asked)
		}
		projects = []abaca.ProjectID{abaca.ProjectID(asked)}
	}
	if err == nil {
		err = do(at, projects)
	}
	return errors.Join(err, at.Close())
}

// A repositoryItem is a repository as programs read it.
type repositoryItem struct {
	ProjectID string `json:"project_id"`
	Backups   int    `json:"backups"`
	Snapshots int    `json:"snapshots"`
}

func newRepositoryList() *cobra.Command {
	var s settings
	var format choice
	cmd := &cobra.Command{
		Use: "list", Short: "List the projects that have a repository", Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.visited(cmd.Context(), "", func(at *server.Visit, projects []abaca.ProjectID) error {
				items := []repositoryItem{}
				rows := [][]string{}
				for _, p := range projects {
					item, err := countSaved(cmd.Context(), at, p)
					if err != nil {
						return err
					}
					items = append(items, item)
					rows = append(rows, []string{item.ProjectID, strconv.Itoa(item.Backups), strconv.Itoa(item.Snapshots)})
				}
				return printList(cmd.OutOrStdout(), format, items, []string{"PROJECT", "BACKUPS", "SNAPSHOTS"}, rows)
			})
		},
	}
	s.dataFlags(cmd)
	addFormat(cmd, &format)
	return cmd
}

func countSaved(ctx context.Context, at *server.Visit, project abaca.ProjectID) (repositoryItem, error) {
	item := repositoryItem{ProjectID: string(project)}
	saved, err := at.DB.Saved(ctx, project)
	for _, s := range saved {
		if s.Kind == abaca.KindBackup {
			item.Backups++
		} else {
			item.Snapshots++
		}
	}
	return item, err
}

// A statsItem is what a repository takes up, as programs read it. Sizes are bytes; see abaca.RepositoryStats.
type statsItem struct {
	repositoryItem
	Logical     int64 `json:"logical_bytes"`
	Unique      int64 `json:"unique_bytes"`
	Stored      int64 `json:"stored_bytes"`
	Reclaimable int64 `json:"reclaimable_bytes"`
	Contents    int64 `json:"contents"`
	Packs       int64 `json:"packs"`
}

func newRepositoryStats() *cobra.Command {
	var s settings
	var format choice
	var project string
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Say how much each project has saved, and what that takes up",
		Long: `Say how much each project has saved, and what that takes up:

  LOGICAL      what all backups and snapshots would take up on their own
  UNIQUE       what is left when what they share is counted once, uncompressed
  STORED       what the storage holds, compressed
  RECLAIMABLE  of that, what nothing needs any more; maintenance gives it back, but for some per cent that tell what a pack holds

It reads the directories of all backups, and no file contents.`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.visited(cmd.Context(), project, func(at *server.Visit, projects []abaca.ProjectID) error {
				return printStats(cmd, at, format, projects)
			})
		},
	}
	s.dataFlags(cmd)
	addFormat(cmd, &format)
	cmd.Flags().StringVar(&project, "project", "", "only this project's")
	register(cmd, "project", cobra.NoFileCompletions)
	return cmd
}

func printStats(cmd *cobra.Command, at *server.Visit, format choice, projects []abaca.ProjectID) error {
	items := []statsItem{}
	rows := [][]string{}
	var errs []error
	for _, p := range projects {
		item, err := countSaved(cmd.Context(), at, p)
		if err != nil {
			return err
		}
		s, err := at.Manager.Engine.Stats(cmd.Context(), p)
		if err != nil {
			errs = append(errs, fmt.Errorf("project %s: %w", printable(string(p)), err)) // the others can be measured all the same
			continue
		}
		items = append(items, statsItem{item, s.Logical, s.Unique, s.Stored, s.Reclaimable, s.Contents, s.Packs})
		rows = append(rows, []string{
			string(p), strconv.Itoa(item.Backups), strconv.Itoa(item.Snapshots), size(s.Logical), size(s.Unique), size(s.Stored),
			size(s.Reclaimable), strconv.FormatInt(s.Contents, 10), strconv.FormatInt(s.Packs, 10),
		})
	}
	header := []string{"PROJECT", "BACKUPS", "SNAPSHOTS", "LOGICAL", "UNIQUE", "STORED", "RECLAIMABLE", "CONTENTS", "PACKS"}
	return errors.Join(append(errs, printList(cmd.OutOrStdout(), format, items, header, rows))...)
}
