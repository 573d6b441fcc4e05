package logs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"text/template"
	"time"
)

// Info is what a container's log attributes are made of. Its exported names are those that a tag template may use.
type Info struct {
	ContainerID         string
	ContainerName       string
	ContainerEntrypoint string
	ContainerArgs       []string
	ContainerImageID    string
	ContainerImageName  string
	ContainerCreated    time.Time
	ContainerEnv        []string
	ContainerLabels     map[string]string
	LogPath             string
	DaemonName          string
	Config              map[string]string // the options of the log; filled when the log is opened
}

// ID is the short id, for templates.
func (i Info) ID() string { return short(i.ContainerID) }

// FullID is the id, for templates.
func (i Info) FullID() string { return i.ContainerID }

// Name is the container's name, for templates.
func (i Info) Name() string { return strings.TrimPrefix(i.ContainerName, "/") }

// ImageID is the short id of the image, for templates.
func (i Info) ImageID() string { return short(i.ContainerImageID) }

// ImageFullID is the id of the image, for templates.
func (i Info) ImageFullID() string { return i.ContainerImageID }

// ImageName is the name of the image, for templates.
func (i Info) ImageName() string { return i.ContainerImageName }

// Command is what the container runs, for templates.
func (i Info) Command() string {
	return strings.Join(append([]string{i.ContainerEntrypoint}, i.ContainerArgs...), " ")
}

// Hostname is this host's name, for templates.
func (i Info) Hostname() (string, error) { return os.Hostname() }

func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}

// attributes gives the JSON object that every record carries; nil when there is nothing in it.
func attributes(info Info, opts map[string]string) ([]byte, error) {
	info.Config = opts
	attrs, err := extraAttributes(info, opts)
	if err != nil {
		return nil, err
	}
	tag, err := renderTag(info, opts["tag"])
	if err != nil {
		return nil, err
	}
	if tag != "" {
		attrs["tag"] = tag
	}
	if len(attrs) == 0 {
		return nil, nil
	}
	return json.Marshal(attrs)
}

// extraAttributes are the labels and variables that the options choose. The map is the caller's.
func extraAttributes(info Info, opts map[string]string) (map[string]string, error) {
	attrs := map[string]string{}
	if err := pick(attrs, info.ContainerLabels, opts["labels"], opts["labels-regex"]); err != nil {
		return nil, err
	}
	return attrs, pick(attrs, environment(info.ContainerEnv), opts["env"], opts["env-regex"])
}

// pick copies the values whose names are in a comma-separated list or match a regular expression.
func pick(to, from map[string]string, names, expr string) error {
	for _, name := range strings.Split(names, ",") {
		if v, ok := from[name]; ok {
			to[name] = v
		}
	}
	if expr == "" {
		return nil
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return err
	}
	for name, v := range from {
		if re.MatchString(name) {
			to[name] = v
		}
	}
	return nil
}

func environment(env []string) map[string]string {
	m := make(map[string]string, len(env))
	for _, e := range env {
		if name, v, ok := strings.Cut(e, "="); ok {
			m[name] = v
		}
	}
	return m
}

// templateFuncs are the functions that Docker's tag templates know.
var templateFuncs = template.FuncMap{
	"json": func(v any) string {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return ""
		}
		return strings.TrimSpace(b.String())
	},
	"split":    strings.Split,
	"join":     strings.Join,
	"title":    strings.Title, //nolint:staticcheck // Docker's templates have this very behaviour
	"lower":    strings.ToLower,
	"upper":    strings.ToUpper,
	"pad":      pad,
	"truncate": truncate,
}

// maxTag is the longest tag, in bytes. Those of syslog have 32 and less; what a template makes is in memory as a whole, and
// every user of the daemon pays for one that fills it.
const maxTag = 64 << 10

var errLongTag = fmt.Errorf("the tag is longer than %d bytes", maxTag)

func pad(s string, before, after int) (string, error) {
	if s == "" {
		return s, nil
	}
	if before > maxTag || after > maxTag {
		return "", errLongTag
	}
	return strings.Repeat(" ", before) + s + strings.Repeat(" ", after), nil
}

func truncate(s string, n int) string {
	if n < len(s) {
		return s[:n]
	}
	return s
}

func renderTag(info Info, tag string) (string, error) {
	if tag == "" {
		return "", nil
	}
	t, err := template.New("log-tag").Funcs(templateFuncs).Parse(tag)
	if err != nil {
		return "", err
	}
	var b tagBuffer
	if err := t.Execute(&b, &info); err != nil {
		return "", err
	}
	return b.text.String(), nil
}

// tagBuffer takes no more than a tag.
type tagBuffer struct{ text strings.Builder }

func (b *tagBuffer) Write(p []byte) (int, error) {
	if b.text.Len()+len(p) > maxTag {
		return 0, errLongTag
	}
	return b.text.Write(p)
}
