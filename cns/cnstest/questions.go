// Package cnstest holds a fleet whose names tests ask for, and the questions with their answers.
package cnstest

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

// questions are the cases: a line "# RULE" with its source, a line "NAME TYPE OPTION…", and the answer, each line after
// "> ": the code and flags, then records in zone-file form, below ";; AUTHORITY" and ";; ADDITIONAL" those of these
// sections. What signatures and keys end with differs from run to run and is left out. Options: do (signatures are
// wanted), noedns, udp or tcp (this transport only), any other class.
//
//go:embed questions.txt
var questions string

// Case is a question with its answer.
type Case struct {
	Line    int // in questions.txt
	Rule    string
	Name    string
	Type    string
	Options []string
	Want    string // see Canonical
}

// Has tells whether a case has an option.
func (c Case) Has(option string) bool { return slices.Contains(c.Options, option) }

// String names the case.
func (c Case) String() string {
	return strings.Join(append([]string{fmt.Sprintf("%d: %s %s", c.Line, c.Name, c.Type)}, c.Options...), " ")
}

// Cases reads questions.txt.
func Cases() ([]Case, error) {
	var all []Case
	var c Case
	var want []string
	flush := func() {
		if c.Name != "" {
			c.Want = Canonical(want)
			all = append(all, c)
		}
		c, want = Case{Rule: c.Rule}, nil
	}
	for i, line := range strings.Split(questions, "\n") {
		switch {
		case strings.HasPrefix(line, "> "):
			want = append(want, line[2:])
		case strings.HasPrefix(line, "# "):
			flush()
			c.Rule = line[2:]
		case line != "":
			flush()
			words := strings.Fields(line)
			if len(words) < 2 || c.Rule == "" {
				return nil, fmt.Errorf("questions.txt:%d: %q is no question under a rule", i+1, line)
			}
			c.Line, c.Name, c.Type, c.Options = i+1, words[0], words[1], words[2:]
		}
	}
	flush()
	return all, nil
}

// Is tells whether an answer, in canonical form, is the one wanted. A question with upper-case letters may have them in
// other names of its answer, too: those lead into it (RFC 1035, section 4.1.4; RFC 4343, section 4.2).
func (c Case) Is(got string) bool {
	return got == c.Want || c.Name != strings.ToLower(c.Name) && strings.EqualFold(got, c.Want)
}

// Canonical orders the records of each section of an answer, and leaves out what differs from run to run. What a cut
// answer holds counts for nothing (RFC 2181, section 9).
func Canonical(lines []string) string {
	if len(lines) > 0 && strings.HasSuffix(lines[0], " tc") {
		return lines[0]
	}
	var out, section []string
	flush := func() {
		slices.Sort(section)
		out, section = append(out, section...), nil
	}
	for _, line := range lines {
		if len(out) == 0 || strings.HasPrefix(line, ";;") {
			flush()
			out = append(out, line)
			continue
		}
		section = append(section, record(line))
	}
	flush()
	return strings.Join(out, "\n")
}

// record is a record without what follows the part that is always the same.
func record(line string) string {
	words := strings.Fields(line)
	keep := len(words)
	if len(words) > 4 {
		switch words[3] {
		case "RRSIG": // type covered, algorithm, labels, TTL
			keep = 8
		case "DNSKEY", "CDNSKEY": // flags, protocol, algorithm
			keep = 7
		case "CDS":
			keep = 4
		}
	}
	return strings.Join(words[:min(keep, len(words))], " ")
}
