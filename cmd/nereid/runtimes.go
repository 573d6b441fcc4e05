package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// runtimeName is what may stand for a runtime in a directory's name and in a request.
var runtimeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*$`)

// stockRuntimes are always there and mean runc.
var stockRuntimes = []string{"runc", "io.containerd.runc.v2"}

func (o *options) checkRuntimes() error {
	var errs []error
	known := map[string]bool{}
	for _, name := range stockRuntimes {
		known[name] = true
	}
	for _, r := range o.runtimes {
		name, path, ok := strings.Cut(r, "=")
		switch {
		case !ok || !runtimeName.MatchString(name) || path == "":
			errs = append(errs, fmt.Errorf("--add-runtime %q: not name=path", r))
		case known[name]:
			errs = append(errs, fmt.Errorf("--add-runtime %q: the name %q is taken", r, name))
		}
		known[name] = true
	}
	if !known[o.defaultRuntime] {
		errs = append(errs, fmt.Errorf("--default-runtime %q: no such runtime", o.defaultRuntime))
	}
	return errors.Join(append(errs, o.checkSpecDirs())...)
}

func (o *options) checkSpecDirs() error {
	for _, d := range o.cdiSpecDirs {
		if d != "" && !filepath.IsAbs(d) {
			return fmt.Errorf("--cdi-spec-dir %q: not an absolute path", d)
		}
	}
	return nil
}

// addedRuntimes are the paths by name.
func (o *options) addedRuntimes() map[string]string {
	m := map[string]string{}
	for _, r := range o.runtimes {
		name, path, _ := strings.Cut(r, "=")
		m[name] = path
	}
	return m
}

// specDirs are the directories of CDI specifications; none when one of them is empty.
func (o *options) specDirs() []string {
	for _, d := range o.cdiSpecDirs {
		if d == "" {
			return nil
		}
	}
	return o.cdiSpecDirs
}
