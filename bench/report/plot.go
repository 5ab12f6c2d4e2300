package report

import (
	_ "embed"
	"fmt"
	"html"
	"math"
	"strings"
)

// Sizes in pixels of the plot, which is as wide as a page of text and scales.
const (
	width                        = 820
	panelHeight                  = 400
	left, right                  = 74, 28
	top, bottom                  = 84, 58 // a title and a legend above, an axis below
	plotWidth                    = width - left - right
	plotHeight                   = panelHeight - top - bottom
	legendEvery                  = 250
	radius                       = 3.5
	marksPerAxis                 = 6 // about
	series                       = 5 // how many curves have colours of their own
	percentileP50, percentileP99 = "p50", "p99"
)

// plotCSS has the colours, for light and dark pages.
//
//go:embed plot.css
var plotCSS string

// Plot draws latency over throughput as SVG, one panel for each unit: p99 solid, p50 dashed, and the span between them
// shaded. Latency is logarithmic. The colours follow the reader's light or dark scheme.
func Plot(curves []Curve) []byte {
	var units []string
	byUnit := make(map[string][]Curve)
	for _, c := range curves {
		if len(byUnit[c.Unit]) == 0 {
			units = append(units, c.Unit)
		}
		byUnit[c.Unit] = append(byUnit[c.Unit], c)
	}
	p := &plotter{}
	height := max(1, len(units)) * panelHeight
	p.f(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="Latency over throughput">`, width, height)
	p.f("<style>\n%s</style>", plotCSS)
	p.f(`<rect class="page" width="%d" height="%d"/>`, width, height)
	for i, unit := range units {
		p.f(`<g transform="translate(0 %d)">`, i*panelHeight)
		p.panel(unit, byUnit[unit])
		p.f("</g>")
	}
	p.f("</svg>")
	return []byte(p.String())
}

// plotter writes lines of SVG.
type plotter struct{ strings.Builder }

func (p *plotter) f(format string, a ...any) { fmt.Fprintf(p, format+"\n", a...) }

func (p *plotter) text(x, y float64, anchor, class, words string) {
	p.f(`<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>`, x, y, anchor, class, html.EscapeString(words))
}

func (p *plotter) rule(class string, x1, y1, x2, y2 float64) {
	p.f(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>`, x1, y1, x2, y2, class)
}

func (p *plotter) panel(unit string, curves []Curve) {
	s := scalesOf(curves)
	p.text(left, 30, "start", "title", "Latency over "+unit)
	p.axes(s, unit)
	for i, c := range curves {
		class := fmt.Sprintf("c%d", i%series)
		p.f(`<g class="%s">`, class)
		p.curve(s, c)
		x, y := float64(left+i*legendEvery), 54.0
		p.f(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="p99"/>`, x, y-4, x+22, y-4)
		p.text(x+28, y, "start", "name", c.Name)
		p.f("</g>")
	}
	p.text(width-right, 30, "end", "axis", "solid: p99, dashed: p50")
}

func (p *plotter) axes(s scales, unit string) {
	for decade := s.minLog; decade <= s.maxLog; decade++ {
		for _, step := range []float64{1, 2, 5} {
			ms := step * math.Pow(10, decade)
			if step > 1 && decade == s.maxLog {
				break
			}
			class := "grid"
			if step > 1 {
				class = "faint"
			}
			p.rule(class, left, s.y(ms), left+plotWidth, s.y(ms))
			if step == 1 || s.maxLog-s.minLog <= 3 {
				p.text(left-10, s.y(ms)+4, "end", "axis", latencyMark(ms))
			}
		}
	}
	for rate := 0.0; rate <= s.maxRate*1.0001; rate += s.step {
		p.rule("faint", s.x(rate), top, s.x(rate), top+plotHeight)
		p.text(s.x(rate), top+plotHeight+20, "middle", "axis", plain(rate))
	}
	p.rule("edge", left, top+plotHeight, left+plotWidth, top+plotHeight)
	p.text(left+plotWidth/2, panelHeight-14, "middle", "axis", unit)
}

// curve draws one curve: the span between its percentiles, the two lines, and a mark with a tip at each point.
func (p *plotter) curve(s scales, c Curve) {
	if len(c.Points) == 0 {
		return
	}
	var p50, p99, back strings.Builder
	for i, pt := range c.Points {
		command := "L"
		if i == 0 {
			command = "M"
		}
		fmt.Fprintf(&p99, "%s%.1f %.1f ", command, s.x(pt.Rate), s.y(pt.Latency.P99))
		fmt.Fprintf(&p50, "%s%.1f %.1f ", command, s.x(pt.Rate), s.y(pt.Latency.P50))
		last := c.Points[len(c.Points)-1-i]
		fmt.Fprintf(&back, "%.1f,%.1f ", s.x(last.Rate), s.y(last.Latency.P50))
	}
	var span strings.Builder
	for _, pt := range c.Points {
		fmt.Fprintf(&span, "%.1f,%.1f ", s.x(pt.Rate), s.y(pt.Latency.P99))
	}
	p.f(`<polygon class="span" points="%s"/>`, strings.TrimSpace(span.String()+back.String()))
	p.f(`<path class="%s" d="%s"/>`, percentileP50, strings.TrimSpace(p50.String()))
	p.f(`<path class="%s" d="%s"/>`, percentileP99, strings.TrimSpace(p99.String()))
	for _, pt := range c.Points {
		p.f(`<circle class="dot" cx="%.1f" cy="%.1f" r="%.1f"><title>%s: %s %s, p50 %s ms, p99 %s ms</title></circle>`, s.x(pt.Rate),
			s.y(pt.Latency.P99), radius, html.EscapeString(c.Name), number(pt.Rate), html.EscapeString(c.Unit), number(pt.Latency.P50),
			number(pt.Latency.P99))
	}
}

// scales map figures to places.
type scales struct{ maxRate, step, minLog, maxLog float64 }

func (s scales) x(rate float64) float64 { return left + plotWidth*finite(rate/s.maxRate) }

func (s scales) y(ms float64) float64 {
	return top + plotHeight*(1-finite((math.Log10(max(ms, leastMs))-s.minLog)/(s.maxLog-s.minLog)))
}

// leastMs is the shortest latency that is drawn.
const leastMs = 0.001

func scalesOf(curves []Curve) scales {
	low, high, rate := math.Inf(1), math.Inf(-1), 0.0
	for _, c := range curves {
		for _, p := range c.Points {
			rate = max(rate, p.Rate)
			low, high = min(low, max(p.Latency.P50, leastMs)), max(high, p.Latency.P99, leastMs)
		}
	}
	if rate == 0 {
		return scales{maxRate: 1, step: 1, maxLog: 1}
	}
	s := scales{step: round(rate / marksPerAxis), minLog: math.Floor(math.Log10(low)), maxLog: math.Ceil(math.Log10(high))}
	s.maxRate = s.step * math.Ceil(rate*1.01/s.step)
	s.maxLog = max(s.maxLog, s.minLog+1)
	return s
}

// round returns the next higher of 1, 2, 2.5 and 5 times a power of ten: steps that read well.
func round(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 2.5, 5} {
		if v <= m*power {
			return m * power
		}
	}
	return 10 * power
}

// latencyMark writes a latency of an axis.
func latencyMark(ms float64) string {
	if ms >= 1000 {
		return plain(ms/1000) + " s"
	}
	return plain(ms) + " ms"
}

// plain writes a figure of an axis.
func plain(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%g M", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%g k", v/1e3)
	default:
		return fmt.Sprintf("%g", v)
	}
}
