// Command cnsserver serves the zones of a large fleet as the daemon does, and writes the largest of them as a zone file.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/cns/cnstest"
	"github.com/nereid-paas/nereid/cns/publish"
	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/server"
	"github.com/nereid-paas/nereid/cns/wire"
	"github.com/nereid-paas/nereid/cns/zone"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:5300", "where to answer")
	records := flag.Int("records", 14_000, "of all zones")
	file := flag.String("zone-file", "", "where the default zone goes")
	flag.Parse()
	if err := run(*listen, *records, *file); err != nil {
		log.Fatal(err)
	}
}

// fixed is a source of zones that do not change.
type fixed struct{ set *zone.Set }

func (f fixed) Zones() *zone.Set { return f.set }

func run(listen string, records int, file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	b, err := publish.NewBuilder(publish.Config{Host: "h1", DC: "dc1", Zone: "cns.internal"})
	if err != nil {
		return err
	}
	set, _ := b.Apply(cnstest.Large(records), 1)
	if err := write(set, b.Apex(), file); err != nil {
		return err
	}
	s := server.New(fixed{set}, server.Config{Listen: []string{listen}}, zap.NewNop())
	if err := s.Listen(ctx); err != nil {
		return err
	}
	return s.Run(ctx)
}

// write writes a zone as a zone file; each name is there as often as it has records.
func write(set *zone.Set, apex, file string) error {
	if file == "" {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	set.Each(apex, func(r record.Record) bool {
		_, err = fmt.Fprintln(w, strings.ReplaceAll(wire.RR(r, r.Name).String(), "\t", " "))
		return err == nil
	})
	if err == nil {
		err = w.Flush()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
