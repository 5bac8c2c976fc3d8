package session

import (
	"slices"
	"testing"
)

// A credential belongs to the profile that the login helper was run with, and to no other setting.
func TestRegistry_RunsTheLoginHelperForEachProfile(t *testing.T) {
	s := startServer(t, "one", "two")
	src := s.source(t, execUser, `printf '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "%s"}}' "$AWS_PROFILE"`+"\n")
	env := src.Env
	for _, tt := range []struct {
		variables []string
		wantRuns  int
	}{
		{[]string{"AWS_PROFILE=one"}, 1},
		{[]string{"AWS_PROFILE=one", "TERM=other"}, 1},
		{[]string{"AWS_PROFILE=two"}, 2},
		{[]string{"AWS_PROFILE=one"}, 2},
	} {
		src.Env = append(slices.Clone(env), tt.variables...)
		if f := getObject(t, src); f != nil {
			t.Errorf("%q: %+v", tt.variables, f)
		}
		if n := countHelperRuns(t, src); n != tt.wantRuns {
			t.Errorf("%q: the helper has run %d times, want %d", tt.variables, n, tt.wantRuns)
		}
	}
}
