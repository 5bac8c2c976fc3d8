package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	"github.com/localport-sh/localport/testdata/certs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// query logs in to the server that a DSN names and runs a query.
func query(t *testing.T, dsn, query string) error {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.Exec(query)
	return err
}

func errorCode(err error) uint16 {
	if serverError, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return serverError.Number
	}
	return 0
}

const createTable = "CREATE TABLE IF NOT EXISTS kept (n int)"

func TestServer_AcceptsPasswordAndRootOnlyBySocket(t *testing.T) {
	s := Start(t, Options{Password: `it's`})
	if err := query(t, "app:it's@tcp("+s.Addr()+")/app", createTable); err != nil {
		t.Error(err)
	}
	if err := query(t, "root@unix("+s.Socket+")/", "SELECT 1"); err != nil {
		t.Error(err)
	}
	for _, user := range []string{"app:wrong", "app", "root", "nobody"} {
		if err := query(t, user+"@tcp("+s.Addr()+")/", "SELECT 1"); errorCode(err) != 1045 {
			t.Errorf("%s: %v", user, err)
		}
	}
}

func TestServer_RestartKeepsPortDataAndTLS(t *testing.T) {
	s := Start(t, Options{TLS: true})
	if err := mysql.RegisterTLSConfig("ours", certs.ClientConfig(t, s.CAFile)); err != nil {
		t.Fatal(err)
	}
	dsn := "app@tcp(" + s.Addr() + ")/app?tls=ours"
	if err := query(t, dsn, createTable); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	if err := query(t, dsn, "SELECT * FROM kept"); err != nil {
		t.Error(err)
	}
}

func TestServer_RefusesConnectionsBeyondLimit(t *testing.T) {
	s := Start(t, Options{MaxConnections: 10})
	db, err := sql.Open("mysql", "app@tcp("+s.Addr()+")/app")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for range 10 {
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if err := query(t, "app@tcp("+s.Addr()+")/app", "SELECT 1"); errorCode(err) != 1040 {
		t.Errorf("got %v", err)
	}
}

func TestServer_BlocksAddressAfterBrokenHandshakes(t *testing.T) {
	s := Start(t, Options{MaxConnectErrors: 2})
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	mysql.RegisterDialContext("other", func(ctx context.Context, addr string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", addr)
	})
	for range 4 {
		conn, err := dialer.Dial("tcp", s.Addr())
		if err != nil {
			t.Skip(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	err := query(t, fmt.Sprintf("app@other(%s)/app", s.Addr()), "SELECT 1")
	if errorCode(err) != 1129 {
		t.Errorf("got %v\n%s", err, s.Log())
	}
}
