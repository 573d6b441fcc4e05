//go:build bench

package bench

import (
	"encoding/csv"
	"encoding/xml"
	"fmt"
	"html"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// curve is a plot of one or more series over the same points.
type curve struct {
	file   string // in docs/plots, without ending
	title  string
	x, y   string   // what the axes show, with units
	series []string // names
	log    bool     // x grows by factors: 10, 100, 1,000
	points []point
}

type point struct {
	x float64
	y []float64 // of each series; NaN: not measured
}

func (c *curve) add(x float64, y ...float64) { c.points = append(c.points, point{x, y}) }

// keep writes the data and the picture beside it.
func (c *curve) keep(t *testing.T) {
	t.Helper()
	dir := filepath.Join("..", "..", "docs", "plots")
	assert.NilError(t, os.MkdirAll(dir, 0o755))
	var data strings.Builder
	w := csv.NewWriter(&data)
	assert.NilError(t, w.Write(append([]string{c.x}, c.series...)))
	for _, p := range c.points {
		line := []string{strconv.FormatFloat(p.x, 'f', -1, 64)}
		for _, y := range p.y {
			cell := "" // not measured
			if !math.IsNaN(y) {
				cell = strconv.FormatFloat(y, 'f', 3, 64)
			}
			line = append(line, cell)
		}
		assert.NilError(t, w.Write(line))
	}
	w.Flush()
	assert.NilError(t, w.Error())
	assert.NilError(t, os.WriteFile(filepath.Join(dir, c.file+".csv"), []byte(data.String()), 0o644))
	assert.NilError(t, os.WriteFile(filepath.Join(dir, c.file+".svg"), []byte(c.svg()), 0o644))
	t.Logf("%s\n%s", c.file, data.String())
}

// The picture's measures, in pixels: a frame around the plot has the axes' texts.
const (
	plotWidth, plotHeight   = 640, 360
	left, right, top, below = 80, 40, 40, 60
)

// plotStyle reads on light and on dark pages: the picture has no background of its own.
const plotStyle = `text{font:13px sans-serif;fill:#24292f}.title{font-weight:bold}.grid{stroke:#8886;fill:none}` +
	`.s0{stroke:#0969da}.s1{stroke:#bc4c00}.s2{stroke:#1a7f37}polyline{fill:none;stroke-width:2}circle{stroke-width:2;fill:none}` +
	`@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s0{stroke:#58a6ff}.s1{stroke:#f0883e}.s2{stroke:#3fb950}}`

func (c *curve) svg() string {
	var b strings.Builder
	put := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	text := func(x, y float64, attrs, s string) {
		put(`<text x="%.1f" y="%.1f" %s>%s</text>`, x, y, attrs, html.EscapeString(s))
	}
	const w, h = plotWidth - left - right, plotHeight - top - below
	high := c.highest()
	step := niceStep(high / 5)
	high = math.Ceil(high/step) * step
	atX := func(x float64) float64 { return left + w*c.place(x) }
	atY := func(y float64) float64 { return top + h*(1-y/high) }
	put(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`, plotWidth, plotHeight, plotWidth, plotHeight)
	put(`<title>%s</title><style>%s</style>`, html.EscapeString(c.title), plotStyle)
	text(left, 20, `class="title"`, c.title)
	for y := 0.0; y <= high+step/2; y += step {
		put(`<path class="grid" d="M%d %.1fh%d"/>`, left, atY(y), w)
		text(left-8, atY(y)+4, `text-anchor="end"`, tick(y))
	}
	for _, p := range c.points {
		put(`<path class="grid" d="M%.1f %dv%d"/>`, atX(p.x), top, h)
		text(atX(p.x), top+h+20, `text-anchor="middle"`, tick(p.x))
	}
	text(left+w/2, plotHeight-12, `text-anchor="middle"`, c.x)
	text(0, 0, fmt.Sprintf(`text-anchor="middle" transform="translate(14 %d) rotate(-90)"`, top+h/2), c.y)
	for s, name := range c.series {
		var line []string
		for _, p := range c.points {
			if y := p.y[s]; !math.IsNaN(y) {
				line = append(line, fmt.Sprintf("%.1f,%.1f", atX(p.x), atY(y)))
				put(`<circle class="s%d" cx="%.1f" cy="%.1f" r="3"/>`, s, atX(p.x), atY(y))
			}
		}
		put(`<polyline class="s%d" points="%s"/>`, s, strings.Join(line, " "))
		if len(c.series) > 1 {
			y := float64(top + 16 + 18*s)
			put(`<path class="s%d" stroke-width="2" d="M%d %.1fh20"/>`, s, left+12, y-4)
			text(left+38, y, "", name)
		}
	}
	put(`</svg>`)
	return b.String()
}

func (c *curve) highest() float64 {
	high := 0.0
	for _, p := range c.points {
		for _, y := range p.y {
			if !math.IsNaN(y) {
				high = max(high, y)
			}
		}
	}
	if high == 0 {
		return 1
	}
	return high
}

// place is where a point lies between the first and the last, from 0 to 1.
func (c *curve) place(x float64) float64 {
	scale := func(x float64) float64 { return x }
	if c.log {
		scale = math.Log10
	}
	from, to := scale(c.points[0].x), scale(c.points[len(c.points)-1].x)
	if from == to {
		return 0.5
	}
	return (scale(x) - from) / (to - from)
}

// niceStep is the next of 1, 2 and 5 times a power of ten.
func niceStep(least float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(least)))
	for _, f := range []float64{1, 2, 5} {
		if f*power >= least {
			return f * power
		}
	}
	return 10 * power
}

// tick writes a number of an axis: 10000 as 10,000.
func tick(f float64) string {
	s := strconv.FormatFloat(math.Round(f*1e6)/1e6, 'f', -1, 64)
	whole, rest, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		return whole + "." + rest
	}
	return whole
}

// TestPlotIsAPicture: what is drawn is well-formed, has both axes' titles, and leaves out what was not measured.
func TestPlotIsAPicture(t *testing.T) {
	c := &curve{title: "a < b", x: "records", y: "time, ms", series: []string{"one", "two"}, log: true}
	c.add(1_000, 0.5, 2)
	c.add(100_000, 1.25, 7)
	c.add(1_000_000, 3, math.NaN())
	svg := c.svg()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		_, err := d.Token()
		if err == io.EOF {
			break
		}
		assert.NilError(t, err, svg)
	}
	for _, want := range []string{">a &lt; b<", ">records<", ">time, ms<", ">1,000,000<", ">two<"} {
		assert.Assert(t, strings.Contains(svg, want), "%s is not in %s", want, svg)
	}
	assert.Equal(t, strings.Count(svg, "<circle"), 5)
	assert.Assert(t, !strings.Contains(svg, "NaN"), svg)
	if to := os.Getenv("PLOT"); to != "" { // to look at
		assert.NilError(t, os.WriteFile(to, []byte(svg), 0o644))
	}
}
