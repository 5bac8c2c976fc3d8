package project

import (
	"testing"

	"pgregory.net/rapid"
)

func TestPickAutoPort_IsStableAndOutsideTheEphemeralRange(t *testing.T) {
	ephemeral := ephemeralPortRange()
	allowed := autoPortRange(ephemeral)
	rapid.Check(t, func(t *rapid.T) {
		root, service := rapid.String().Draw(t, "root"), rapid.String().Draw(t, "service")
		port := PickAutoPort(root, service, nil)
		if port != PickAutoPort(root, service, nil) || port < allowed.first || port > allowed.last {
			t.Fatalf("port %d, range %v", port, allowed)
		}
		taken := map[int]bool{}
		for range rapid.IntRange(1, 20).Draw(t, "taken") {
			taken[port] = true
			next := PickAutoPort(root, service, func(p int) bool { return taken[p] })
			if taken[next] || next < allowed.first || next > allowed.last {
				t.Fatalf("%d is taken: %v", next, taken)
			}
			port = next
		}
	})
}

func TestPickAutoPort_DiffersByRootAndService(t *testing.T) {
	ports := map[int]bool{}
	for _, root := range []string{"/a", "/b"} {
		for _, service := range []string{"x", "y"} {
			ports[PickAutoPort(root, service, nil)] = true
		}
	}
	if len(ports) != 4 {
		t.Errorf("%v", ports)
	}
	if port := PickAutoPort("/a", "x", func(int) bool { return true }); port != 0 {
		t.Errorf("every port is taken, and it is %d", port)
	}
}

func TestAutoPortRange_AvoidsEphemeralPorts(t *testing.T) {
	for ephemeral, want := range map[portRange]portRange{
		{32768, 60999}: {10001, 32767},
		{49152, 65535}: {10001, 49151},
		{1024, 40000}:  {40001, 65535},
		{1024, 65535}:  {10001, 65535},
		{1, 5000}:      {10001, 65535},
		{10010, 65530}: {10001, 65535},
	} {
		if got := autoPortRange(ephemeral); got != want {
			t.Errorf("%v: %v, want %v", ephemeral, got, want)
		}
	}
	for text, isValid := range map[string]bool{"32768\t60999\n": true, "": false, "1": false, "5 4": false, "0 9": false, "a b": false, "1 65536": false} {
		if got, ok := parsePortRange(text); ok != isValid {
			t.Errorf("%q: %v, %v", text, got, ok)
		}
	}
}

func TestParse_AutoPortsAvoidConfiguredPorts(t *testing.T) {
	root := physicalTempDir(t)
	service := func(name, port string) string {
		return "[services." + name + "]\ntechnology = \"tcp\"\nlocal_port = " + port + "\nremote_port = 1\nconnection.remote_host = \"h\"\n"
	}
	write(t, root+"/"+ConfigName, "metrics_port = 20001\n"+service("a", "20000")+service("b", `"auto"`)+service("c", `"auto"`))
	p, err := Parse(readFiles(t, root), Options{Technologies: BuiltIn, PickAutoPort: func(service string) int { return map[string]int{"b": 20000, "c": 20001}[service] }})
	if err != nil {
		t.Fatal(err)
	}
	ports := map[int]bool{p.MetricsPort: true}
	for _, s := range p.Services {
		ports[s.LocalPort] = s.LocalPort > 0
	}
	if len(ports) != 4 {
		t.Errorf("%v", ports)
	}
}
