package bench

import (
	"encoding/json"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}, {[]float64{1, 2, 3, 100}, 2.5}} {
		if got := Median(test.values); got != test.want {
			t.Errorf("%v: %v, want %v", test.values, got, test.want)
		}
	}
}

// The bounds are those of tables of the sign test: 6 values have the 1st and the last, 10 the 2nd and the 9th, 20 the 6th and the 15th.
func TestMedianInterval_IsOfOrderStatistics(t *testing.T) {
	for n, low := range map[int]int{1: 1, 5: 1, 6: 1, 8: 1, 9: 2, 10: 2, 12: 3, 20: 6, 25: 8} {
		var values []float64
		for i := range n {
			values = append(values, float64(n-i))
		}
		if got, want := MedianInterval(values), (Interval{float64(low), float64(n + 1 - low)}); got != want {
			t.Errorf("%d values: %v, want %v", n, got, want)
		}
	}
}

func TestExponent(t *testing.T) {
	sizes := []float64{1, 10, 50, 200}
	for name, test := range map[string]struct {
		cost func(n float64) float64
		want float64
	}{
		"constant":               {func(float64) float64 { return 7 }, 0},
		"within five percent":    {func(n float64) float64 { return 100 + math.Mod(n, 7)/2 }, 0},
		"linear with a constant": {func(n float64) float64 { return 1000 + 30*n }, 1},
		"quadratic from one":     {func(n float64) float64 { return 5 + (n-1)*(n-1) }, 2},
	} {
		var costs []float64
		for _, n := range sizes {
			costs = append(costs, test.cost(n))
		}
		if got := Exponent(sizes, costs); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestComparison_EachIsFirstEquallyOften(t *testing.T) {
	c := new(Table).Compare("row", "ms", Peer{Name: "a"}, Peer{Name: "b"}, Peer{Name: "c"})
	c.Missing("b", "not installed")
	first := map[string]int{}
	for round := range 9 {
		order := c.Order(round)
		if slices.Contains(order, "b") || len(order) != 3 {
			t.Fatalf("round %d: %v", round, order)
		}
		first[order[0]]++
	}
	if first[LocalPort] != 3 || first["a"] != 3 || first["c"] != 3 {
		t.Errorf("first: %v", first)
	}
}

func newTestTable() *Table {
	t := &Table{}
	prompt := t.Compare("prompt", "µs", Peer{"direnv", AtMost(1. / 50)}, Peer{"mise", AtMost(0.5)}, Peer{"absent", AtMost(1)})
	prompt.Missing("absent", "absent is not installed")
	for i := range 10 {
		prompt.Add(LocalPort, float64(100+i))
		prompt.Add("direnv", 4000)
		prompt.Add("mise", 150)
	}
	bulk := t.Compare("bulk", "MB/s", Peer{"ssh", AtLeast(0.95)})
	for i := range 10 {
		bulk.Add(LocalPort, 90+float64(i))
		bulk.Add("ssh", 100)
	}
	t.Measure("switches", "a minute", AtMost(6)).Add(LocalPort, 4)
	t.Fail("Kubernetes")
	return t
}

// A goal is reached if the interval reaches it, also where the median does not.
func TestTable_Rows(t *testing.T) {
	rows := newTestTable().Rows()
	want := []struct {
		peer, goal string
		reached    string
	}{{"direnv", "≤ 1/50", "false"}, {"mise", "≤ 0.5", "false"}, {"absent", "≤ 1", "no"}, {"ssh", "≥ 0.95", "true"}, {"", "≤ 6", "true"}}
	if len(rows) != len(want) {
		t.Fatalf("%d rows: %+v", len(rows), rows)
	}
	for i, row := range rows {
		reached := "no"
		if row.Reached != nil {
			reached = map[bool]string{true: "true", false: "false"}[*row.Reached]
		}
		if row.Peer != want[i].peer || row.Goal != want[i].goal || reached != want[i].reached {
			t.Errorf("row %d: %+v, reached: %s", i, row, reached)
		}
	}
	if bulk := rows[3]; *bulk.Ratio != 0.945 || bulk.Spread != (Interval{0.91, 0.98}) || bulk.Rounds != 10 {
		t.Errorf("%+v", bulk)
	}
}

func TestTable_StringNamesWhatIsMissing(t *testing.T) {
	text := newTestTable().String()
	for _, pattern := range []string{
		`(?m)^prompt +direnv +104 +4000 +µs +0\.0261 +0\.0253 to 0\.027 +10 +≤ 1/50 +missed$`,
		`(?m)^prompt +absent +104 +missing +µs +- .* ≤ 1 +no peer$`,
		`(?m)^bulk .* yes$`,
		`(?m)^switches +- +4 +- +a minute +- +4 to 4 +1 +≤ 6 +yes$`,
		`2 goals reached, 2 missed`,
		`(?m)^absent is not measured: absent is not installed$`,
		`(?m)^Kubernetes failed: `,
	} {
		if !regexp.MustCompile(pattern).MatchString(text) {
			t.Errorf("%q does not match\n%s", pattern, text)
		}
	}
}

func TestReport_DescribesTheMachine(t *testing.T) {
	report := Start([]Program{{"git", []string{"--version"}, ""}, {"no-such-program", nil, "nobody has it"}})
	path, err := report.Write(t.TempDir(), "-test", newTestTable())
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Machine.Cores < 1 || got.Machine.Go == "" || got.Machine.Kernel == "" || len(got.Rows) != 5 || len(got.Failed) != 1 {
		t.Errorf("%s", data)
	}
	if !strings.HasPrefix(got.Versions["git"], "git version") || got.Versions["no-such-program"] != "missing: no-such-program is not installed; nobody has it" {
		t.Errorf("versions: %v", got.Versions)
	}
}
