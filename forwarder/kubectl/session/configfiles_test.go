package session

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/daemon"
)

// kubeconfigPath returns the path of the kubeconfig that tokenServer.source has written.
func kubeconfigPath(src Source) string { return filepath.Join(src.Dir, "config") }

func replaceInFile(t *testing.T, path, old, replacement string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), old) {
		t.Fatalf("%s does not hold %q", path, old)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(data), old, replacement)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConfigFiles_DescribeAnotherSession(t *testing.T) {
	s := startServer(t, "good", "better")
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, src Source)
		want   bool
	}{
		{"nothing", func(*testing.T, Source) {}, false},
		{"token", func(t *testing.T, src Source) { replaceInFile(t, kubeconfigPath(src), "token: good", "token: better") }, true},
		{"server", func(t *testing.T, src Source) { replaceInFile(t, kubeconfigPath(src), "https://", "https://moved.") }, true},
		{"another context", func(t *testing.T, src Source) {
			replaceInFile(t, kubeconfigPath(src), "current-context: test", "current-context: other")
		}, false},
		{"truncated", func(t *testing.T, src Source) { writeFile(t, kubeconfigPath(src), "{") }, false},
		{"removed", func(t *testing.T, src Source) {
			if err := os.Remove(kubeconfigPath(src)); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := s.source(t, "{token: good}", "")
			files := src.ReadFiles()
			tt.change(t, src)
			if got := files.DescribeAnother(); got != tt.want {
				t.Errorf("DescribeAnother is %t, want %t", got, tt.want)
			}
			failure, _ := errors.AsType[*forwarder.Failure](files.ReconsiderError(&forwarder.Failure{Class: forwarder.NeedsUser, Reason: "unauthorized"}))
			if isTransient := failure.Class == forwarder.Transient; isTransient != tt.want || failure.AwaitChange == nil {
				t.Errorf("the failure is now %+v", failure)
			}
		})
	}
}

// Files that the kubeconfig names are part of the session: they are rewritten in place.
func TestConfigFiles_IncludeThoseThatTheKubeconfigNames(t *testing.T) {
	s := startServer(t, "good")
	dir := t.TempDir()
	token := writeFile(t, filepath.Join(dir, "token"), "bad")
	src := s.source(t, "{tokenFile: "+token+"}", "")
	if f := getObject(t, src); f == nil || f.Class != forwarder.NeedsUser {
		t.Fatalf("with a token that is not valid: %+v", f)
	}
	files := src.ReadFiles()
	writeFile(t, token, "good")
	if !files.AwaitChange(t.Context()) || !files.DescribeAnother() {
		t.Error("the new token was not seen")
	}
	if f := getObject(t, src); f != nil {
		t.Errorf("with the new token: %+v", f)
	}
}

// A file that is missing is waited for.
func TestConfigFiles_AwaitAMissingKubeconfig(t *testing.T) {
	s := startServer(t, "good")
	src := s.source(t, "{token: good}", "")
	path := kubeconfigPath(src)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	files := src.ReadFiles()
	if f := getObject(t, src); f == nil || f.Class == forwarder.Transient {
		t.Fatalf("without a kubeconfig: %+v", f)
	}
	changedCh := make(chan bool)
	go func() { changedCh <- files.AwaitChange(t.Context()) }()
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if !<-changedCh {
		t.Error("AwaitChange ended without a change")
	}
	if f := getObject(t, src); f != nil {
		t.Errorf("with the kubeconfig: %+v", f)
	}
}

// A failure names the file that has gone, at a new login and while a session runs.
func TestSession_NamesTheFileThatHasGone(t *testing.T) {
	s := startServer(t, "good")
	for _, kind := range []string{"token", "client certificate", "client key", "certificate authority"} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			paths := map[string]string{}
			for _, kind := range []string{"token", "client certificate", "client key", "certificate authority"} {
				paths[kind] = writeFile(t, filepath.Join(dir, strings.ReplaceAll(kind, " ", "-")), "good")
			}
			pair := daemon.IssueCertificate(t, t.TempDir())
			paths["client certificate"], paths["client key"] = pair.CertFile, pair.KeyFile
			writeFile(t, paths["certificate authority"], string(certificatePEM(s.Server)))
			src := s.source(t, fmt.Sprintf("{tokenFile: %s, client-certificate: %s, client-key: %s}", paths["token"], paths["client certificate"], paths["client key"]), "")
			replaceInFile(t, kubeconfigPath(src), "certificate-authority-data: "+base64.StdEncoding.EncodeToString(certificatePEM(s.Server)), "certificate-authority: "+paths["certificate authority"])
			session, release, err := testRegistry.Open(src)
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			if err := os.Remove(paths[kind]); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("the kubeconfig's %s file, %s, cannot be read: no such file or directory", kind, paths[kind])
			running := session.ClassifyError(&StatusError{Code: http.StatusUnauthorized, Reason: "Unauthorized", Message: "You must be logged in to the server"}, src.ResourceRef)
			for when, f := range map[string]*forwarder.Failure{"running": running, "cluster": session.Report(src.ResourceRef).Failure, "opening": getObject(t, src)} {
				if f == nil || f.Class != forwarder.NeedsUser || !strings.Contains(f.Reason, want) || !strings.Contains(f.Hint, "restore the file") {
					t.Errorf("%s: %+v", when, f)
				}
			}
		})
	}
}

func TestSession_SaysThatTheKubeconfigHasGone(t *testing.T) {
	s := startServer(t)
	src := s.source(t, "{token: good}", "")
	session, release, err := testRegistry.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	refused := &StatusError{Code: http.StatusUnauthorized}
	if f := session.ClassifyError(refused, src.ResourceRef); strings.Contains(f.Reason, "kubeconfig") {
		t.Errorf("while it exists: %+v", f)
	}
	if err := os.Remove(kubeconfigPath(src)); err != nil {
		t.Fatal(err)
	}
	f := session.ClassifyError(refused, src.ResourceRef)
	if !strings.Contains(f.Reason, "the kubeconfig, "+kubeconfigPath(src)+", does not exist") {
		t.Errorf("got %+v", f)
	}
	if again := session.ClassifyError(f, src.ResourceRef); strings.Count(again.Reason, "does not exist") != 1 {
		t.Errorf("when it is classified once more: %+v", again)
	}
}
