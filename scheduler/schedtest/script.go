// Package schedtest runs scenarios of placement that are written down as transcripts: what is asked of a fleet, and
// what comes of it.
package schedtest

import (
	"fmt"
	"strings"
)

// A transcript is a list of blocks with an empty line between them:
//
//	# What the block is about.
//	host h1 memory=8GiB cpus=4 label=storage=ssd
//	run --name db -e constraint:storage==ssd mysql
//	----
//	db: h1
//
// The lines before ---- are commands, those after it what they say.
type block struct {
	lines    []string // commands, and comments between them
	commands int
	output   string
}

// parse reads a transcript.
func parse(text string) []block {
	var blocks []block
	var b block
	inOutput := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "":
			if inOutput || len(b.lines) > 0 && b.commands == 0 {
				blocks = append(blocks, b)
				b, inOutput = block{}, false
			}
		case inOutput:
			b.output += line + "\n"
		case line == "----":
			inOutput = true
		default:
			b.lines = append(b.lines, line)
			if !isComment(line) {
				b.commands++
			}
		}
	}
	if len(b.lines) > 0 {
		blocks = append(blocks, b)
	}
	return blocks
}

func isComment(line string) bool { return strings.HasPrefix(line, "#") }

// format writes a transcript.
func format(blocks []block) string {
	var out strings.Builder
	for i, b := range blocks {
		if i > 0 {
			out.WriteString("\n")
		}
		for _, line := range b.lines {
			out.WriteString(line + "\n")
		}
		if b.commands > 0 {
			out.WriteString("----\n" + b.output)
		}
	}
	return out.String()
}

// Run runs a transcript and returns it with what its commands say now.
func Run(text string) string {
	blocks := parse(text)
	f := newFleet()
	for i := range blocks {
		var out strings.Builder
		for _, c := range blocks[i].lines {
			if isComment(c) {
				continue
			}
			words, err := split(c)
			if err == nil {
				err = f.do(words, &out)
			}
			if err != nil {
				fmt.Fprintf(&out, "error: %s\n", err)
			}
		}
		if out.Len() == 0 && blocks[i].commands > 0 {
			out.WriteString("ok\n")
		}
		blocks[i].output = out.String()
	}
	return format(blocks)
}

// split takes a line apart as a shell does, with single quotes only.
func split(line string) ([]string, error) {
	var words []string
	var w strings.Builder
	quoted, begun := false, false
	for _, r := range line {
		switch {
		case r == '\'':
			quoted, begun = !quoted, true
		case r == ' ' && !quoted:
			if begun {
				words = append(words, w.String())
			}
			w.Reset()
			begun = false
		default:
			w.WriteRune(r)
			begun = true
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if begun {
		words = append(words, w.String())
	}
	return words, nil
}
