package main

import (
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

func newConfigCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the configuration that is in force, secrets hidden",
		Long: `Print the configuration that is in force, secrets hidden, in the form of a configuration file.

Settings come from the file named by --config, from ABACA_* environment variables (ABACA_DATA_DIR for data_dir, ABACA_WORKERS_TREES
for workers.trees), and from flags; later ones win.`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.load()
			if err != nil {
				return err
			}
			enc := yaml.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent(2)
			if err := enc.Encode(c); err != nil {
				return err
			}
			return enc.Close()
		},
	}
	s.flags(cmd)
	return cmd
}
