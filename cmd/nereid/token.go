package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

func tokenCommand() *cobra.Command {
	var f clientFlags
	var req nereid.TokenRequest
	var life time.Duration
	c := &cobra.Command{
		Use:   "token",
		Short: "Make a token with which hosts join the fleet",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			req.Life = life
			var t nereid.JoinToken
			if err := cl.do(c.Context(), http.MethodPost, "/tokens", req, &t); err != nil {
				return err
			}
			if f.format == "json" {
				return printJSON(c.OutOrStdout(), t)
			}
			fmt.Fprintln(c.OutOrStdout(), t.Token)
			server := ""
			if t.Server {
				server = " --server"
			}
			fmt.Fprintf(c.ErrOrStderr(), "good until %s; on the new host:\n  nereid daemon --join %s%s --token %s\n",
				t.Expires.Local().Format(time.DateTime), t.Peer, server, t.Token)
			return nil
		},
	}
	f.add(c)
	c.Flags().BoolVar(&req.Server, "server", false, "for servers, which hold a copy of the state, too")
	c.Flags().DurationVar(&life, "life", 24*time.Hour, "how long it is good")
	c.Flags().BoolVar(&req.Rotate, "rotate", false, "end all tokens made before")
	return c
}
