package kubeservices

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/localport-sh/localport/cmd/localport/internal/convert"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/converttest"
	"github.com/localport-sh/localport/forwarder/kubectl/catalog"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/project/draft"
)

func TestConvert_ChoosesNamesAndPorts(t *testing.T) {
	services := []catalog.Service{
		{Namespace: "a", Name: "db", Ports: []catalog.Port{{Number: 5432}}},
		{Namespace: "a", Name: "web", Ports: []catalog.Port{{Number: 80, Name: "http"}, {Number: 9090}, {Number: 8443, Name: "a-name-that-is-too-long"}}},
		{Namespace: "b", Name: "db", Ports: []catalog.Port{{Number: 5432, Name: "5432"}}},
		{Namespace: "b", Name: "busy", Ports: []catalog.Port{{Number: 7000, Name: "grpc"}}},
	}
	want := []string{
		"db-a 5432 5432 postgres", `web-http "auto" http http`, "web-9090 9090 9090 http", "web-a-name-that-is-too-long 8443 8443 https",
		`db-b "auto" 5432 postgres`, `busy "auto" grpc grpc`,
	}
	ports := &draft.LocalPorts{Holder: anotherProgram(func(port int) bool { return port == 7000 })}
	for i, c := range Convert(services, session.Location{Context: "test"}, ports) {
		got := fmt.Sprintf("%s %s %v %s", c.Name, quote(entry(c, "local_port")), entry(c, "remote_port"), c.Protocol)
		if got != want[i] {
			t.Errorf("got %s, want %s", got, want[i])
		}
	}
}

func entry(c Candidate, key string) any {
	for _, entry := range c.Entries {
		if entry.Key == key {
			return entry.Value
		}
	}
	return nil
}

func quote(value any) string {
	if text, ok := value.(string); ok {
		return draft.Quote(text)
	}
	return fmt.Sprint(value)
}

func TestConvert_KnowsWhatAPortSpeaks(t *testing.T) {
	for _, test := range []struct {
		service string
		port    catalog.Port
		others  int
		want    convert.Protocol
	}{
		{"x", catalog.Port{Number: 1, AppProtocol: "kubernetes.io/https"}, 0, convert.HTTPS},
		{"x", catalog.Port{Number: 3306}, 1, convert.MySQL},
		{"x", catalog.Port{Number: 1, Name: "tcp-postgresql"}, 1, convert.Postgres},
		{"my-redis-master", catalog.Port{Number: 1}, 0, convert.Redis},
		{"my-redis-master", catalog.Port{Number: 1}, 1, convert.Unknown},
		{"postgres", catalog.Port{Number: 9187, Name: "metrics"}, 1, convert.Unknown},
		{"kafka", catalog.Port{Number: 9092, Name: "client", AppProtocol: ""}, 1, convert.Kafka},
		{"broker", catalog.Port{Number: 1883}, 0, convert.MQTT},
		{"x", catalog.Port{Number: 1}, 0, convert.Unknown},
	} {
		svc := catalog.Service{Name: test.service, Ports: make([]catalog.Port, test.others+1)}
		if got := protocolOf(svc, test.port); got != test.want {
			t.Errorf("%s %+v: got %q, want %q", test.service, test.port, got, test.want)
		}
	}
}

// TestConvert_WritesValidConfigs converts lists of services, each with a check that it passes, a suggestion or none.
func TestConvert_WritesValidConfigs(t *testing.T) {
	names := rapid.OneOf(rapid.StringMatching(`[a-z]([a-z0-9-]{0,61}[a-z0-9])?`), rapid.SampledFrom([]string{"db", "supervisor", "localport", "localport-api", "web", "a-b"}))
	portNames := rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`), rapid.SampledFrom([]string{"http", "https", "grpc", "mqtt", "mysql", "redis", "kafka", "123", "a--b"}))
	rapid.Check(t, func(t *rapid.T) {
		var services []catalog.Service
		for range rapid.IntRange(0, 12).Draw(t, "services") {
			svc := catalog.Service{Namespace: rapid.SampledFrom([]string{"a", "b", "0"}).Draw(t, "namespace"), Name: names.Draw(t, "name")}
			for range rapid.IntRange(1, 3).Draw(t, "ports") {
				svc.Ports = append(svc.Ports, catalog.Port{
					Number: rapid.OneOf(rapid.IntRange(1, 65535), rapid.SampledFrom([]int{80, 5432, 6379})).Draw(t, "number"),
					Name:   portNames.Draw(t, "port name"), AppProtocol: rapid.SampledFrom([]string{"", "http", "kubernetes.io/ws", "postgresql", "grpc"}).Draw(t, "appProtocol"),
				})
			}
			services = append(services, svc)
		}
		ports := &draft.LocalPorts{Holder: anotherProgram(func(port int) bool { return port%7 == 0 })}
		location := session.Location{Context: rapid.SampledFrom([]string{"", "arn:aws:eks:eu:1:cluster/x", "gke_p_r_c", "a b"}).Draw(t, "context")}
		result := convert.Result{}
		for _, c := range Convert(services, location, ports) {
			if checks := convert.LikelyChecks(c.Protocol); len(checks) > 0 && rapid.Bool().Draw(t, "passes") {
				c.Set("health_check", checks[rapid.IntRange(0, len(checks)-1).Draw(t, "check")])
			} else {
				convert.SuggestCheck(&c.Service, c.Protocol, "the server's\nown \x1b words")
			}
			result.Config.Services = append(result.Config.Services, c.Service)
		}
		parsed, err := converttest.TryParse(result.Text(), nil)
		if err != nil {
			t.Fatalf("invalid: %v\n%s", err, result.Text())
		}
		want := 0
		for _, svc := range services {
			want += len(svc.Ports)
		}
		if len(parsed.Services) != want {
			t.Fatalf("got %d services, want %d, one for each port", len(parsed.Services), want)
		}
	})
}

// anotherProgram returns a holder for draft.LocalPorts, of the ports that another program has.
func anotherProgram(hasPort func(int) bool) func(string, int) string {
	return func(_ string, port int) string {
		if hasPort(port) {
			return "another program of this machine"
		}
		return ""
	}
}
