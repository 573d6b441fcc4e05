package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// defaultSocket is where a daemon with default roots listens.
const defaultSocket = "unix:///run/nereid/docker.sock"

// client speaks the administrative API of one daemon.
type client struct {
	host string
	http *http.Client
}

// clientFlags are what every administrative command takes.
type clientFlags struct {
	host   string
	format string
}

func (f *clientFlags) add(c *cobra.Command) {
	c.PersistentFlags().StringVarP(&f.host, "host", "H", "", "the daemon's socket, unix://PATH or tcp://ADDR:PORT (default $DOCKER_HOST, else "+defaultSocket+")")
	c.PersistentFlags().StringVar(&f.format, "format", "table", "table or json")
}

func (f *clientFlags) client() (*client, error) {
	if f.format != "table" && f.format != "json" {
		return nil, fmt.Errorf("--format %q: neither table nor json", f.format)
	}
	return newClient(cmp.Or(f.host, os.Getenv("DOCKER_HOST"), defaultSocket))
}

func newClient(host string) (*client, error) {
	if err := checkHost(host); err != nil {
		return nil, fmt.Errorf("daemon address %q: %w", host, err)
	}
	scheme, addr, _ := strings.Cut(host, "://")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, scheme, addr)
	}
	return &client{host: host, http: &http.Client{Transport: &http.Transport{DialContext: dial}}}, nil
}

// get asks for what is at a path below the prefix.
func (c *client) get(ctx context.Context, path string, out any) error {
	return c.do(ctx, http.MethodGet, path, nil, out)
}

// copy writes what is at a path below the prefix as it comes.
func (c *client) copy(ctx context.Context, path string, out io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://nereid"+nereid.AdminPrefix+path, nil)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("no daemon answers at %s: %w", c.host, err)
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusBadRequest {
		return refusal(res)
	}
	_, err = io.Copy(out, res.Body)
	return err
}

// do sends in, unless nil, and decodes the answer into out, unless nil. The daemon's own words are the error.
func (c *client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://nereid"+nereid.AdminPrefix+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("no daemon answers at %s: %w", c.host, err)
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusBadRequest {
		return refusal(res)
	}
	if out == nil || res.StatusCode == http.StatusNoContent {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(out)
}

func refusal(res *http.Response) error {
	raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	var said struct{ Message string }
	if json.Unmarshal(raw, &said) != nil || said.Message == "" {
		return fmt.Errorf("the daemon answers %s", res.Status)
	}
	return errors.New(said.Message)
}

// printJSON writes v as people and programs read it.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printTable writes rows below their headings.
func printTable(w io.Writer, headings string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(headings, ",", "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}
