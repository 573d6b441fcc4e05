package expr

import (
	"errors"
	"regexp"
	"strings"
)

// Pattern is the right side of an expression. It is immutable and may be used at once.
type Pattern struct {
	text string
	re   *regexp.Regexp // of /…/
	glob []string       // the texts between the stars of a glob, in order; at least two
}

// newPattern reads /regular expression/ (RE2, matched anywhere in the text unless anchored), a glob (a * stands for any
// text, empty too) or a plain text.
func newPattern(value string) (Pattern, error) {
	if !strings.HasPrefix(value, "/") {
		p := Pattern{text: value}
		if strings.Contains(value, "*") {
			p.glob = strings.Split(value, "*")
		}
		return p, nil
	}
	body, ok := strings.CutSuffix(value[1:], "/")
	switch {
	case !ok:
		return Pattern{}, errors.New("a regular expression begins here and does not end with /")
	case body == "":
		return Pattern{}, errors.New("the regular expression is empty")
	}
	re, err := regexp.Compile(body)
	if err != nil {
		return Pattern{}, err
	}
	return Pattern{text: value, re: re}, nil
}

// String is the pattern as it was written.
func (p Pattern) String() string { return p.text }

// Exact is the only text that matches, if there is one such.
func (p Pattern) Exact() (string, bool) { return p.text, p.re == nil && p.glob == nil }

// Match tells whether a text matches. Letters' case counts.
func (p Pattern) Match(s string) bool {
	switch {
	case p.re != nil:
		return p.re.MatchString(s)
	case p.glob != nil:
		return matchGlob(p.glob, s)
	}
	return p.text == s
}

// matchGlob looks for the first part at the beginning, the last at the end, and the others in between, each as early as
// can be: what stands earliest leaves the most room for the rest.
func matchGlob(parts []string, s string) bool {
	first, last := parts[0], parts[len(parts)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return true
}
