package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

func cnsCommand() *cobra.Command {
	var f clientFlags
	c := &cobra.Command{Use: "cns", Short: "The name service: zones, secondaries, keys, and why names are there", Args: cobra.NoArgs}
	f.add(c)
	zone := &cobra.Command{Use: "zone", Short: "DNS zones", Args: cobra.NoArgs}
	zone.AddCommand(zoneList(&f), zoneChange(&f, "add", http.MethodPost), zoneChange(&f, "set", http.MethodPut), zoneRemove(&f))
	key := &cobra.Command{Use: "key", Short: "Keys that sign zones (DNSSEC)", Args: cobra.NoArgs}
	key.AddCommand(keyList(&f), keyAdd(&f), keyRemove(&f))
	tsig := &cobra.Command{Use: "tsig", Short: "Keys shared with other name servers (TSIG)", Args: cobra.NoArgs}
	tsig.AddCommand(tsigList(&f), tsigAdd(&f), tsigRemove(&f))
	c.AddCommand(cnsStatus(&f), cnsExplain(&f), cnsSet(&f), cnsDump(&f), zone, key, tsig)
	return c
}

func cnsStatus(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Zones with their serials, secondaries with theirs and how far they are behind", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var s nereid.CNSStatus
			return f.show(c, "/cns/status", &s, func(w io.Writer) error { return printStatus(w, s) })
		},
	}
}

// show asks for what is at a path and prints it, as a table unless JSON is wanted.
func (f *clientFlags) show(c *cobra.Command, path string, v any, table func(io.Writer) error) error {
	cl, err := f.client()
	if err != nil {
		return err
	}
	if err := cl.get(c.Context(), path, v); err != nil {
		return err
	}
	if f.format == "json" {
		return printJSON(c.OutOrStdout(), v)
	}
	return table(c.OutOrStdout())
}

// tell sends something and expects no answer.
func (f *clientFlags) tell(c *cobra.Command, method, path string, in any) error {
	cl, err := f.client()
	if err != nil {
		return err
	}
	return cl.do(c.Context(), method, path, in, nil)
}

func printStatus(w io.Writer, s nereid.CNSStatus) error {
	exact := ""
	if !s.Exact {
		exact = ", not what the state says: zones are transferred to nobody"
	}
	fmt.Fprintf(w, "host %s, state %d, last change took %s%s\n", s.Host, s.Revision, s.Took.Round(time.Microsecond), exact)
	for _, h := range s.Hidden {
		fmt.Fprintf(w, "host %s cannot be reached: what it runs is hidden\n", h)
	}
	fmt.Fprintln(w)
	if err := printZones(w, s.Zones); err != nil || len(s.Secondaries) == 0 {
		return err
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, p := range s.Secondaries {
		serial, drift := fmt.Sprint(p.Serial), "-"
		if p.Serial == 0 {
			serial = "?"
		}
		if p.Drift > 0 {
			drift = "behind for " + time.Duration(p.Drift*float64(time.Second)).Round(time.Millisecond).String()
		}
		rows = append(rows, []string{p.Address, bare(p.Apex), serial, drift, p.Error})
	}
	return printTable(w, "SECONDARY,ZONE,SERIAL,DRIFT,ERROR", rows)
}

// bare is a name without the root's dot.
func bare(name string) string { return strings.TrimSuffix(name, ".") }

func printZones(w io.Writer, zones []nereid.CNSZone) error {
	var rows [][]string
	for _, z := range zones {
		signed := "no"
		if z.Signed {
			signed = "yes"
		}
		rows = append(rows, []string{bare(z.Apex), z.Kind, z.Made, fmt.Sprint(z.Serial), fmt.Sprint(z.Names), signed, cmp.Or(strings.Join(z.Settings, " "), "-")})
	}
	return printTable(w, "ZONE,KIND,MADE BY,SERIAL,NAMES,SIGNED,SETTINGS", rows)
}

func zoneList(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the zones", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var zones []nereid.CNSZone
			return f.show(c, "/cns/zones", &zones, func(w io.Writer) error { return printZones(w, zones) })
		},
	}
}

func zoneChange(f *clientFlags, verb, method string) *cobra.Command {
	short := "Add a zone"
	if verb == "set" {
		short = "Change settings of a zone; lists know KEY+=VALUE and KEY-=VALUE, and KEY= is the default"
	}
	c := &cobra.Command{Use: verb + " ZONE KEY=VALUE...", Short: short, Args: cobra.MinimumNArgs(1)}
	if verb == "set" {
		c.Args = cobra.MinimumNArgs(2)
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		cl, err := f.client()
		if err != nil {
			return err
		}
		var out nereid.CNSWarnings
		if err := cl.do(c.Context(), method, zonePath(args[0]), nereid.CNSSettings{Settings: args[1:]}, &out); err != nil {
			return err
		}
		for _, w := range out.Warnings {
			fmt.Fprintln(c.ErrOrStderr(), "WARNING:", w)
		}
		return nil
	}
	return c
}

func zonePath(name string) string { return "/cns/zones/" + url.PathEscape(name) }

func zoneRemove(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "rm ZONE", Short: "Remove a zone with its keys; of one that operators did not add, their settings", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return f.tell(c, http.MethodDelete, zonePath(args[0]), nil)
		},
	}
}

func cnsDump(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "dump ZONE", Short: "Write a zone in zone-file form", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			return cl.copy(c.Context(), zonePath(args[0])+"/dump", c.OutOrStdout())
		},
	}
}

func cnsSet(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "set CONTAINER KEY=VALUE...",
		Short: "Say how a running container is named: status=down takes it out of its services, status=up puts it back, status= leaves it to its label; acme-challenge=TOKEN[,TOKEN]",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return f.tell(c, http.MethodPost, "/cns/containers/"+url.PathEscape(args[0]), nereid.CNSSettings{Settings: args[1:]})
		},
	}
}

func cnsExplain(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "explain CONTAINER|NAME", Short: "Why a container has the names it has, or a DNS name is there or not", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var e nereid.CNSExplanation
			return f.show(c, "/cns/explain?what="+url.QueryEscape(args[0]), &e, func(w io.Writer) error { return printExplanation(w, e) })
		},
	}
}

func printExplanation(w io.Writer, e nereid.CNSExplanation) error {
	if e.Name != "" {
		fmt.Fprintf(w, "%s: %s\n", e.Name, e.Verdict)
	}
	for _, r := range e.Reasons {
		fmt.Fprintln(w, "  "+r)
	}
	for _, z := range e.Zones {
		fmt.Fprintf(w, "container %s in zone %s\n", z.Container, bare(z.Apex))
		for _, r := range z.Records {
			fmt.Fprintln(w, "  has    "+r)
		}
		for _, l := range z.Lacks {
			fmt.Fprintln(w, "  lacks  "+l)
		}
	}
	return nil
}
