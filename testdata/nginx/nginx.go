// Package nginx starts a real nginx for one test: a web server with a page for each way in which one can be well or ill.
package nginx

import (
	"fmt"
	"net"
	"strconv"
	"testing"

	"github.com/localport-sh/localport/testdata/certs"
	"github.com/localport-sh/localport/testdata/daemon"
)

// Name is the one name that the server's certificate is for.
const Name = "shop.internal"

// Options say what the server asks of its clients.
type Options struct {
	User     string // whom /secret lets in; "app" if ""
	Password string // "secret" if ""
}

// Server is a running nginx, with plain HTTP on Addr and HTTPS on TLSAddr. Its pages, the same on both:
//
//	/healthz    200 "ok"
//	/broken     500
//	/secret     200 "in" with the password, else 401
//	/moved      302 to /healthz
//	/echo-host  200 "$host $http_x_token"
//
// and 404 everywhere else.
type Server struct {
	*daemon.Server
	TLSPort int
	CAFile  string // the authority of its certificate
}

// Start starts a server. It ends with the test.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	program := daemon.Find(t, "nginx", "nginx-light")
	dir := daemon.Dir(t, "nginx")
	pair := certs.Issue(t, dir, Name)
	daemon.Own(t, pair.CAFile, pair.CertFile, pair.KeyFile)
	options.passwords(t, dir)
	s := &Server{CAFile: pair.CAFile}
	s.Server = daemon.Start(t, daemon.Spec{
		Dir: dir,
		Argv: func(port int) []string {
			if s.Server == nil { // not a restart
				s.TLSPort = daemon.FreePort(t)
			}
			config := daemon.Write(t, dir, "nginx.conf", fmt.Sprintf(config, port, s.TLSPort))
			return []string{program, "-e", "stderr", "-p", dir, "-c", config}
		},
		Ready: ": nginx/", // it names its version when all its sockets listen
	})
	return s
}

// TLSAddr is Host:TLSPort.
func (s *Server) TLSAddr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.TLSPort)) }

// passwords writes the file that lets into /secret.
func (o Options) passwords(t testing.TB, dir string) {
	t.Helper()
	if o.User == "" {
		o.User = "app"
	}
	if o.Password == "" {
		o.Password = "secret"
	}
	daemon.Write(t, dir, "htpasswd", o.User+":{PLAIN}"+o.Password)
}

// config takes the two ports. One process: a master that is killed would leave its workers behind.
const config = `
daemon off;
master_process off;
pid nginx.pid;
error_log stderr notice;
events { worker_connections 64; }
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	default_type text/plain;
	server {
		listen 127.0.0.1:%d;
		listen 127.0.0.1:%d ssl http2;
		ssl_certificate cert.pem;
		ssl_certificate_key key.pem;
		location = /healthz { return 200 "ok"; }
		location = /broken { return 500; }
		location = /secret {
			auth_basic "shop";
			auth_basic_user_file htpasswd;
			try_files /nothing @in;
		}
		location @in { return 200 "in"; }
		location = /moved { return 302 /healthz; }
		location = /echo-host { return 200 "$host $http_x_token"; }
		location / { return 404; }
	}
}
`
