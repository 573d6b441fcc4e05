package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/trace"
)

func daemonCommand() *cobra.Command {
	var o options
	var configFile string
	c := &cobra.Command{
		Use:   "daemon",
		Short: "Run this host's daemon",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := readConfig(c.Flags(), configFile); err != nil {
				return err
			}
			o.cnsAsked, o.peerAsked = c.Flags().Changed("cns-listen"), c.Flags().Changed("peer-listen")
			if len(o.hosts) == 0 {
				o.hosts = []string{"unix://" + filepath.Join(o.execRoot, "docker.sock")}
			}
			if err := o.validate(); err != nil {
				return err
			}
			return runDaemon(c.Context(), o)
		},
	}
	o.flags(c.Flags())
	c.Flags().StringVar(&configFile, "config", "", "YAML file of these flags: name: value; what the command line says counts more")
	return c
}

// runDaemon runs until the context ends or a part fails.
func runDaemon(ctx context.Context, o options) error {
	log, err := newLogger(o.debug)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }()
	release, err := takeRoots(o)
	if err != nil {
		return err
	}
	defer release()
	stop, err := startTrace(o.trace)
	if err != nil {
		return err
	}
	defer stop()
	d, err := build(ctx, o, log)
	if err != nil {
		return err
	}
	defer d.close()
	return d.run(ctx)
}

// startTrace has the spans of all requests written to a file until stop is called.
func startTrace(path string) (stop func(), err error) {
	switch path {
	case "":
		return func() {}, nil
	case "-":
		return trace.To(os.Stderr), nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--trace: %w", err)
	}
	end := trace.To(f)
	return func() {
		end()
		f.Close()
	}, nil
}

func newLogger(debug bool) (*zap.Logger, error) {
	cfg := zap.NewProductionConfig()
	cfg.Encoding = "console"
	cfg.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	cfg.EncoderConfig.EncodeLevel = zapcore.CapitalLevelEncoder
	cfg.DisableCaller = !debug
	cfg.DisableStacktrace = true
	if debug {
		cfg.Level.SetLevel(zap.DebugLevel)
	}
	return cfg.Build()
}

// takeRoots makes both roots and holds them against a second daemon until released: what two would write would be
// nobody's.
func takeRoots(o options) (release func(), err error) {
	for _, dir := range []string{o.dataRoot, o.execRoot} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(o.execRoot, "nereid.pid")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	data, err := os.Open(o.dataRoot)
	if err != nil {
		f.Close()
		return nil, err
	}
	for _, l := range []*os.File{f, data} {
		if err := unix.Flock(int(l.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			data.Close()
			return nil, fmt.Errorf("another daemon uses %s: %w", l.Name(), err)
		}
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			f.Close()
			data.Close()
			return nil, err
		}
	}
	return func() {
		_ = os.Remove(path)
		f.Close()
		data.Close()
	}, nil
}
