// Package expr reads the expressions by which users place containers: KEY==VALUE and KEY!=VALUE, hard or, with ~, soft,
// where the value is a text, a glob or a /regular expression/. The syntax is classic Swarm's.
package expr

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Expr is one expression. It is immutable and may be used at once.
type Expr struct {
	Key     string
	Not     bool // != instead of ==
	Soft    bool // a wish: hosts that meet it are preferred
	Pattern Pattern
	text    string
}

// String is the expression as it was written.
func (e *Expr) String() string { return e.text }

// Error tells what is wrong with an expression, and where.
type Error struct {
	Text   string
	Offset int // in bytes, from 0
	Reason string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%q: at position %d: %s", e.Text, e.Offset+1, e.Reason)
}

// Parse reads one expression. Its error is an *Error.
func Parse(text string) (*Expr, error) {
	fail := func(at int, format string, args ...any) (*Expr, error) {
		return nil, &Error{Text: text, Offset: at, Reason: fmt.Sprintf(format, args...)}
	}
	if !utf8.ValidString(text) {
		return fail(0, "not UTF-8")
	}
	n := keyLength(text)
	if n == 0 {
		return fail(0, "a key is missing: letters, digits, '_', '-', '.' and '/', a letter or '_' first")
	}
	e := &Expr{Key: text[:n], text: text}
	rest := text[n:]
	switch {
	case strings.HasPrefix(rest, "=="):
	case strings.HasPrefix(rest, "!="):
		e.Not = true
	default:
		return fail(n, "expected == or !=")
	}
	value := rest[len("=="):]
	if soft, ok := strings.CutPrefix(value, "~"); ok {
		e.Soft, value = true, soft
	}
	at := len(text) - len(value)
	if value == "" {
		return fail(at, "a value is missing")
	}
	p, err := newPattern(value)
	if err != nil {
		return fail(at, "%s", err)
	}
	e.Pattern = p
	return e, nil
}

// keyLength is the length of the key that a text begins with.
func keyLength(text string) int {
	for i := range len(text) {
		c := text[i]
		letter := c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z'
		other := c == '-' || c == '.' || c == '/' || '0' <= c && c <= '9'
		if !letter && (!other || i == 0) {
			return i
		}
	}
	return len(text)
}

// ParseList reads a label's value: a JSON list of expressions. Its error says which of them is wrong, and where.
func ParseList(label string) ([]*Expr, error) {
	var texts []string
	if err := json.Unmarshal([]byte(label), &texts); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, &Error{Text: label, Offset: max(int(syntax.Offset)-1, 0), Reason: `not a JSON list of texts such as ["key==value"]: ` + syntax.Error()}
		}
		return nil, &Error{Text: label, Reason: `not a JSON list of texts such as ["key==value"]`}
	}
	list := make([]*Expr, 0, len(texts))
	for i, t := range texts {
		e, err := Parse(t)
		if err != nil {
			return nil, fmt.Errorf("item %d: %w", i+1, err)
		}
		list = append(list, e)
	}
	return list, nil
}

// FormatList is the label's value that ParseList reads back.
func FormatList(list []*Expr) string {
	texts := make([]string, len(list))
	for i, e := range list {
		texts[i] = e.text
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(texts) // texts always encode, and a Builder takes them
	return strings.TrimSuffix(b.String(), "\n")
}
