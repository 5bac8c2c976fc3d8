package top

import (
	"fmt"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
)

// maxSamples is how many seconds of traffic are kept: as many as the widest sparkline shows.
const maxSamples = 60

// traffic is the recent traffic of a service. It is replaced, never changed, so that a Model can be copied.
type traffic struct {
	at        time.Time // of the last sample
	in, out   uint64    // the counters then
	inPerSec  float64
	outPerSec float64
	samples   []float64 // bytes per second in both directions, oldest first
}

// withSample returns the traffic after another reading of the counters. The first one, and the first after they were reset by a new supervisor, only
// starts the measurement.
func (t *traffic) withSample(now time.Time, stats api.ConnectionStats) *traffic {
	next := &traffic{at: now, in: stats.BytesIn, out: stats.BytesOut}
	if t == nil {
		return next
	}
	next.samples = t.samples
	seconds := now.Sub(t.at).Seconds()
	if seconds <= 0 || stats.BytesIn < t.in || stats.BytesOut < t.out {
		return next
	}
	next.inPerSec = float64(stats.BytesIn-t.in) / seconds
	next.outPerSec = float64(stats.BytesOut-t.out) / seconds
	kept := t.samples[max(0, len(t.samples)-maxSamples+1):]
	next.samples = append(append(make([]float64, 0, len(kept)+1), kept...), next.inPerSec+next.outPerSec)
	return next
}

func (t *traffic) perSecond() float64 {
	if t == nil {
		return 0
	}
	return t.inPerSec + t.outPerSec
}

var bars = []rune(" ▁▂▃▄▅▆▇█")

// sparkline draws the last samples in width columns, the newest at the right. The highest of them is as high as the line; anything above zero can be
// seen.
func (t *traffic) sparkline(width int) string {
	line := make([]rune, width)
	for i := range line {
		line[i] = ' '
	}
	if t == nil {
		return string(line)
	}
	samples := t.samples[max(0, len(t.samples)-width):]
	highest := 0.0
	for _, sample := range samples {
		highest = max(highest, sample)
	}
	for i, sample := range samples {
		if sample > 0 {
			line[width-len(samples)+i] = bars[1+int(sample/highest*float64(len(bars)-2)+0.5)]
		}
	}
	return string(line)
}

// formatRate returns bytes per second in at most six columns: "0", "999", "1.2k", "34.5M".
func formatRate(bytesPerSec float64) string {
	if bytesPerSec < 999.5 {
		return fmt.Sprintf("%.0f", bytesPerSec)
	}
	for _, unit := range "kMGTP" {
		bytesPerSec /= 1000
		switch {
		case bytesPerSec < 99.95:
			return fmt.Sprintf("%.1f%c", bytesPerSec, unit)
		case bytesPerSec < 999.5:
			return fmt.Sprintf("%.0f%c", bytesPerSec, unit)
		}
	}
	return "999P+"
}
