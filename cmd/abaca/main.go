// Command abaca serves share backups over the Shared File Systems (Manila) API, verifies those it keeps, and asks such a server
// for them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRootCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "abaca: "+err.Error())
	}
	os.Exit(exitCode(err))
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "abaca",
		Short:         "Back up shares, over the API of OpenStack's Shared File Systems service",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	return group(root, newServeCommand(), newConfigCommand(), newPolicyCommand(), newMigrateCommand(), newVerifyCommand(), newRepositoryCommand(), newKeyCommand(), newProjectCommand(), newRecoverCommand(),
		newUserCommand(), newShareCommand(), newBackupCommand(), newServiceCommand())
}
