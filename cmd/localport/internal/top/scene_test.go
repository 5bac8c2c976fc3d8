package top

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/process/holder"
)

var (
	sceneStart = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	sceneNow   = sceneStart.Add(4 * time.Minute)
)

var sceneOptions = Options{DescribeLeases: func(leases []api.Lease) string { return "used by " + count(len(leases), "shell") }}

// service returns a service with an address on this port.
func service(name string, state forwarder.State, port int) api.ServiceStatus {
	address := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)).String()
	return api.ServiceStatus{
		Name: name, State: state, Technology: "kubectl", Address: address, Addresses: []string{address}, Since: sceneStart.Add(10 * time.Second),
		Target: "kubectl svc/" + name + " in db", Log: "/logs/" + name, Health: api.Health{Check: "tcp"},
	}
}

// shop is a running project with services in most states.
func shop() api.Status {
	checked := sceneNow.Add(-3 * time.Second)
	postgres := service("postgres", forwarder.Healthy, 5432)
	postgres.Health = api.Health{Check: "postgres", Checked: &checked, Latency: 0.0123}
	postgres.Connections = api.ConnectionStats{Open: 4, Waiting: 1, Total: 17, BytesIn: 1 << 20, BytesOut: 8 << 20}
	kafka := service("kafka", forwarder.NeedsAttention, 9092)
	kafka.LastError, kafka.Hint = "the passphrase of ~/.ssh/id_ed25519 is needed", "localport login kafka"
	api1 := service("api", forwarder.Unhealthy, 8080)
	api1.LastError = "GET /healthz: 503 Service Unavailable: upstream connect error or disconnect/reset before headers"
	api1.Restarts = 3
	return api.Status{
		Project: "/home/you/shop", State: api.StateRunning, Leases: make([]api.Lease, 2),
		Supervisor: &api.SupervisorStatus{PID: 4711, Run: "a", Since: sceneStart},
		Services:   []api.ServiceStatus{postgres, kafka, api1, service("redis", forwarder.Idle, 6379), service("mail", forwarder.Stopped, 2525)},
	}
}

// observed returns what a refresh finds two seconds later.
func observed(m Model) RefreshMsg {
	status := m.status
	status.Services = append([]api.ServiceStatus{}, status.Services...)
	for i := range status.Services {
		if status.Services[i].Connections.Open > 0 {
			status.Services[i].Connections.BytesIn += 3000
			status.Services[i].Connections.BytesOut += uint64(40000 + 10000*len(m.traffic[status.Services[i].Name].samples))
		}
	}
	client := func(port uint16, pid int, name string) holder.Connection {
		local := netip.MustParseAddr("127.0.0.1")
		return holder.Connection{Client: netip.AddrPortFrom(local, port), Server: netip.AddrPortFrom(local, 5432), Holder: holder.Holder{PID: pid, Name: name}}
	}
	return RefreshMsg{
		Now: m.Now.Add(2 * time.Second), Status: status,
		Connections: []holder.Connection{client(40000, 101, "psql"), client(40001, 102, "python3"), client(40002, 102, "python3")},
		Events: []Event{
			{Time: sceneStart, Text: "started"},
			{Time: sceneStart.Add(9 * time.Second), Service: "postgres", Text: "starting → healthy"},
			{Time: sceneStart.Add(70 * time.Second), Service: "api", Text: "healthy → unhealthy: GET /healthz: 503 Service Unavailable"},
		},
	}
}

// observe returns the model after n refreshes.
func observe(m Model, n int) Model {
	for range n {
		m, _ = Update(m, observed(m))
	}
	return m
}

func begin(status api.Status) Model {
	m, _ := Start(sceneNow.Add(-16*time.Second), status, sceneOptions)
	return m
}

func press(m Model, keys ...string) Model {
	for _, key := range keys {
		text := ""
		if len([]rune(key)) == 1 {
			text = key
		}
		m, _ = Update(m, KeyMsg{Key: key, Text: text})
	}
	return m
}

func logOf(name string) LogMsg {
	lines := make([]LogLine, 0, 60)
	for i := range 60 {
		lines = append(lines, LogLine{Time: sceneStart.Add(time.Duration(i) * time.Second), IsError: i%20 == 19, Text: fmt.Sprintf("line %d of %s", i+1, name)})
	}
	return LogMsg{Path: "/logs/" + name, Lines: lines}
}

// hostile is a status in which every text that is not ours tries to control the terminal, or is wide or long.
func hostile() api.Status {
	const attack = "\x1b]0;owned\a\x1b[2J\u202e\x9b31m日本語のサービス\n\r\t" // a title, an erased screen, a reversed direction, an 8-bit control
	status := shop()
	status.Project = "/tmp/" + attack
	status.Warnings, status.Pending, status.Failure = []string{attack}, attack, attack
	status.Clusters = []api.ClusterStatus{{Context: attack, Trouble: attack, Hint: attack}}
	for i := range status.Services {
		svc := &status.Services[i]
		svc.Name = fmt.Sprint(attack, i, strings.Repeat("長", 60))
		svc.Target, svc.LastError, svc.Hint, svc.Address, svc.State = attack, strings.Repeat(attack, 20), attack, attack, forwarder.State(attack)
		svc.Health.Check, svc.Connections.Shortage = attack, attack
	}
	return status
}

// scenes are the screens of which there are golden files.
func scenes() map[string]Model {
	running := observe(begin(shop()), 8)
	stopped := shop()
	stopped.Supervisor, stopped.State = nil, api.StateStopped
	for i := range stopped.Services {
		stopped.Services[i].State, stopped.Services[i].Connections = forwarder.Stopped, api.ConnectionStats{}
		stopped.Services[i].LastError, stopped.Services[i].Hint = "", ""
	}
	ended, _ := Update(running, RefreshMsg{Now: running.Now, Status: stopped})
	lost, _ := Update(running, RefreshMsg{Now: running.Now, Err: errors.New("the supervisor (pid 4711) did not answer within 2s")})
	logs, _ := Update(press(running, "l"), logOf("postgres"))
	why := press(running, "down", "w")
	why, _ = Update(why, CommandMsg{Now: why.Now, Verb: "why", Service: "kafka", Output: "kafka: needs attention\n\tsee: localport login kafka\n"})
	forty := shop()
	for i := range 35 {
		forty.Services = append(forty.Services, service(fmt.Sprintf("service-%02d", i), forwarder.Healthy, 7000+i))
	}
	one := shop()
	one.Services = one.Services[:1]
	none := shop()
	none.Services = nil
	attacked := begin(hostile())
	attacked.events = []Event{{Time: sceneStart, Service: hostile().Services[0].Name, Text: hostile().Services[0].LastError}}
	return map[string]Model{
		"running": running, "attention": press(running, "down"), "ended": ended, "lost": lost, "logs": logs, "why": why,
		"help": press(running, "?"), "confirm": press(running, "s"), "filter": press(running, "/", "r", "e"), "nothing-found": press(running, "/", "x", "y"),
		"forty": press(observe(begin(forty), 2), "end", "up"), "one": observe(begin(one), 3), "none": begin(none), "hostile": attacked,
		"by-state": press(running, "o", "o"),
	}
}
