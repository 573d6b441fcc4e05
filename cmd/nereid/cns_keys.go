package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

func keyList(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "ls ZONE", Short: "List a zone's keys, with the DS records that the parent zone must have", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var keys []nereid.CNSKey
			return f.show(c, zonePath(args[0])+"/keys", &keys, func(w io.Writer) error { return printKeys(w, keys) })
		},
	}
}

func printKeys(w io.Writer, keys []nereid.CNSKey) error {
	var rows [][]string
	for _, k := range keys {
		rows = append(rows, []string{fmt.Sprint(k.Tag), k.Created.Format(time.RFC3339), k.DS})
	}
	return printTable(w, "TAG,CREATED,DS", rows)
}

func keyAdd(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "add ZONE", Short: "Add a key that signs beside those there are: the first half of replacing one", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			var k nereid.CNSKey
			if err := cl.do(c.Context(), http.MethodPost, zonePath(args[0])+"/keys", nil, &k); err != nil {
				return err
			}
			if f.format == "json" {
				return printJSON(c.OutOrStdout(), k)
			}
			return printKeys(c.OutOrStdout(), []nereid.CNSKey{k})
		},
	}
}

func keyRemove(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "rm ZONE TAG", Short: "Remove a key, once the parent zone has the DS record of another for as long as its TTL", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return f.tell(c, http.MethodDelete, zonePath(args[0])+"/keys/"+url.PathEscape(args[1]), nil)
		},
	}
}

func tsigList(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the keys, without their secrets", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var keys []nereid.CNSTSIG
			return f.show(c, "/cns/tsig", &keys, func(w io.Writer) error {
				var rows [][]string
				for _, k := range keys {
					rows = append(rows, []string{bare(k.Name), k.Algorithm, k.Created.Format(time.RFC3339)})
				}
				return printTable(w, "NAME,ALGORITHM,CREATED", rows)
			})
		},
	}
}

func tsigAdd(f *clientFlags) *cobra.Command {
	var k nereid.CNSTSIG
	var secret bool
	c := &cobra.Command{
		Use: "add NAME", Short: "Make a key and print it as BIND has it in its configuration", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := f.client()
			if err != nil {
				return err
			}
			if secret {
				b, err := io.ReadAll(io.LimitReader(c.InOrStdin(), 1<<12))
				if err != nil {
					return err
				}
				k.Secret = strings.TrimSpace(string(b))
			}
			var made nereid.CNSTSIG
			if err := cl.do(c.Context(), http.MethodPost, "/cns/tsig/"+url.PathEscape(args[0]), k, &made); err != nil {
				return err
			}
			if f.format == "json" {
				return printJSON(c.OutOrStdout(), made)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "key %q {\n\talgorithm %s;\n\tsecret %q;\n};\n", bare(made.Name), made.Algorithm, made.Secret)
			return err
		},
	}
	c.Flags().StringVar(&k.Algorithm, "algorithm", "hmac-sha256", "hmac-sha1, hmac-sha224, hmac-sha256, hmac-sha384 or hmac-sha512")
	c.Flags().BoolVar(&secret, "secret-stdin", false, "take the secret, in base64, from the standard input instead of making one")
	return c
}

func tsigRemove(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Short: "Remove a key that no zone uses", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return f.tell(c, http.MethodDelete, "/cns/tsig/"+url.PathEscape(args[0]), nil)
		},
	}
}
