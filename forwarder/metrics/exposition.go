package metrics

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/forwarder/api"
)

// Metric types of the text format.
const (
	typeCounter   = "counter"
	typeGauge     = "gauge"
	typeHistogram = "histogram"
)

// exposition builds a document in Prometheus's text format 0.0.4:
// https://prometheus.io/docs/instrumenting/exposition_formats/.
type exposition struct {
	bytes.Buffer
	familyName string // the family that samples are added to
}

// labels are the labels of a sample, in the order in which they are written. A value may be any text.
type labels []label

type label struct{ name, value string }

// with returns l with one more label.
func (l labels) with(name, value string) labels { return append(slices.Clip(l), label{name, value}) }

// startFamily writes the header of a metric. All its samples must follow before the next family. The help is one line of text.
func (e *exposition) startFamily(metricType, name, help string) {
	e.familyName = "localport_" + name
	e.writeLine("# HELP ", e.familyName, " ", help)
	e.writeLine("# TYPE ", e.familyName, " ", metricType)
}

func (e *exposition) writeSample(l labels, value float64) { e.writeSuffixedSample("", l, value) }

func (e *exposition) writeSuffixedSample(suffix string, l labels, value float64) {
	e.writeLine(e.familyName, suffix, l.String(), " ", formatFloat(value))
}

// writeHistogram writes a histogram. Buckets are cumulative in the text format.
func (e *exposition) writeHistogram(l labels, h *api.Histogram) {
	var total uint64
	for i, n := range h.Counts {
		total += n
		bound := "+Inf"
		if i < len(h.Bounds) {
			bound = formatFloat(h.Bounds[i])
		}
		e.writeSuffixedSample("_bucket", l.with("le", bound), float64(total))
	}
	e.writeSuffixedSample("_sum", l, h.Sum)
	e.writeSuffixedSample("_count", l, float64(total))
}

func (e *exposition) writeLine(parts ...string) {
	for _, part := range parts {
		e.WriteString(part)
	}
	e.WriteByte('\n')
}

func (l labels) String() string {
	var b strings.Builder
	for i, label := range l {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(label.name + `="` + labelEscaper.Replace(strings.ToValidUTF8(label.value, "\uFFFD")) + `"`)
	}
	b.WriteByte('}')
	return b.String()
}

// labelEscaper escapes what the text format requires in a label's value.
var labelEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func formatFloat(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
