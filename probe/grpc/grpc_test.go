package grpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/certs"
	"github.com/localport-sh/localport/testdata/nginx"
	"github.com/localport-sh/localport/testdata/ports"
	"github.com/localport-sh/localport/testdata/probetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// directDialer dials an address directly.
type directDialer string

func (d directDialer) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", string(d))
}
func (p directDialer) Acknowledges() bool { return true }

func runCheck(t *testing.T, addr string, settings project.Settings) error {
	t.Helper()
	check, err := Type.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return check(ctx, directDialer(addr))
}

// startServer serves on an address of its own until the test ends.
func startServer(t *testing.T, server *grpc.Server) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// startHealthServer starts a server with the standard health service.
func startHealthServer(t *testing.T, options ...grpc.ServerOption) (addr string, service *health.Server) {
	t.Helper()
	server := grpc.NewServer(options...)
	service = health.NewServer()
	healthpb.RegisterHealthServer(server, service)
	return startServer(t, server), service
}

func TestCheck_SucceedsOnServing(t *testing.T) {
	addr, service := startHealthServer(t)
	long := "shop." + strings.Repeat("v", 300)
	service.SetServingStatus("shop.Orders", healthpb.HealthCheckResponse_SERVING)
	service.SetServingStatus(long, healthpb.HealthCheckResponse_SERVING)
	for _, name := range []string{"", "shop.Orders", long} {
		if err := runCheck(t, addr, project.Settings{"service": name}); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestCheck_NamesWhatIsNotServing(t *testing.T) {
	addr, service := startHealthServer(t)
	service.SetServingStatus("shop.Orders", healthpb.HealthCheckResponse_NOT_SERVING)
	service.SetServingStatus("shop.Stock", healthpb.HealthCheckResponse_UNKNOWN)
	probetest.RequireFailure(t, runCheck(t, addr, project.Settings{"service": "shop.Orders"}), `service "shop.Orders" is NOT_SERVING`)
	probetest.RequireFailure(t, runCheck(t, addr, project.Settings{"service": "shop.Stock"}), `service "shop.Stock" is UNKNOWN`)
	probetest.RequireFailure(t, runCheck(t, addr, project.Settings{"service": "shop.Nothing"}), `does not know service "shop.Nothing"`, "health_check.service")
	service.Shutdown()
	probetest.RequireFailure(t, runCheck(t, addr, nil), "the server is NOT_SERVING")
}

func TestCheck_ReportsAMissingHealthService(t *testing.T) {
	probetest.RequireFailure(t, runCheck(t, startServer(t, grpc.NewServer()), nil), "does not have the health service", "unknown service grpc.health.v1.Health", `"tcp"`)
}

// requireToken accepts calls with the token, and rejects others with the reason.
func requireToken(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	given, _ := metadata.FromIncomingContext(ctx)
	switch strings.Join(given.Get("authorization"), "") {
	case "Bearer opensesame":
		return handle(ctx, request)
	case "":
		return nil, status.Error(codes.Unauthenticated, "no token – 100% sure")
	}
	return nil, status.Error(codes.PermissionDenied, "wrong token")
}

func TestCheck_SendsCredentialsAndNeverPrintsThem(t *testing.T) {
	addr, _ := startHealthServer(t, grpc.UnaryInterceptor(requireToken))
	headers := map[string]string{"Authorization": "Bearer opensesame"}
	if err := runCheck(t, addr, project.Settings{"headers": headers}); err != nil {
		t.Error(err)
	}
	probetest.RequireFailure(t, runCheck(t, addr, nil), "UNAUTHENTICATED: no token – 100% sure", "health_check.headers")
	headers["Authorization"] = "Bearer hunter2"
	err := runCheck(t, addr, project.Settings{"headers": headers})
	probetest.RequireFailure(t, err, "PERMISSION_DENIED: wrong token")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the secret is in %q", err)
	}
}

func TestCheck_SendsTheAuthority(t *testing.T) {
	addr, _ := startHealthServer(t, grpc.UnaryInterceptor(
		func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
			given, _ := metadata.FromIncomingContext(ctx)
			return nil, status.Error(codes.Aborted, strings.Join(given.Get(":authority"), ""))
		}))
	probetest.RequireFailure(t, runCheck(t, addr, project.Settings{"authority": "shop.test"}), "ABORTED: shop.test")
}

func TestCheck_VerifiesTLS(t *testing.T) {
	ca := certs.NewAuthority(t)
	cert, key := ca.Sign(certs.Leaf{Names: []string{"shop.test"}})
	secured, err := credentials.NewServerTLSFromFile(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := startHealthServer(t, grpc.Creds(secured))
	for name, settings := range map[string]project.Settings{
		"authority of certificates": {"ca_file": ca.File},
		"authority":                 {"ca_file": ca.File, "authority": "shop.test:443"},
		"server_name":               {"ca_file": ca.File, "server_name": "shop.test"},
		"not verified":              {"tls_verify": false},
	} {
		if _, ok := settings["tls_verify"]; !ok {
			settings["tls_verify"] = true
		}
		settings["tls"] = true
		if err := runCheck(t, addr, settings); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	probetest.RequireFailure(t, runCheck(t, addr, project.Settings{"tls": true, "tls_verify": true}), "unknown authority", "ca_file")
	probetest.RequireFailure(t, runCheck(t, addr, project.Settings{"tls": true, "tls_verify": true, "ca_file": ca.File, "authority": "other.test"}), "not other.test")
}

func TestCheck_ReportsAServerWithoutHTTP2(t *testing.T) {
	ca := certs.NewAuthority(t)
	cert, key := ca.Sign(certs.Leaf{})
	plain, secured := nginx.Start(t), nginx.StartTLS(t, cert, key)
	overTLS := project.Settings{"tls": true, "tls_verify": true, "ca_file": ca.File}
	probetest.RequireFailure(t, runCheck(t, plain.Addr, nil), "does not support HTTP/2", "remote_port")
	probetest.RequireFailure(t, runCheck(t, secured.Addr, nil), "does not support HTTP/2", "tls")
	probetest.RequireFailure(t, runCheck(t, secured.Addr, overTLS), "no application protocol")
	probetest.RequireFailure(t, runCheck(t, plain.Addr, overTLS), "does not use TLS", "tls = false")
}

func TestCheck_ReportsAnHTTP2ServerWithoutGRPC(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	probetest.RequireFailure(t, runCheck(t, server.Listener.Addr().String(), nil), "the answer is not gRPC: 404")
}

func TestCheck_UnreachableServerIsNotAServiceFailure(t *testing.T) {
	err := runCheck(t, fmt.Sprintf("127.0.0.1:%d", ports.FreePort(t)), nil)
	if _, answered := errors.AsType[*probe.Failure](err); answered || err == nil {
		t.Errorf("got %v", err)
	}
}

func TestCheck_EndsWithItsContext(t *testing.T) {
	asked := make(chan struct{})
	addr, _ := startHealthServer(t, grpc.UnaryInterceptor(
		func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
			close(asked)
			<-ctx.Done()
			return nil, ctx.Err()
		}))
	check, err := Type.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if err := check(ctx, directDialer(addr)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
