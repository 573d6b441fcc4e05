package main

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

func hostCommand() *cobra.Command {
	var f clientFlags
	c := &cobra.Command{Use: "host", Short: "The fleet's hosts", Args: cobra.NoArgs}
	f.add(c)
	c.AddCommand(hostList(&f), hostInspect(&f))
	return c
}

func hostList(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the hosts", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			var hosts []nereid.HostStatus
			if err := cl.get(c.Context(), "/hosts", &hosts); err != nil {
				return err
			}
			if f.format == "json" {
				return printJSON(c.OutOrStdout(), hosts)
			}
			var rows [][]string
			for _, h := range hosts {
				rows = append(rows, hostRow(h))
			}
			return printTable(c.OutOrStdout(), "NAME,STATE,ROLE,ADDRESS,CPUS,MEMORY,CONTAINERS,VERSION", rows)
		},
	}
}

func hostRow(h nereid.HostStatus) []string {
	name, state, role := string(h.Name), string(h.State), "host"
	if h.Endpoint {
		name += " *"
	}
	if h.Draining {
		state += ", draining"
	}
	if h.Server {
		role = "server"
	}
	return []string{
		name, state, role, cmp.Or(h.Address, "-"), strconv.Itoa(h.CPUs), units.BytesSize(float64(h.Memory)),
		fmt.Sprintf("%d/%d", h.Running, h.Containers), cmp.Or(h.Version, "-"),
	}
}

func hostInspect(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "inspect HOST...", Short: "All there is to know of hosts, as JSON", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, names []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			hosts := make([]nereid.HostStatus, len(names))
			for i, n := range names {
				if err := cl.get(c.Context(), "/hosts/"+url.PathEscape(n), &hosts[i]); err != nil {
					return err
				}
			}
			return printJSON(c.OutOrStdout(), hosts)
		},
	}
}
