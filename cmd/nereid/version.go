package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// versions are this program's and, where one answers, the daemon's.
type versions struct {
	Client string
	Daemon *nereid.DaemonVersion `json:",omitempty"`
}

func versionCommand() *cobra.Command {
	var f clientFlags
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program and of the daemon, where one answers",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := versions{Client: version}
			cl, err := f.client()
			if err != nil && (f.host != "" || c.Flags().Changed("format")) {
				return err
			}
			var d nereid.DaemonVersion
			if err == nil && cl.get(c.Context(), "/version", &d) == nil { // this program has a version without a daemon, too
				v.Daemon = &d
			}
			if f.format == "json" {
				return printJSON(c.OutOrStdout(), v)
			}
			fmt.Fprintln(c.OutOrStdout(), "nereid", v.Client)
			if v.Daemon != nil {
				fmt.Fprintf(c.OutOrStdout(), "daemon %s on host %s, Docker API %s\n", d.Version, d.Host, d.APIVersion)
			}
			return nil
		},
	}
	f.add(c)
	return c
}
