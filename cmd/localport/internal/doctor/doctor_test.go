package doctor

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestRun_ReportsACheckThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		checks := []check{
			{"quick", false, func(context.Context, *Subject) []Finding { return ok("well") }},
			{"hangs", false, func(context.Context, *Subject) []Finding { <-end; return nil }},
			{"honours", false, func(ctx context.Context, _ *Subject) []Finding { <-ctx.Done(); return fail("no answer", "wait") }},
			{"project", true, func(context.Context, *Subject) []Finding { return ok("never") }},
		}
		startTime := time.Now()
		found := runChecks(t.Context(), &Subject{}, checks, 3*time.Second)
		if took := time.Since(startTime); took > 4*time.Second {
			t.Errorf("took %v", took)
		}
		if len(found) != 3 || found[0] != (Finding{"quick", OK, "well", ""}) || found[1].ID != "hangs" || found[1].Status != Warn ||
			found[1].Text != "took longer than 3s" || found[2].Status != Fail {
			t.Errorf("got %+v", found)
		}
		close(end)
		synctest.Wait()
	})
}

func TestWorst_IsTheWorstResult(t *testing.T) {
	for _, tt := range []struct {
		found []Finding
		want  Status
	}{{nil, OK}, {[]Finding{{Status: Skip}}, Skip}, {[]Finding{{Status: Fail}, {Status: Warn}}, Fail}, {[]Finding{{Status: OK}, {Status: Warn}}, Warn}} {
		if got := Worst(tt.found); got != tt.want {
			t.Errorf("%+v: %s", tt.found, got)
		}
	}
}
