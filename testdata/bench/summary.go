package bench

import (
	"math"
	"slices"
)

// Interval is a confidence interval.
type Interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Median returns the median of values; NaN if there are none.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// MedianInterval returns the interval that holds the median of what the values are samples of with a confidence of at least 95 %. It
// assumes no distribution: the bounds are order statistics, because the number of samples below the median is binomial. Fewer than six
// samples give no such interval; it is then the range of the values.
func MedianInterval(values []float64) Interval {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return Interval{math.NaN(), math.NaN()}
	}
	// The largest number of samples that can be dropped at each end.
	dropped := -1
	tail, probability := 0.0, math.Pow(0.5, float64(n)) // of exactly k samples below the median
	for k := range n {
		if tail += probability; tail > 0.025 {
			break
		}
		dropped = k
		probability *= float64(n-k) / float64(k+1)
	}
	dropped = max(dropped, 0)
	return Interval{sorted[dropped], sorted[n-1-dropped]}
}

// Exponent fits cost = c + a·size^exponent, where c is what the smallest size costs, by least squares of the logarithms. The sizes ascend.
// Costs that are within 5 % of the smallest size's are counted as equal to it: the exponent of costs that do not grow is 0.
func Exponent(sizes, costs []float64) float64 {
	var xs, ys []float64
	for i := 1; i < len(sizes); i++ {
		if growth := costs[i] - costs[0]; growth > 0.05*costs[0] {
			xs, ys = append(xs, math.Log(sizes[i]-sizes[0])), append(ys, math.Log(growth))
		}
	}
	if len(xs) < 2 {
		return 0
	}
	n := float64(len(xs))
	var sumX, sumY, sumXX, sumXY float64
	for i := range xs {
		sumX, sumY, sumXX, sumXY = sumX+xs[i], sumY+ys[i], sumXX+xs[i]*xs[i], sumXY+xs[i]*ys[i]
	}
	return (n*sumXY - sumX*sumY) / (n*sumXX - sumX*sumX)
}
