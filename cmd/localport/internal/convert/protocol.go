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

// ProtocolOfPort returns the protocol of a port that is registered with IANA, or that a server uses by default.
func ProtocolOfPort(port int) Protocol {
	switch port {
	case 5432:
		return Postgres
	case 3306:
		return MySQL
	case 6379:
		return Redis
	case 9092:
		return Kafka
	case 1883:
		return MQTT
	case 50051:
		return GRPC
	case 443, 8443:
		return HTTPS
	case 80, 3000, 5601, 8000, 8080, 8081, 8088, 9000, 9090, 9200, 15672:
		return HTTP
	}
	return Unknown
}

// protocolOfWord returns the protocol that a word in the name of a service, a port or an image stands for. A map would be made at each start of
// the program.
func protocolOfWord(word string) Protocol {
	switch word {
	case "postgres", "postgresql", "pgsql", "psql", "pgbouncer", "timescaledb", "postgis", "pgvector":
		return Postgres
	case "mysql", "mariadb", "percona":
		return MySQL
	case "redis", "valkey", "keydb", "dragonfly":
		return Redis
	case "kafka", "redpanda":
		return Kafka
	case "mqtt", "mosquitto", "emqx":
		return MQTT
	case "grpc":
		return GRPC
	case "https":
		return HTTPS
	case "http", "web", "nginx", "httpd", "caddy", "traefik", "elasticsearch", "opensearch", "grafana", "prometheus":
		return HTTP
	}
	return Unknown
}

// ProtocolOfName returns the protocol that the first known word of a name stands for: that of "tcp-postgresql", "my_redis" or
// "bitnami/kafka:3.7".
func ProtocolOfName(name string) Protocol {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	for _, word := range words {
		if protocol := protocolOfWord(word); protocol != Unknown {
			return protocol
		}
	}
	return Unknown
}
