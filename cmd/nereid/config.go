package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v2"
)

// readConfig sets the flags that a file names and the command line does not. It returns every problem at once.
func readConfig(flags *pflag.FlagSet, path string) error {
	if path == "" {
		return nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var values map[string]any
	if err := yaml.Unmarshal(raw, &values); err != nil {
		return fmt.Errorf("--config %s: %w", path, err)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(values)) {
		f := flags.Lookup(name)
		if f == nil || name == "config" || name == "help" {
			errs = append(errs, fmt.Errorf("--config %s: there is no flag --%s", path, name))
			continue
		}
		if f.Changed {
			continue
		}
		if err := setFlag(flags, name, values[name]); err != nil {
			errs = append(errs, fmt.Errorf("--config %s: %s: %w", path, name, err))
		}
	}
	return errors.Join(errs...)
}

// setFlag sets a flag to a value, or to each of a list.
func setFlag(flags *pflag.FlagSet, name string, value any) error {
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	for _, v := range list {
		switch v.(type) {
		case string, bool, int, float64:
		default:
			return fmt.Errorf("%v is neither text, number nor true or false", v)
		}
		if err := flags.Set(name, fmt.Sprint(v)); err != nil {
			return err
		}
	}
	return nil
}
