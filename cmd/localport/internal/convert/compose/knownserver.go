package compose

import (
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/convert"
)

// knownServer is a server that many compose files have: how it is configured, and how programs are told where it is.
type knownServer struct {
	images   []string // words of an image's name
	port     int
	protocol convert.Protocol
	variable string // of [env]
	url      string // with USER, PASSWORD, ADDR and DATABASE; "USER:PASSWORD@" is left out if there is no user
	// The variables of the container's environment, the more specific ones first.
	user, password, database []string
	defaultUser              string
	// databaseIsUser: without a database, that of the user's name is meant.
	databaseIsUser bool
}

var knownServers = []knownServer{
	{
		images: []string{"postgres", "postgresql", "postgis", "timescaledb", "pgvector", "supabase"}, port: 5432, protocol: convert.Postgres,
		variable: "DATABASE_URL", url: "postgres://USER:PASSWORD@ADDR/DATABASE",
		user:     []string{"POSTGRES_USER", "POSTGRESQL_USERNAME", "POSTGRESQL_USER"},
		password: []string{"POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD"}, database: []string{"POSTGRES_DB", "POSTGRESQL_DATABASE"},
		defaultUser: "postgres", databaseIsUser: true,
	},
	{
		images: []string{"mysql", "mariadb", "percona"}, port: 3306, protocol: convert.MySQL,
		variable: "DATABASE_URL", url: "mysql://USER:PASSWORD@ADDR/DATABASE",
		user:     []string{"MYSQL_USER", "MARIADB_USER"},
		password: []string{"MYSQL_PASSWORD", "MARIADB_PASSWORD", "MYSQL_ROOT_PASSWORD", "MARIADB_ROOT_PASSWORD"}, database: []string{"MYSQL_DATABASE", "MARIADB_DATABASE"},
		defaultUser: "root",
	},
	{
		images: []string{"redis", "valkey", "keydb", "dragonfly"}, port: 6379, protocol: convert.Redis,
		variable: "REDIS_URL", url: "redis://USER:PASSWORD@ADDR/0", password: []string{"REDIS_PASSWORD", "VALKEY_PASSWORD"},
	},
	{images: []string{"kafka", "redpanda"}, port: 9092, protocol: convert.Kafka, variable: "KAFKA_BROKERS", url: "ADDR"},
	{images: []string{"mosquitto", "mqtt", "emqx"}, port: 1883, protocol: convert.MQTT, variable: "MQTT_URL", url: "mqtt://ADDR"},
	{
		images: []string{"rabbitmq"}, port: 5672, variable: "AMQP_URL", url: "amqp://USER:PASSWORD@ADDR/",
		user: []string{"RABBITMQ_DEFAULT_USER"}, password: []string{"RABBITMQ_DEFAULT_PASS"},
	},
	{
		images: []string{"mongo", "mongodb"}, port: 27017, variable: "MONGODB_URL", url: "mongodb://USER:PASSWORD@ADDR/",
		user: []string{"MONGO_INITDB_ROOT_USERNAME", "MONGODB_ROOT_USER"}, password: []string{"MONGO_INITDB_ROOT_PASSWORD", "MONGODB_ROOT_PASSWORD"},
	},
	{images: []string{"nats"}, port: 4222, variable: "NATS_URL", url: "nats://ADDR"},
	{images: []string{"memcached"}, port: 11211, variable: "MEMCACHED_SERVERS", url: "ADDR"},
	{images: []string{"elasticsearch", "opensearch"}, port: 9200, protocol: convert.HTTP, variable: "ELASTICSEARCH_URL", url: "http://ADDR"},
	{images: []string{"minio", "localstack"}, port: 9000, protocol: convert.HTTP, variable: "AWS_ENDPOINT_URL", url: "http://ADDR"},
	{images: []string{"mailpit", "mailhog"}, port: 1025, variable: "SMTP_ADDR", url: "ADDR"},
}

// findServer returns the server that an image contains, such as "docker.io/bitnami/postgresql:16"; nil if it is not known.
func findServer(image string) *knownServer {
	name, _, _ := strings.Cut(image, "@")
	name = name[strings.LastIndexByte(name, '/')+1:]
	name, _, _ = strings.Cut(name, ":")
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '-' || r == '_' || r == '.' })
	for i, server := range knownServers {
		if slices.ContainsFunc(server.images, func(word string) bool { return slices.Contains(words, word) }) {
			return &knownServers[i]
		}
	}
	return nil
}
