package convert

import "strings"

// Protocol is what a port speaks, as far as a health check knows it: the type of the check.
type Protocol string

// The protocols. Unknown is that of a port of which only TCP is known.
const (
	Unknown  Protocol = ""
	Postgres Protocol = "postgres"
	MySQL    Protocol = "mysql"
	Redis    Protocol = "redis"
	Kafka    Protocol = "kafka"
	MQTT     Protocol = "mqtt"
	GRPC     Protocol = "grpc"
	HTTP     Protocol = "http"
	HTTPS    Protocol = "https"
)

// protocolOfPort has the ports that are registered with IANA, or that the servers use by default.
var protocolOfPort = map[int]Protocol{
	5432: Postgres, 3306: MySQL, 6379: Redis, 9092: Kafka, 1883: MQTT, 50051: GRPC,
	80: HTTP, 3000: HTTP, 5601: HTTP, 8000: HTTP, 8080: HTTP, 8081: HTTP, 8088: HTTP, 9000: HTTP, 9090: HTTP, 9200: HTTP, 15672: HTTP, 443: HTTPS, 8443: HTTPS,
}

// protocolOfWord has words that names of services, ports and images begin with or hold.
var protocolOfWord = map[string]Protocol{
	"postgres": Postgres, "postgresql": Postgres, "pgsql": Postgres, "psql": Postgres, "pgbouncer": Postgres, "timescaledb": Postgres, "postgis": Postgres, "pgvector": Postgres,
	"mysql": MySQL, "mariadb": MySQL, "percona": MySQL,
	"redis": Redis, "valkey": Redis, "keydb": Redis, "dragonfly": Redis,
	"kafka": Kafka, "redpanda": Kafka,
	"mqtt": MQTT, "mosquitto": MQTT, "emqx": MQTT,
	"grpc": GRPC, "http": HTTP, "https": HTTPS, "nginx": HTTP, "httpd": HTTP, "caddy": HTTP, "traefik": HTTP, "elasticsearch": HTTP, "opensearch": HTTP, "grafana": HTTP, "prometheus": HTTP, "web": HTTP,
}

// ProtocolOfPort returns the protocol of a well-known port.
func ProtocolOfPort(port int) Protocol { return protocolOfPort[port] }

// ProtocolOfName returns the protocol that the first known word of a name stands for: that of "tcp-postgresql", "my_redis" or
// "bitnami/kafka:3.7".
func ProtocolOfName(name string) Protocol {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	for _, word := range words {
		if protocol, ok := protocolOfWord[word]; ok {
			return protocol
		}
	}
	return Unknown
}
