package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// query logs in with connection settings and runs a query.
func query(s *Server, settings string) error {
	conn, err := pgconn.Connect(context.Background(), fmt.Sprintf("host=%s port=%d user=app database=app %s", s.Host, s.Port, settings))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(context.Background(), "CREATE TABLE IF NOT EXISTS kept (n int)").ReadAll()
	return err
}

func errorCode(err error) string {
	if serverError, ok := errors.AsType[*pgconn.PgError](err); ok {
		return serverError.Code
	}
	return fmt.Sprint(err)
}

func TestServer_EveryAuthMethodAcceptsOnlyItsUser(t *testing.T) {
	for _, auth := range []string{"scram-sha-256", "md5", "password", "trust"} {
		t.Run(auth, func(t *testing.T) {
			s := Start(t, Options{Password: "it's", Auth: auth})
			if err := query(s, `sslmode=disable password='it\'s'`); err != nil {
				t.Fatal(err)
			}
			if got := errorCode(query(s, "sslmode=disable password=wrong")); auth != "trust" && got != "28P01" {
				t.Errorf("a wrong password: %s", got)
			}
		})
	}
}

func TestServer_RestartKeepsPortAndData(t *testing.T) {
	s := Start(t, Options{TLS: true})
	settings := "sslmode=verify-full sslrootcert=" + s.CAFile
	if err := query(s, settings); err != nil {
		t.Fatal(err)
	}
	addr := s.Addr()
	s.Stop()
	if err := query(s, settings); err == nil {
		t.Error("it answers after Stop")
	}
	s.Restart()
	if err := query(s, settings); err != nil || s.Addr() != addr {
		t.Errorf("%s, before %s: %v", s.Addr(), addr, err)
	}
}

func TestServer_StandbyRefusesConnections(t *testing.T) {
	s := Start(t, Options{}).StartStandby(t)
	if err := query(s, "sslmode=disable"); errorCode(err) != "57P03" {
		t.Errorf("got %v", err)
	}
}

func TestServer_RefusesConnectionsBeyondLimit(t *testing.T) {
	s := Start(t, Options{MaxConnections: 1})
	conn, err := pgconn.Connect(t.Context(), fmt.Sprintf("host=%s port=%d user=app sslmode=disable", s.Host, s.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := query(s, "sslmode=disable"); errorCode(err) != "53300" || !strings.Contains(err.Error(), "too many clients") {
		t.Errorf("got %v", err)
	}
}
