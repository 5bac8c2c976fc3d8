package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/cluster"
	"github.com/localport-sh/localport/testdata/executable"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/redis"
	"github.com/localport-sh/localport/testdata/shellpty"
	"github.com/localport-sh/localport/testdata/sshd"
)

// The first screen of README, as it is printed there: PostgreSQL runs in the namespace shop of a cluster whose context is named staging, and Redis behind an
// ssh server named bastion. Replaced are the local ports, which may be in use here, and the address of Redis.
func TestReadme_FirstScreenInACluster(t *testing.T) {
	c := cluster.Start(t)
	if _, err := exec.LookPath("psql"); err != nil {
		t.Skip("psql is missing (Debian: postgresql-client)")
	}
	commands, configs := readmeBlocks(t)
	if !slices.Contains(commands, readmeFirstScreen) {
		t.Fatal("README does not begin as readmeFirstScreen")
	}
	w := newTestEnv(t)

	c.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")
	t.Cleanup(func() { c.Kubectl(t, "delete", "namespace", "shop", "--wait=false") })
	c.Deploy(t, cluster.Deployment{Name: "postgres", Namespace: "shop", Replicas: 1, Image: cluster.Postgres})
	kubeconfig, err := os.ReadFile(c.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	w.writeFile(w.home, "kubeconfig", strings.NewReplacer("name: test", "name: staging", "cluster: test", "cluster: staging", "user: test", "user: staging").Replace(string(kubeconfig)))

	host := sshd.Start(t)
	bin := filepath.Join(w.home, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	// What a user has in ~/.ssh/config: ssh finds that in the home directory of the password database, which is not this one.
	options := fmt.Sprintf("-o HostName=%s -o Port=%d -o User=%s -o UserKnownHostsFile=%s -o GlobalKnownHostsFile=/dev/null -o IdentityFile=%s -o IdentityAgent=none -o IdentitiesOnly=yes",
		host.Host, host.Port, host.User, host.KnownHosts, host.KeyFile)
	real, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("ssh is not installed")
	}
	for name, script := range map[string]string{"ssh": "exec " + real + " " + options + ` "$@"`, "localport": "exec " + w.exe + ` "$@"`} {
		if err := executable.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.env = append(w.env, "PATH="+bin+":"+os.Getenv("PATH"), "KUBECONFIG="+filepath.Join(w.home, "kubeconfig"), "PGPASSWORD=hunter22")

	cache := redis.Start(t, redis.Options{})
	i := slices.IndexFunc(configs, func(text string) bool {
		return strings.Contains(text, "[services.postgres]\n") && strings.Contains(text, `host = "bastion"`)
	})
	if i < 0 {
		t.Fatal("README has no config for its first screen")
	}
	postgresPort, redisPort := fmt.Sprint(ports.FreePort(t)), fmt.Sprint(ports.FreePort(t))
	root := filepath.Join(w.home, "shop")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	w.writeFile(root, ".localport.toml", strings.NewReplacer("local_port = 5432", "local_port = "+postgresPort, "local_port = 6379", "local_port = "+redisPort,
		"remote_port = 6379", fmt.Sprint("remote_port = ", cache.Port), "10.0.0.5", "127.0.0.1").Replace(configs[i]))
	w.mustRun(root, "allow")

	// The table that the screen counts.
	script := `psql -v ON_ERROR_STOP=1 -qc 'create role app superuser login' -c 'create database app owner app' "postgres://postgres@$POSTGRES_HOST:$POSTGRES_PORT/postgres" &&
		psql -v ON_ERROR_STOP=1 -qc 'create table orders as select generate_series(1, 1742) as id' "$DATABASE_URL"`
	w.mustRun(root, "exec", "--", "sh", "-c", script)
	w.mustRun(root, "stop")

	sh := shellpty.Start(t, shellpty.Config{Shell: "bash", RC: "stty cols 200 rows 24\n" + `eval "$(localport hook bash)"`, Dir: w.home, Home: w.home, Env: w.env[2:]})
	shown := strings.NewReplacer(postgresPort, "5432", redisPort, "6379", " (starting)", "") // a slow shell may find that one has started
	for _, part := range strings.Split("\n"+readmeFirstScreen, "\n$ ")[1:] {
		command, want, _ := strings.Cut(part, "\n")
		if code := sh.Run(command); code != 0 {
			t.Errorf("%s: exit %d", command, code)
		}
		if got := strings.TrimSpace(shown.Replace(sh.Output())); got != strings.TrimSpace(shown.Replace(want)) {
			t.Errorf("%s: got\n%s\nREADME says\n%s", command, got, want)
		}
	}
	if env := sh.Environ(); hasVariable(env, "DATABASE_URL") {
		t.Error("DATABASE_URL is left")
	}
	eventually(t, "the ports are closed", func() bool {
		_, err := ask("127.0.0.1:"+postgresPort, "")
		return err != nil
	})
}
