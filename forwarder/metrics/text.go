package metrics

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/forwarder/api"
)

// The kinds of metric.
const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

// page is written in Prometheus's text format 0.0.4, whose rules are at
// https://prometheus.io/docs/instrumenting/exposition_formats/.
type page struct {
	bytes.Buffer
	name string // of the family being written
}

// labels are written in this order; values may be any text.
type labels []label

type label struct{ name, value string }

// with is l and one more.
func (l labels) with(name, value string) labels { return append(slices.Clip(l), label{name, value}) }

// family begins a metric. Its samples follow, before any other family's. The help is plain text on one line.
func (p *page) family(kind, name, help string) {
	p.name = "localport_" + name
	p.line("# HELP ", p.name, " ", help)
	p.line("# TYPE ", p.name, " ", kind)
}

func (p *page) sample(l labels, value float64) { p.suffixed("", l, value) }

func (p *page) suffixed(suffix string, l labels, value float64) {
	p.line(p.name, suffix, l.String(), " ", number(value))
}

// distribution writes a histogram: what the text format counts in a bucket is all that is no longer.
func (p *page) distribution(l labels, h *api.Histogram) {
	var total uint64
	for i, n := range h.Counts {
		total += n
		bound := "+Inf"
		if i < len(h.Bounds) {
			bound = number(h.Bounds[i])
		}
		p.suffixed("_bucket", l.with("le", bound), float64(total))
	}
	p.suffixed("_sum", l, h.Sum)
	p.suffixed("_count", l, float64(total))
}

func (p *page) line(parts ...string) {
	for _, part := range parts {
		p.WriteString(part)
	}
	p.WriteByte('\n')
}

func (l labels) String() string {
	var b strings.Builder
	for i, one := range l {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(one.name + `="` + escape.Replace(strings.ToValidUTF8(one.value, "\uFFFD")) + `"`)
	}
	b.WriteByte('}')
	return b.String()
}

// escape is all that a label's value needs; everything else may stand as it is.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
