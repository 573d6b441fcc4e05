package expr

import (
	"fmt"
	"maps"
	"strings"
)

// The labels by which a user places a container. The first two are classic Swarm's.
const (
	LabelConstraints = "com.docker.swarm.constraints"
	LabelAffinities  = "com.docker.swarm.affinities"
	LabelStrategy    = "nereid.strategy"
	LabelSpread      = "nereid.spread"
)

// Ask is what a user says of where a container is to run.
type Ask struct {
	Constraints, Affinities []*Expr
	Strategy                string // spread, binpack, random; empty: not said
	Spread                  string // host, rack; empty: not said
}

// form is one of the two kinds of expressions, with the two ways to write it.
type form struct{ label, env string }

var (
	constraintForm = form{LabelConstraints, "constraint:"}
	affinityForm   = form{LabelAffinities, "affinity:"}
)

// Read finds what is said of placement in a container's labels and, as classic Swarm took it, its environment
// (-e constraint:KEY==VALUE). It returns both as the container is to have them: an expression of the environment is one
// for the scheduler and not for the container, and moves to the labels. Neither argument is changed. An error says
// which of them is wrong, and where.
func Read(labels map[string]string, env []string) (Ask, map[string]string, []string, error) {
	var a Ask
	var err error
	if a.Constraints, labels, env, err = constraintForm.read(labels, env); err != nil {
		return Ask{}, nil, nil, err
	}
	if a.Affinities, labels, env, err = affinityForm.read(labels, env); err != nil {
		return Ask{}, nil, nil, err
	}
	if a.Strategy, err = oneOf(labels, LabelStrategy, "spread", "binpack", "random"); err != nil {
		return Ask{}, nil, nil, err
	}
	a.Spread, err = oneOf(labels, LabelSpread, "host", "rack")
	return a, labels, env, err
}

func (f form) read(labels map[string]string, env []string) ([]*Expr, map[string]string, []string, error) {
	var list []*Expr
	if text, ok := labels[f.label]; ok {
		var err error
		if list, err = ParseList(text); err != nil {
			return nil, nil, nil, fmt.Errorf("invalid label %s: %w", f.label, err)
		}
	}
	labelled := len(list)
	var rest []string
	for _, variable := range env {
		text, ok := strings.CutPrefix(variable, f.env)
		if !ok {
			rest = append(rest, variable)
			continue
		}
		e, err := Parse(text)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("invalid %s %w", strings.TrimSuffix(f.env, ":"), err)
		}
		list = append(list, e)
	}
	if len(list) == labelled {
		return list, labels, env, nil
	}
	if labels = maps.Clone(labels); labels == nil {
		labels = map[string]string{}
	}
	labels[f.label] = FormatList(list)
	return list, labels, rest, nil
}

func oneOf(labels map[string]string, key string, values ...string) (string, error) {
	got, ok := labels[key]
	if !ok {
		return "", nil
	}
	for _, v := range values {
		if got == v {
			return v, nil
		}
	}
	return "", fmt.Errorf("invalid label %s: %q is none of %s", key, got, strings.Join(values, ", "))
}
