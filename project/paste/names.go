package paste

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

// portNames returns the services that usually listen on a port.
func portNames() map[int]string {
	return map[int]string{
		1433: "sqlserver", 1521: "oracle", 1883: "mqtt", 2181: "zookeeper", 2379: "etcd", 3306: "mysql", 3389: "rdp", 4222: "nats", 5432: "postgres",
		5601: "kibana", 5672: "rabbitmq", 5900: "vnc", 6379: "redis", 6443: "kubernetes", 8200: "vault", 8500: "consul", 9042: "cassandra", 9090: "prometheus",
		9092: "kafka", 9200: "elasticsearch", 11211: "memcached", 15672: "rabbitmq-ui", 27017: "mongodb",
	}
}

// nameOfHost returns what a service is called: the first label of the host or, if that says nothing, what usually listens on the port, or the
// first label of the server through which it is reached.
func nameOfHost(host string, port int, server string) string {
	if label := firstLabel(host); label != "" {
		return label
	}
	if name := portNames()[port]; name != "" {
		return name
	}
	if label := firstLabel(server); label != "" {
		return label + "-" + strconv.Itoa(port)
	}
	return "port-" + strconv.Itoa(port)
}

// firstLabel returns the first label of a host name; empty for an address, localhost or a variable.
func firstLabel(host string) string {
	if _, err := netip.ParseAddr(host); err == nil || strings.Contains(host, "$") {
		return ""
	}
	label, _, _ := strings.Cut(host, ".")
	if label == "localhost" {
		return ""
	}
	return label
}

// nameAllocator makes the names of services unique.
type nameAllocator struct {
	options  Options
	prefixes []string // of the variables of those chosen
}

func newNames(o Options) *nameAllocator { return &nameAllocator{options: o} }

// choose returns the name of a service: the one that was written, or one from its base. A number is appended if it is taken.
func (n *nameAllocator) choose(d *pendingService, count int) string {
	base := serviceName(d.base)
	if n.options.Name != "" {
		base = n.options.Name
		if count > 1 && len(n.prefixes) > 0 {
			suffix := d.remotePort
			if suffix == "" {
				suffix = "socks"
			}
			base = serviceName(base + "-" + suffix)
		}
	}
	name := base
	for i := 2; n.isTaken(name); i++ {
		name = base + "-" + strconv.Itoa(i)
	}
	n.prefixes = append(n.prefixes, project.EnvPrefix(name))
	return name
}

// isTaken reports whether a service has the name, or exports the same variables.
func (n *nameAllocator) isTaken(name string) bool {
	return slices.Contains(n.prefixes, project.EnvPrefix(name)) || n.options.IsNameTaken != nil && n.options.IsNameTaken(name)
}

// serviceName turns a text into the name of a service.
func serviceName(text string) string { return draft.Names{}.Add(strings.ToLower(text)) }
