package expr

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"gotest.tools/v3/assert"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text, key, value string
		not, soft        bool
	}{
		{text: "storage==ssd", key: "storage", value: "ssd"},
		{text: "node!=h1", key: "node", value: "h1", not: true},
		{text: "a==~b", key: "a", value: "b", soft: true},
		{text: "a!=~b", key: "a", value: "b", not: true, soft: true},
		{text: "com.example/x-y_z.1==v", key: "com.example/x-y_z.1", value: "v"},
		{text: "a==b==c", key: "a", value: "b==c"},
		{text: "a==b c", key: "a", value: "b c"},
		{text: "a==~~b", key: "a", value: "~b", soft: true},
		{text: "a==registry:5000/x/y", key: "a", value: "registry:5000/x/y"},
	} {
		t.Run(c.text, func(t *testing.T) {
			e, err := Parse(c.text)
			assert.NilError(t, err)
			assert.Equal(t, e.Key, c.key)
			assert.Equal(t, e.Pattern.String(), c.value)
			assert.Equal(t, e.Not, c.not)
			assert.Equal(t, e.Soft, c.soft)
			assert.Equal(t, e.String(), c.text)
		})
	}
}

func TestPatternMatches(t *testing.T) {
	for _, c := range []struct {
		pattern  string
		yes, no  []string
		anything bool
	}{
		{pattern: "web", yes: []string{"web"}, no: []string{"", "Web", "web1", "aweb"}},
		{pattern: "web*", yes: []string{"web", "web1"}, no: []string{"aweb", "we"}},
		{pattern: "*web", yes: []string{"web", "aweb"}, no: []string{"web1"}},
		{pattern: "*", yes: []string{"", "x"}},
		{pattern: "**", yes: []string{"", "x"}},
		{pattern: "a*a", yes: []string{"aa", "aba"}, no: []string{"a"}},
		{pattern: "a*b*c", yes: []string{"abc", "aXbYc", "abbcc"}, no: []string{"acb", "ac"}},
		{pattern: "a?c", yes: []string{"a?c"}, no: []string{"abc"}},
		{pattern: "[ab]", yes: []string{"[ab]"}, no: []string{"a"}},
		{pattern: "/web/", yes: []string{"web", "aweb1"}, no: []string{"we"}},
		{pattern: "/^web$/", yes: []string{"web"}, no: []string{"web1"}},
		{pattern: "/a/b/", yes: []string{"a/b"}, no: []string{"ab"}},
	} {
		t.Run(c.pattern, func(t *testing.T) {
			p, err := newPattern(c.pattern)
			assert.NilError(t, err)
			for _, s := range c.yes {
				assert.Check(t, p.Match(s), "%q", s)
			}
			for _, s := range c.no {
				assert.Check(t, !p.Match(s), "%q", s)
			}
		})
	}
}

func TestExact(t *testing.T) {
	for value, want := range map[string]bool{"a": true, "a*": false, "/a/": false} {
		p, err := newPattern(value)
		assert.NilError(t, err)
		v, ok := p.Exact()
		assert.Equal(t, ok, want, value)
		assert.Check(t, !ok || v == value)
	}
}

// TestReadLeavesTheArgumentsAlone: the request's maps are the caller's.
func TestReadLeavesTheArgumentsAlone(t *testing.T) {
	labels, env := map[string]string{"a": "b"}, []string{"constraint:node==h1", "X=1", "affinity:image==redis"}
	ask, newLabels, newEnv, err := Read(labels, env)
	assert.NilError(t, err)
	assert.DeepEqual(t, labels, map[string]string{"a": "b"})
	assert.DeepEqual(t, env, []string{"constraint:node==h1", "X=1", "affinity:image==redis"})
	assert.DeepEqual(t, newEnv, []string{"X=1"})
	assert.DeepEqual(t, newLabels, map[string]string{"a": "b", LabelConstraints: `["node==h1"]`, LabelAffinities: `["image==redis"]`})
	assert.Equal(t, len(ask.Constraints)+len(ask.Affinities), 2)

	// Read again, as the host that is asked does, it says the same and moves nothing.
	again, sameLabels, sameEnv, err := Read(newLabels, newEnv)
	assert.NilError(t, err)
	assert.DeepEqual(t, sameLabels, newLabels)
	assert.DeepEqual(t, sameEnv, newEnv)
	assert.Equal(t, again.Constraints[0].String(), ask.Constraints[0].String())
}

func TestReadWithoutPlacementChangesNothing(t *testing.T) {
	ask, labels, env, err := Read(nil, []string{"A=1"})
	assert.NilError(t, err)
	assert.Check(t, labels == nil)
	assert.DeepEqual(t, env, []string{"A=1"})
	assert.DeepEqual(t, ask, Ask{})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a==b", "a!=~/x/", "==", "a=b", "node==/(?i)h/", "é==x", "a==é*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text)
		if err != nil {
			var at *Error
			assert.Assert(t, errors.As(err, &at))
			assert.Check(t, 0 <= at.Offset && at.Offset <= len(text), "offset %d of %q", at.Offset, text)
			assert.Check(t, e == nil)
			return
		}
		assert.Equal(t, e.String(), text)
		back, err := ParseList(FormatList([]*Expr{e}))
		assert.NilError(t, err)
		assert.Equal(t, len(back), 1)
		assert.Equal(t, back[0].String(), text)
	})
}

// FuzzGlob compares globs with the regular expressions they stand for.
func FuzzGlob(f *testing.F) {
	f.Add("a*b", "axxb")
	f.Add("*a*a*", "aa")
	f.Add("ab*ba", "aba")
	f.Fuzz(func(t *testing.T, glob, text string) {
		if glob == "" || glob[0] == '/' || !utf8.ValidString(glob) || !utf8.ValidString(text) {
			return
		}
		p, err := newPattern(glob)
		assert.NilError(t, err)
		re := regexp.MustCompile("^(?s:" + strings.ReplaceAll(regexp.QuoteMeta(glob), `\*`, ".*") + ")$")
		assert.Equal(t, p.Match(text), re.MatchString(text), "%q ~ %q", text, glob)
	})
}

func FuzzParseList(f *testing.F) {
	f.Add(`["a==b"]`)
	f.Add(`["a==b",]`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, label string) {
		list, err := ParseList(label)
		if err != nil {
			assert.Check(t, list == nil)
			assert.Check(t, strings.Contains(err.Error(), "position"), "%v", err)
		}
	})
}
