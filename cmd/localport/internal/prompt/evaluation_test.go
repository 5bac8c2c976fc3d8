package prompt

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
)

// A prompt may find a project not allowed at the moment at which another shell runs "allow": the line that its shell stores is older than that,
// so that the next prompt evaluates again.
func TestEvaluation_StoresALineOlderThanAnAllowMeanwhile(t *testing.T) {
	for _, name := range []string{"new", "denied"} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range []string{"STATE", "DATA"} {
				t.Setenv("XDG_"+kind+"_HOME", t.TempDir())
			}
			t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
			root := t.TempDir()
			config := filepath.Join(root, ".localport.toml")
			if err := os.WriteFile(config, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			p, err := client.Open(config, nil, "", "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err = p.Dir.Stamp(root); err != nil {
				t.Fatal(err)
			}
			if name == "denied" {
				_, files, err := p.AskTrust()
				if err == nil {
					err = p.Store.Deny(files)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			other := &lockstate.Dir{Path: p.Dir.Path, Config: config}
			bumpLine := func() {
				if _, err := other.Update(t.Context(), func(tx *lockstate.Tx) error { tx.Bump(); return nil }); err != nil {
					t.Fatal(err)
				}
			}
			bumpLine()
			before := p.Dir.PromptLine()
			hasTaken := false // the lock, for the first time, after the trust store was asked
			p.Dir.BeforeCall = func(call lockstate.Call, _ string) error {
				if call == lockstate.CallLock && !hasTaken {
					hasTaken = true
					bumpLine()
				}
				return nil
			}
			e := &evaluation{args: hookArgs{pid: os.Getpid(), root: root}, err: io.Discard, root: root}
			_ = e.evaluateProject(t.Context(), p)
			if p.Dir.PromptLine() == before {
				t.Fatal("the line was not changed")
			}
			if e.line != before {
				t.Errorf("it stores %q, the line before was %q, and it is %q", e.line, before, p.Dir.PromptLine())
			}
		})
	}
}
