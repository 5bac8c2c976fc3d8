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
	typeCounter   = "counter"
	typeGauge     = "gauge"
	typeHistogram = "histogram"
)

// exposition is written in Prometheus's text format 0.0.4, whose rules are at
// https://prometheus.io/docs/instrumenting/exposition_formats/.
type exposition struct {
	bytes.Buffer
	familyName string // of the family being written
}

// labels are written in this order; values may be any text.
type labels []label

type label struct{ name, value string }

// with is l and one more.
func (l labels) with(name, value string) labels { return append(slices.Clip(l), label{name, value}) }

// startFamily begins a metric. Its samples follow, before any other family's. The help is plain text on one line.
func (p *exposition) startFamily(metricType, name, help string) {
	p.familyName = "localport_" + name
	p.writeLine("# HELP ", p.familyName, " ", help)
	p.writeLine("# TYPE ", p.familyName, " ", metricType)
}

func (p *exposition) writeSample(l labels, value float64) { p.writeSuffixedSample("", l, value) }

func (p *exposition) writeSuffixedSample(suffix string, l labels, value float64) {
	p.writeLine(p.familyName, suffix, l.String(), " ", formatFloat(value))
}

// writeHistogram writes a histogram: what the text format counts in a bucket is all that is no longer.
func (p *exposition) writeHistogram(l labels, h *api.Histogram) {
	var total uint64
	for i, n := range h.Counts {
		total += n
		bound := "+Inf"
		if i < len(h.Bounds) {
			bound = formatFloat(h.Bounds[i])
		}
		p.writeSuffixedSample("_bucket", l.with("le", bound), float64(total))
	}
	p.writeSuffixedSample("_sum", l, h.Sum)
	p.writeSuffixedSample("_count", l, float64(total))
}

func (p *exposition) writeLine(parts ...string) {
	for _, part := range parts {
		p.WriteString(part)
	}
	p.WriteByte('\n')
}

func (l labels) String() string {
	var b strings.Builder
	for i, one := range l {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(one.name + `="` + labelEscaper.Replace(strings.ToValidUTF8(one.value, "\uFFFD")) + `"`)
	}
	b.WriteByte('}')
	return b.String()
}

// labelEscaper is all that a label's value needs; everything else may stand as it is.
var labelEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func formatFloat(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
