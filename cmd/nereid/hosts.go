package main

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

func hostCommand() *cobra.Command {
	var f clientFlags
	c := &cobra.Command{Use: "host", Short: "The fleet's hosts", Args: cobra.NoArgs}
	f.add(c)
	c.AddCommand(hostList(&f), hostInspect(&f), hostLabel(&f), hostDrain(&f), hostResume(&f), hostRemove(&f))
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
			return printTable(c.OutOrStdout(), "NAME,STATE,ROLE,ADDRESS,CPUS,MEMORY,CONTAINERS,DATA PATH,VERSION", rows)
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
		fmt.Sprintf("%d/%d", h.Running, h.Containers), h.DataPath.String(), cmp.Or(h.Version, "-"),
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

func hostLabel(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "label HOST KEY=VALUE...", Short: "Give a host labels; KEY= takes one away", Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			req := nereid.LabelRequest{Labels: map[string]string{}}
			for _, kv := range args[1:] {
				k, v, ok := strings.Cut(kv, "=")
				if !ok || k == "" {
					return fmt.Errorf("%q is not KEY=VALUE", kv)
				}
				req.Labels[k] = v
			}
			return cl.do(c.Context(), http.MethodPost, "/hosts/"+url.PathEscape(args[0])+"/label", req, nil)
		},
	}
}

func hostDrain(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "drain HOST", Short: "Give a host no new containers, move what can be moved, and name what stays", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			var d nereid.Drained
			if err := cl.do(c.Context(), http.MethodPost, "/hosts/"+url.PathEscape(args[0])+"/drain", nil, &d); err != nil {
				return err
			}
			if f.format == "json" {
				return printJSON(c.OutOrStdout(), d)
			}
			if len(d.Stay)+len(d.Moved) == 0 {
				fmt.Fprintf(c.OutOrStdout(), "%s gets no new containers, and has none that run\n", d.Host)
				return nil
			}
			var rows [][]string
			for _, m := range d.Moved {
				rows = append(rows, []string{m.ID.Short(), m.Name, string(m.Account), "moved to " + string(m.To)})
			}
			for _, s := range d.Stay {
				rows = append(rows, []string{s.ID.Short(), s.Name, string(s.Account), "stays: " + s.Why})
			}
			return printTable(c.OutOrStdout(), "CONTAINER,NAME,ACCOUNT,WHAT", rows)
		},
	}
}

func hostResume(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "resume HOST", Short: "Let a drained host get containers again", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			return cl.do(c.Context(), http.MethodPost, "/hosts/"+url.PathEscape(args[0])+"/resume", nil, nil)
		},
	}
}

func hostRemove(f *clientFlags) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "rm HOST", Short: "Take a host out of the fleet, with the records of its containers", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			return cl.do(c.Context(), http.MethodDelete, fmt.Sprintf("/hosts/%s?force=%t", url.PathEscape(args[0]), force), nil, nil)
		},
	}
	c.Flags().BoolVar(&force, "force", false, "although it is alive and has containers")
	return c
}
