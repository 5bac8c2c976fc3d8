package paste_test

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/paste"
)

// quoteWord quotes a word for a POSIX shell.
func quoteWord(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

func quoteWords(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quoteWord(word)
	}
	return strings.Join(quoted, " ")
}

// mustParse parses arguments, or the same as one text, and returns the config that they become.
func mustParse(t *rapid.T, words []string, asText bool) *project.Project {
	args := words
	if asText {
		args = []string{quoteWords(words)}
	}
	result, err := paste.Parse(args, paste.Options{})
	if err != nil {
		t.Fatalf("%q: %v", words, err)
	}
	parsed, err := parseConfig(result)
	if err != nil {
		t.Fatalf("%q\n%s\n%v", words, render(result), err)
	}
	return parsed
}

func TestParse_KeepsWhatKubectlIsTold(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z]([-a-z0-9]{0,20}[a-z0-9])?`).Draw(t, "name")
		namespace := rapid.StringMatching(`[a-z]([-a-z0-9]{0,8}[a-z0-9])?`).Draw(t, "namespace")
		contextName := rapid.StringMatching(`[a-zA-Z$@:/_.\\"'é][a-zA-Z0-9$@:/_.\\"'é -]{0,20}`).Draw(t, "context")
		kind := rapid.SampledFrom([]string{"service", "pod", "deployment", "statefulset", "replicaset", "daemonset", "job"}).Draw(t, "kind")
		local, remote := rapid.IntRange(1024, 65535).Draw(t, "local"), rapid.IntRange(1, 65535).Draw(t, "remote")
		words := rapid.SampledFrom([][]string{
			{"kubectl", "port-forward", "-n", namespace, kind + "/" + name, fmt.Sprintf("%d:%d", local, remote), "--context", contextName},
			{"oc", "--namespace=" + namespace, "--context=" + contextName, "port-forward", kind, name, fmt.Sprintf("%d:%d", local, remote)},
			{"-n" + namespace, kind + "s/" + name, "--context", contextName, fmt.Sprintf("%d:%d", local, remote)},
		}).Draw(t, "words")
		svc := mustParse(t, words, rapid.Bool().Draw(t, "as text")).Services[0]
		settings := svc.Connection.Settings
		got := []string{settings.Text("resource_type"), settings.Text("resource_name"), settings.Text("namespace"), settings.Text("context"), svc.RemotePort, strconv.Itoa(svc.LocalPort)}
		want := []string{kind, name, namespace, contextName, strconv.Itoa(remote), strconv.Itoa(local)}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%q: got %q, want %q", words, got, want)
		}
	})
}

func TestParse_KeepsWhatSSHIsTold(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		host := rapid.StringMatching(`[a-zA-Z0-9][-a-zA-Z0-9.]{0,20}[a-zA-Z]`).Draw(t, "host")
		target := rapid.SampledFrom([]string{"10.0.0.5", "db.internal", "[2001:db8::1]", "localhost"}).Draw(t, "target")
		user := rapid.StringMatching(`[a-z_$][a-z0-9_$-]{0,8}`).Draw(t, "user")
		keyFile := "/" + rapid.StringMatching(`[a-zA-Z0-9 $'"\\]{1,10}`).Draw(t, "key file")
		local, remote, port := rapid.IntRange(1024, 65535).Draw(t, "local"), rapid.IntRange(1, 65535).Draw(t, "remote"), rapid.IntRange(1, 65535).Draw(t, "port")
		forward := fmt.Sprintf("%d:%s:%d", local, target, remote)
		words := rapid.SampledFrom([][]string{
			{"ssh", "-N", "-L", forward, "-p", strconv.Itoa(port), "-i", keyFile, user + "@" + host},
			{"autossh", "-M", "0", "-fNL" + forward, "-l", user, host, "-oPort=" + strconv.Itoa(port), "-o", "IdentityFile = " + keyFile},
			{"ssh", "-i", keyFile, "ssh://" + strings.ReplaceAll(user, "$", "%24") + "@" + host + ":" + strconv.Itoa(port), "-NL", forward},
		}).Draw(t, "words")
		if strings.TrimSpace(keyFile) != keyFile || strings.ContainsAny(keyFile, `"`) || strings.ContainsAny(words[2], "%") {
			t.Skip("ssh's own quoting")
		}
		svc := mustParse(t, words, rapid.Bool().Draw(t, "as text")).Services[0]
		settings := svc.Connection.Settings
		got := []string{settings.Text("host"), settings.Text("user"), strconv.Itoa(settings.Number("port")), settings.Text("key_file"), settings.Text("remote_host"), svc.RemotePort, strconv.Itoa(svc.LocalPort)}
		want := []string{host, user, strconv.Itoa(port), keyFile, strings.Trim(target, "[]"), strconv.Itoa(remote), strconv.Itoa(local)}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%q: got %q, want %q", words, got, want)
		}
	})
}

// TestParse_AcceptsNothingThatAConfigRejects combines the words of real command lines at random.
func TestParse_AcceptsNothingThatAConfigRejects(t *testing.T) {
	t.Parallel()
	word := rapid.OneOf(rapid.SampledFrom([]string{
		"kubectl", "oc", "port-forward", "-n", "db", "svc/web", "pod/web", "svc", "web", "--context", "kind", "--address", "::1", "127.0.0.2", "localhost", "8080:80", "8080",
		"80", ":80", "8080:http", "-l", "app=web", "ssh", "autossh", "-M", "0", "-L", "-R", "-D", "-fNL", "8080:db:80", "[::1]:8080:db:80", "8080:localhost:80", "bastion",
		"me@bastion", "ssh://me@h:22", "-p", "-i", "-J", "-o", "Port=22", "User=", "Compression yes", "-F", "--", "socat", "TCP-LISTEN:8080,fork", "TCP:db:80", "tcp",
		"db:80", "name", "postgres://u:pw@h/d", "http://h:8080/x y", "https://h/%zz", "redis://h/3", "mqtts://h", "kafka://h", "-C", "-g", "sudo", "env", "A=b", "&", "", "-",
		"supervisor", "$", "${X}", "*:80:localhost:80", "10-web", "http://[::1]/", "http://h\x00/", "postgres://$u@h/$d",
	}), rapid.StringN(0, 6, 12))
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(word, 1, 9).Draw(t, "words")
		result, err := paste.Parse(words, paste.Options{})
		if rapid.Bool().Draw(t, "as text") {
			result, err = paste.ParseText(strings.Join(words, " "), paste.Options{})
		}
		if err != nil {
			if _, ok := err.(*paste.Error); !ok { //nolint:errorlint // it must be one itself
				t.Fatalf("%q: %T", words, err)
			}
			return
		}
		if _, err := parseConfig(result); err != nil {
			t.Fatalf("%q\n%s\n%v", words, render(result), err)
		}
	})
}

func TestSplitCommands_SplitsWordsAsBashDoes(t *testing.T) {
	t.Parallel()
	piece := rapid.SampledFrom([]string{"a", "b c", " ", "'", `"`, `\`, `\"`, `'x y'`, `"x \" y"`, "${V}", `"${V}"`, "é", "\\\n", ":", "*", `"$"`})
	rapid.Check(t, func(t *rapid.T) {
		text := "x " + strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces"), "")
		output, err := exec.Command("bash", "--norc", "-c", "set -f; V=value; printf '%s\\0' "+text).Output()
		if err != nil || strings.HasSuffix(text, `\`) {
			t.Skip("not a complete command")
		}
		want := strings.Split(strings.TrimSuffix(string(output), "\x00"), "\x00")
		got, err := paste.SplitWords(text)
		if err != nil && (strings.Contains(text, `$"`) || strings.Contains(text, "$'")) {
			t.Skip("bash's other quotes, which are refused")
		}
		for i := range got {
			got[i] = strings.NewReplacer("$$", "$", "${V}", "value").Replace(got[i])
		}
		if err != nil || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Fatalf("%q: got %q, %v; want %q", text, got, err, want)
		}
	})
}
