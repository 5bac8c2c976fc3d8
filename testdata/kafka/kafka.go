// Package kafka starts a real Apache Kafka broker for a test: a single node in KRaft mode. Maven downloads the jars that pom.xml names
// into the user's cache directory.
package kafka

import (
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/localport-sh/localport/testdata/certs"
	"github.com/localport-sh/localport/testdata/daemon"
	"github.com/localport-sh/localport/testdata/ports"
)

//go:embed pom.xml
var pom []byte

// User and Password are valid credentials. The host name UnreachableHost cannot be resolved.
const (
	User            = "app"
	Password        = "correct horse"
	UnreachableHost = "kafka-0.kafka.invalid"
)

// Server is a running broker with several listeners, which differ in what clients need and which address they advertise.
type Server struct {
	*daemon.Server         // a plain-text listener that advertises its own address
	UnknownHostAddr string // a plain-text listener that advertises UnreachableHost:9092
	ClosedPortAddr  string // a plain-text listener that advertises ClosedPort of 127.0.0.1, on which nothing listens
	SASLAddr        string // needs a login by PLAIN or SCRAM-SHA-256; advertises its own address
	TLSAddr         string // needs TLS; advertises its own address
	CAFile          string // the authority of its certificate, for 127.0.0.1 and localhost
	ClosedPort      int    // the port that ClosedPortAddr advertises
}

// Start starts a broker, which ends with the test. It takes some seconds.
func Start(t testing.TB) *Server {
	t.Helper()
	java := daemon.FindProgram(t, "java", "openjdk-17-jre-headless")
	dir := daemon.NewDir(t, "kafka")
	copyJars(t, dir)
	pair := certs.Issue(t, dir, "localhost", "127.0.0.1")
	s := &Server{CAFile: pair.CAFile, ClosedPort: ports.FreePort(t)}
	keystore := writeKeystore(t, dir, pair)
	log := daemon.Write(t, dir, "log4j.properties", "log4j.rootLogger=INFO, out", "log4j.appender.out=org.apache.log4j.ConsoleAppender",
		"log4j.appender.out.layout=org.apache.log4j.PatternLayout", "log4j.appender.out.layout.ConversionPattern=%p %m%n")
	javaCommand := []string{
		java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto",
		"-Dlog4j.configuration=file:" + log, "-cp", filepath.Join(dir, "jars", "*"),
	}
	isFormatted := false
	s.Server = daemon.Start(t, daemon.Spec{
		Dir: dir,
		Argv: func(port int) []string {
			config := s.writeConfig(t, dir, port, keystore)
			if !isFormatted {
				isFormatted = true
				formatStorage(t, dir, javaCommand, config)
			}
			return append(javaCommand, "kafka.Kafka", config)
		},
		ReadyText: "Kafka Server started",
		// An orderly end takes Kafka seconds, and there is nothing to save.
		StopSignal: syscall.SIGKILL,
	})
	return s
}

// writeConfig chooses ports for the listeners that have none yet, writes server.properties and returns its path.
func (s *Server) writeConfig(t testing.TB, dir string, port int, keystore string) string {
	t.Helper()
	for _, addr := range []*string{&s.UnknownHostAddr, &s.ClosedPortAddr, &s.SASLAddr, &s.TLSAddr} {
		if *addr == "" {
			*addr = loopbackAddr(ports.FreePort(t))
		}
	}
	plain, controller := loopbackAddr(port), loopbackAddr(ports.FreePort(t))
	const login = "org.apache.kafka.common.security."
	return daemon.Write(t, dir, "server.properties",
		"process.roles=broker,controller", "node.id=1", "controller.quorum.voters=1@"+controller,
		"listeners=PLAIN://"+plain+",NAME://"+s.UnknownHostAddr+",PORT://"+s.ClosedPortAddr+",LOGIN://"+s.SASLAddr+",TLS://"+s.TLSAddr+",CONTROLLER://"+controller,
		"advertised.listeners=PLAIN://"+plain+",NAME://"+UnreachableHost+":9092,PORT://"+loopbackAddr(s.ClosedPort)+",LOGIN://"+s.SASLAddr+",TLS://"+s.TLSAddr,
		"listener.security.protocol.map=PLAIN:PLAINTEXT,NAME:PLAINTEXT,PORT:PLAINTEXT,LOGIN:SASL_PLAINTEXT,TLS:SSL,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name=PLAIN", "controller.listener.names=CONTROLLER",
		"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256",
		fmt.Sprintf(`listener.name.login.plain.sasl.jaas.config=%splain.PlainLoginModule required user_%s="%s";`, login, User, Password),
		"listener.name.login.scram-sha-256.sasl.jaas.config="+login+"scram.ScramLoginModule required;",
		"ssl.keystore.type=PEM", "ssl.keystore.location="+keystore,
		"log.dirs="+filepath.Join(dir, "data"), "offsets.topic.replication.factor=1", "num.network.threads=1", "num.io.threads=2",
		"auto.create.topics.enable=false", "group.initial.rebalance.delay.ms=0",
	)
}

func loopbackAddr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// formatStorage makes the data directory, with the user's SCRAM credentials.
func formatStorage(t testing.TB, dir string, javaCommand []string, config string) {
	t.Helper()
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	daemon.Run(t, dir, "", append(javaCommand, "kafka.tools.StorageTool", "format", "--cluster-id="+base64.RawURLEncoding.EncodeToString(id), "-c", config,
		"--add-scram", fmt.Sprintf("SCRAM-SHA-256=[name=%s,password=%s]", User, Password))...)
}

// writeKeystore writes the key and its certificate into one file, as Kafka needs them, and returns its path.
func writeKeystore(t testing.TB, dir string, pair certs.Pair) string {
	t.Helper()
	var both []string
	for _, file := range []string{pair.KeyFile, pair.CertFile} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, strings.TrimSpace(string(data)))
	}
	return daemon.Write(t, dir, "keystore.pem", both...)
}

// copyJars copies the jars to where the user that the broker runs as can read them.
func copyJars(t testing.TB, dir string) {
	t.Helper()
	if err := os.CopyFS(filepath.Join(dir, "jars"), os.DirFS(fetchJars(t))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "jars"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// fetchJars returns the directory with the jars that pom.xml names. It downloads them if the cache does not have them. If several
// processes do so at once, the first one's are used.
func fetchJars(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(pom)
	jarsDir := filepath.Join(cache, "localport-test", "kafka-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(jarsDir); err == nil {
		return jarsDir
	}
	mvn := daemon.FindProgram(t, "mvn", "maven")
	if err := os.MkdirAll(filepath.Dir(jarsDir), 0o755); err != nil {
		t.Fatal(err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(jarsDir), "kafka-*.part") //nolint:usetesting // on the same disk as jarsDir, to be renamed
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(temp)
	if err := os.WriteFile(filepath.Join(temp, "pom.xml"), pom, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), mvn, "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(temp, "jars"))
	cmd.Dir = temp
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("fetch Kafka's jars: %v\n%s", err, out)
	}
	if err := os.Rename(filepath.Join(temp, "jars"), jarsDir); err != nil && !os.IsExist(err) {
		if _, err := os.Stat(jarsDir); err != nil {
			t.Fatal(err)
		}
	}
	return jarsDir
}
