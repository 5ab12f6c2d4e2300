package report

import (
	"fmt"
	"html"
	"math"
	"strings"
)

const (
	width, height                = 760, 420
	left, right, top, bottom     = 70, 20, 40, 60
	plotWidth, plotHeight        = width - left - right, height - top - bottom
	gap                          = 40 // between two plots
	marksPerAxis                 = 5
	fontSize                     = 12
	percentileP50, percentileP99 = "p50", "p99"
)

// colours tell curves apart for most eyes (Okabe and Ito, "Color universal design", 2008).
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"}

// Plot draws latency (logarithmic, p50 dashed and p99 solid) over throughput as SVG, one plot for each unit.
func Plot(curves []Curve) []byte {
	var units []string
	byUnit := make(map[string][]Curve)
	for _, c := range curves {
		if len(byUnit[c.Unit]) == 0 {
			units = append(units, c.Unit)
		}
		byUnit[c.Unit] = append(byUnit[c.Unit], c)
	}
	var b strings.Builder
	total := len(units)*(height+gap) - gap
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="%d">`+"\n", width, total, fontSize)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, total)
	for i, unit := range units {
		fmt.Fprintf(&b, `<g transform="translate(0 %d)">`+"\n", i*(height+gap))
		plot(&b, unit, byUnit[unit])
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// scales map figures to places.
type scales struct{ maxRate, minLog, maxLog float64 }

func (s scales) x(rate float64) float64 { return left + plotWidth*finite(rate/s.maxRate) }

func (s scales) y(ms float64) float64 {
	return top + plotHeight*(1-finite((math.Log10(max(ms, 0.001))-s.minLog)/(s.maxLog-s.minLog)))
}

func scalesOf(curves []Curve) scales {
	low, high, rate := math.Inf(1), math.Inf(-1), 0.0
	for _, c := range curves {
		for _, p := range c.Points {
			rate = max(rate, p.Rate)
			low, high = min(low, max(p.Latency.P50, 0.001)), max(high, p.Latency.P99, 0.001)
		}
	}
	if rate == 0 {
		return scales{maxRate: 1, maxLog: 1}
	}
	s := scales{maxRate: rate * 1.05, minLog: math.Floor(math.Log10(low)), maxLog: math.Ceil(math.Log10(high))}
	if s.maxLog <= s.minLog {
		s.maxLog = s.minLog + 1
	}
	return s
}

func plot(b *strings.Builder, unit string, curves []Curve) {
	s := scalesOf(curves)
	text := func(x, y float64, anchor, colour, words string) {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, colour, html.EscapeString(words))
	}
	rule := func(x1, y1, x2, y2 float64) {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ddd"/>`+"\n", x1, y1, x2, y2)
	}
	for decade := s.minLog; decade <= s.maxLog; decade++ {
		ms := math.Pow(10, decade)
		rule(left, s.y(ms), left+plotWidth, s.y(ms))
		text(left-8, s.y(ms)+fontSize/3, "end", "#333", number(ms)+" ms")
	}
	for i := range marksPerAxis + 1 {
		rate := s.maxRate * float64(i) / marksPerAxis
		rule(s.x(rate), top, s.x(rate), top+plotHeight)
		text(s.x(rate), top+plotHeight+18, "middle", "#333", number(rate))
	}
	text(left+plotWidth/2, height-14, "middle", "#333", unit)
	text(left, 20, "start", "#333", "latency (solid: p99, dashed: p50)")
	for i, c := range curves {
		colour := colours[i%len(colours)]
		for _, percentile := range []string{percentileP50, percentileP99} {
			trace(b, s, c, percentile, colour)
		}
		text(left+plotWidth-4, float64(top+16+i*16), "end", colour, c.Name)
	}
}

func trace(b *strings.Builder, s scales, c Curve, percentile, colour string) {
	var path strings.Builder
	for i, p := range c.Points {
		ms, command := p.Latency.P99, "L"
		if percentile == percentileP50 {
			ms = p.Latency.P50
		}
		if i == 0 {
			command = "M"
		}
		fmt.Fprintf(&path, "%s%.1f %.1f ", command, s.x(p.Rate), s.y(ms))
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s, %s: %s %s at %s ms</title></circle>`+"\n",
			s.x(p.Rate), s.y(ms), colour, html.EscapeString(c.Name), percentile, number(p.Rate), html.EscapeString(c.Unit), number(ms))
	}
	dash := ""
	if percentile == percentileP50 {
		dash = ` stroke-dasharray="5 4"`
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", strings.TrimSpace(path.String()), colour, dash)
}
