package native

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/kubectl/session"
)

func parsePods(t *testing.T, texts ...string) podList {
	t.Helper()
	raw := make([]json.RawMessage, len(texts))
	for i, text := range texts {
		raw[i] = json.RawMessage(text)
	}
	all, err := decodePods(raw)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func podJSON(name, created, phase, ready, more string) string {
	return fmt.Sprintf(`{"metadata": {"name": %[1]q, "uid": %[1]q, "creationTimestamp": "2026-11-23T10:%[2]s:00Z"%[5]s}, "status": {"phase": %[3]q, "conditions": [{"type": "Ready", "status": %[4]q}]}}`,
		name, created, phase, ready, more)
}

func TestPodList_NewestPrefersPodsThatDidNotRefuse(t *testing.T) {
	all := parsePods(t,
		podJSON("old", "01", "Running", "True", ""),
		podJSON("new", "03", "Running", "True", ""),
		podJSON("newer", "04", "Running", "False", ""),
		podJSON("going", "05", "Running", "True", `, "deletionTimestamp": "2026-11-23T10:06:00Z"`),
		podJSON("done", "06", "Succeeded", "False", ""),
	)
	refusedBy := func(uids ...string) func(string) bool {
		return func(uid string) bool { return slices.Contains(uids, uid) }
	}
	for _, tt := range []struct {
		isEligible func(*pod) bool
		refused    []string
		want       string
	}{
		{(*pod).isReady, nil, "new"},
		{(*pod).isReady, []string{"new"}, "old"},
		{(*pod).isReady, []string{"new", "old"}, "new"}, // no other choice
		{(*pod).isRunning, nil, "newer"},
		{func(*pod) bool { return false }, nil, ""},
	} {
		got := ""
		if p := all.newest(tt.isEligible, refusedBy(tt.refused...)); p != nil {
			got = p.Metadata.Name
		}
		if got != tt.want {
			t.Errorf("refused %v: %q, want %q", tt.refused, got, tt.want)
		}
	}
}

func TestPod_DescribeStateCutsALongMessageBetweenCharacters(t *testing.T) {
	var p pod
	p.Status.Phase, p.Status.Message = "Failed", strings.Repeat("ü", 200)
	if got, want := p.describeState(), "Failed: "+strings.Repeat("ü", 160)+"…"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPodFinder_IsUnchangedDetectsAFailedPod(t *testing.T) {
	chosen := destination{uid: "web", isEligible: true}
	for _, tt := range []struct {
		now  string
		was  destination
		want bool
	}{
		{podJSON("web", "01", "Running", "True", ""), chosen, true},
		{podJSON("web", "01", "Running", "False", ""), chosen, false},
		{podJSON("web", "01", "Running", "False", ""), destination{uid: "web"}, true}, // it was not ready before either
		{podJSON("web", "01", "Running", "True", ""), destination{uid: "web"}, true},
		{podJSON("web", "01", "Failed", "False", ""), destination{uid: "web"}, false},
		{podJSON("web", "01", "Running", "True", `, "deletionTimestamp": "2026-11-23T10:06:00Z"`), chosen, false},
		{podJSON("web", "01", "Running", "True", ""), destination{uid: "web", isEligible: true, restartCount: 1}, false},
		{podJSON("other", "01", "Running", "True", ""), chosen, false},
	} {
		f := &podFinder{target: Target{Type: "deployment", Name: "web", Port: "80"}, pods: parsePods(t, tt.now)}
		if got := f.isUnchanged(tt.was); got != tt.want {
			t.Errorf("%+v, now %s: %v", tt.was, tt.now, got)
		}
	}
}

func TestPodOwner_PodSelectorIsInAPISyntax(t *testing.T) {
	for _, tt := range []struct{ kind, selector, want string }{
		{"service", `{"b": "2", "a": "1"}`, "a=1,b=2"},
		{"deployment", `{"matchLabels": {"app": "x"}}`, "app=x"},
		{"job", `{"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "t", "operator": "In", "values": ["a", "b"]}, {"key": "u", "operator": "NotIn", "values": ["c"]}, {"key": "v", "operator": "Exists"}, {"key": "w", "operator": "DoesNotExist"}]}`, "app=x,t in (a,b),u notin (c),v,!w"},
		{"service", `{}`, ""},
		{"service", `null`, ""},
		{"daemonset", `{}`, ""},
	} {
		var o podOwner
		o.Spec.Selector = json.RawMessage(tt.selector)
		got, err := o.podSelector(Target{Type: tt.kind, Name: "n"})
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s %s: %q, %v", tt.kind, tt.selector, got, err)
		}
	}
}

func TestTarget_PodPortResolvesTheTargetPort(t *testing.T) {
	p := parsePods(t, `{"metadata": {"name": "p"}, "spec": {"containers": [{"ports": [
		{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 5353, "protocol": "UDP"}, {"name": "dns", "containerPort": 5355}]}]}}`)[0]
	for _, tt := range []struct {
		service, port string
		want          int
	}{
		{`{"spec": {"ports": [{"port": 80, "targetPort": 8081}]}}`, "80", 8081},
		{`{"spec": {"ports": [{"name": "web", "port": 80, "targetPort": "http"}]}}`, "web", 8080},
		{`{"spec": {"ports": [{"port": 80}]}}`, "80", 80},
		{`{"spec": {"clusterIP": "None", "ports": [{"port": 80, "targetPort": 8081}]}}`, "80", 80},
		{`{"spec": {"ports": [{"port": 53, "protocol": "UDP"}]}}`, "53", 0},
		{`{"spec": {"ports": [{"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 5353}, {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 5354}]}}`, "53", 5354},
		{`{"spec": {"ports": [{"port": 80, "targetPort": "dns"}]}}`, "80", 5355},
		{`{"spec": {"ports": [{"port": 80, "targetPort": "none"}]}}`, "80", 0},
	} {
		var o podOwner
		if err := json.Unmarshal([]byte(tt.service), &o); err != nil {
			t.Fatal(err)
		}
		got, err := Target{Type: "service", Name: "s", Port: tt.port}.podPort(p, &o)
		if got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("%s: %d, %v", tt.service, got, err)
		}
	}
}

// A named port of a service may exist in only some of its pods, under different numbers.
func TestPodFinder_ChoosesAmongPodsThatHaveThePort(t *testing.T) {
	pod := func(name, created, ready, ports string) string {
		return strings.Replace(podJSON(name, created, "Running", ready, ""), `"status": {`, `"spec": {"containers": [{"ports": [`+ports+`]}]}, "status": {`, 1)
	}
	const http, admin = `{"name": "http", "containerPort": 8080}`, `{"name": "admin", "containerPort": 9090}`
	for _, tt := range []struct {
		name, wantPod, wantFailure string
		wantPort                   int
		pods                       []string
	}{
		{"the newest has another port", "old", "", 8080, []string{pod("old", "01", "True", http), pod("new", "02", "True", admin)}},
		{"each has its own number", "new", "", 8081, []string{pod("old", "01", "True", http), pod("new", "02", "True", strings.ReplaceAll(http, "8080", "8081"))}},
		{"the only one is not Ready", "old", "pod old is Running", 8080, []string{pod("old", "01", "False", http), pod("new", "02", "True", admin)}},
		{"none has it", "", "does not have a port named http; it names admin", 0, []string{pod("new", "02", "True", admin)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var o podOwner
			if err := json.Unmarshal([]byte(`{"spec": {"ports": [{"port": 80, "targetPort": "http"}]}}`), &o); err != nil {
				t.Fatal(err)
			}
			f := &podFinder{session: &session.Session{}, target: Target{Type: "service", Name: "web", Port: "80"}, owner: &o, pods: parsePods(t, tt.pods...)}
			f.evaluate()
			if !f.unreadySince.IsZero() {
				f.unreadySince = time.Now().Add(-readyPodWait)
			}
			dest, _, _, _ := f.choosePod()
			if got := cmp.Or(dest, &destination{}); got.pod != tt.wantPod || got.port != tt.wantPort {
				t.Errorf("connections go to %+v, want pod %s and port %d", dest, tt.wantPod, tt.wantPort)
			}
			reason := ""
			if f.failure != nil {
				reason = f.failure.Reason
			}
			if !strings.Contains(reason, tt.wantFailure) || (reason == "") != (tt.wantFailure == "") {
				t.Errorf("the failure is %q, want %q", reason, tt.wantFailure)
			}
		})
	}
}

// Messages of container runtimes about connections that ended.
func TestParseRefusal_OnlyFailedConnectsMayBeReplayed(t *testing.T) {
	const head = "error forwarding port 7000 to pod 0cdb, uid : "
	for _, tt := range []struct {
		text             string
		refused, connect bool
	}{
		{"", false, false},
		{head + `failed to execute portforward in network namespace "/var/run/netns/cni-4": failed to connect to localhost:7000 inside namespace "0cdb", IPv4: dial tcp4 127.0.0.1:7000: connect: connection refused IPv6 dial tcp6 [::1]:7000: connect: connection refused`, true, true},
		{head + `network namespace for sandbox "0cdb" is closed`, true, true},
		{head + `failed to find sandbox "0cdb" in store: not found`, true, true},
		{head + "exit status 1: 2024/01/01 socat[7] E connect(5, AF=2 127.0.0.1:80, 16): Connection refused", true, true},
		{head + "read tcp4 127.0.0.1:1->127.0.0.1:7000: read: connection reset by peer", true, false},
		{head + "read tcp4 127.0.0.1:1->127.0.0.1:7000: connection refused", true, false},
		{head + "write tcp4 127.0.0.1:1->127.0.0.1:7000: write: broken pipe", true, false},
		{"container not running (0cdb)", true, false},
	} {
		r, refused := parseRefusal(tt.text)
		if refused != tt.refused || r.IsConnectFailure != tt.connect {
			t.Errorf("%s: %t, %+v", tt.text, refused, r)
		}
	}
}

func FuzzParseRefusal(f *testing.F) {
	f.Add("error forwarding port 1 to pod a, uid : connection refused")
	f.Fuzz(func(t *testing.T, text string) {
		if r, refused := parseRefusal(text); refused && r.Reason == "" && len(text) > 0 && r.IsConnectFailure {
			t.Errorf("a refusal without a reason: %q", text)
		}
	})
}
