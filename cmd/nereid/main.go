// Command nereid is the daemon and its admin client.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Set by the linker: the version, the commit it was built from, and that commit's time (RFC 3339).
var (
	version = "dev"
	commit  string
	built   string
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "nereid:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return runCommand(ctx, os.Stdout, args)
}

func runCommand(ctx context.Context, out io.Writer, args []string) error {
	root := &cobra.Command{
		Use:           "nereid",
		Short:         "Many hosts, one Docker Engine",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(daemonCommand(), cnsCommand(), hostCommand(), tokenCommand(), versionCommand())
	root.SetArgs(args)
	root.SetOut(out)
	return root.ExecuteContext(ctx)
}
