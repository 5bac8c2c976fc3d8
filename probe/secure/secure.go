// Package secure has what checks over TLS share: the config keys, the TLS configuration they result in, and explanations of
// handshake errors.
package secure

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
)

// Keys are the keys of a check with optional TLS.
var Keys = append([]project.Key{{Name: "tls", Type: project.TypeBool}}, VerificationKeys...)

// VerificationKeys are the keys of a check that always uses TLS.
var VerificationKeys = []project.Key{
	{Name: "tls_verify", Type: project.TypeBool, Default: true},
	{Name: "ca_file", Type: project.TypeFile},
	{Name: "server_name"},
}

// Config returns the TLS configuration for the keys; nil if TLS is off. The certificate's chain is verified against ca_file or the
// system's authorities, its name against server_name: without it the name is not verified, because our address is not the
// server's.
func Config(s project.Settings) (*tls.Config, error) { return ConfigFor(s, "") }

// ConfigFor is Config for a server that is addressed by this host, which may be "" or have a port: without server_name the certificate
// must be valid for it.
func ConfigFor(s project.Settings, host string) (*tls.Config, error) {
	if !s.Bool("tls") {
		return nil, nil
	}
	return RequiredConfig(s, host)
}

// RequiredConfig is ConfigFor for a check that always uses TLS.
func RequiredConfig(s project.Settings, host string) (*tls.Config, error) {
	name := cmp.Or(s.Text("server_name"), hostname(host))
	c := &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}
	if file := s.Text("ca_file"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read ca_file: no certificate in %s", file)
		}
	}
	switch {
	case !s.Bool("tls_verify"):
		c.InsecureSkipVerify = true
	case name == "":
		c.InsecureSkipVerify = true
		c.VerifyConnection = verifyChain(c.RootCAs)
	}
	return c, nil
}

// hostname returns a host without its port and brackets.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// verifyChain returns a function that verifies everything except the name.
func verifyChain(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, certificate := range state.PeerCertificates[1:] {
			options.Intermediates.AddCert(certificate)
		}
		_, err := state.PeerCertificates[0].Verify(options)
		return err
	}
}

// Dial opens a connection to the service, with TLS unless config is nil. It is closed when ctx ends: every read and write fails
// then. The caller closes it.
func Dial(ctx context.Context, dialer probe.Dialer, config *tls.Config) (net.Conn, error) {
	plain, err := dialer.Dial(ctx)
	if err != nil {
		return nil, err
	}
	conn := &contextConn{plain, context.AfterFunc(ctx, func() { _ = plain.Close() }), ctx.Err}
	if config == nil {
		return conn, nil
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, ExplainError(err)
	}
	return secured, nil
}

// ConnectionCheck returns the constructor of a check that runs talk on one connection, with TLS or without.
func ConnectionCheck(check func(conn net.Conn, s project.Settings) error) func(project.Settings) (probe.Check, error) {
	return func(s project.Settings) (probe.Check, error) {
		config, err := Config(s)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, dialer probe.Dialer) error {
			conn, err := Dial(ctx, dialer, config)
			if err != nil {
				return err
			}
			defer conn.Close()
			return check(conn, s)
		}, nil
	}
}

// contextConn is a connection that is closed when a context ends, and then returns the context's error.
type contextConn struct {
	net.Conn
	stop       func() bool
	contextErr func() error // the context's Err
}

func (c *contextConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.explainError(err)
}

func (c *contextConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.explainError(err)
}

func (c *contextConn) explainError(err error) error {
	if err == nil {
		return nil
	}
	if ctxErr := c.contextErr(); ctxErr != nil {
		return ctxErr
	}
	return err
}

func (c *contextConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// ExplainError returns a Failure with a hint for an error of a TLS handshake. Any other error is returned unchanged.
func ExplainError(err error) error {
	var (
		nameErr        x509.HostnameError
		authorityErr   x509.UnknownAuthorityError
		certificateErr x509.CertificateInvalidError
		recordErr      tls.RecordHeaderError
		remoteErr      *net.OpError
	)
	const trustHint = "set health_check.ca_file to the CA certificate, or health_check.tls_verify = false to skip verification"
	switch {
	case errors.As(err, &nameErr):
		return &probe.Failure{Reason: trimPackage(nameErr), Hint: "set health_check.server_name to a name in the certificate"}
	case errors.As(err, &authorityErr):
		return &probe.Failure{Reason: "the certificate is " + describeUnknownAuthority(authorityErr), Hint: trustHint}
	case errors.As(err, &certificateErr) && certificateErr.Reason == x509.Expired:
		return &probe.Failure{Reason: trimPackage(certificateErr), Hint: "renew the certificate on the server, or set health_check.tls_verify = false to skip verification"}
	case errors.As(err, &certificateErr):
		return &probe.Failure{Reason: trimPackage(certificateErr), Hint: trustHint}
	case errors.As(err, &recordErr):
		return &probe.Failure{Reason: "the server does not use TLS on this port", Hint: `set health_check.type = "http" instead of "https", or health_check.tls = false; or check remote_port`}
	case errors.As(err, &remoteErr) && remoteErr.Op == "remote error": // an alert, as crypto/tls reports it
		return &probe.Failure{Reason: "the server ended the TLS handshake: " + strings.TrimPrefix(remoteErr.Err.Error(), "tls: ")}
	}
	return err
}

// ExplainResponseError explains why no response was read: ctx has ended, the server closed the connection, or as ExplainError does.
func ExplainResponseError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("wait for the response: %w", ctx.Err())
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the server closed the connection without answering")
	}
	return ExplainError(err)
}

// trimPackage returns the error's text without the name of its package.
func trimPackage(err error) string { return strings.TrimPrefix(err.Error(), "x509: ") }

func describeUnknownAuthority(err x509.UnknownAuthorityError) string {
	if err.Cert == nil {
		return "signed by an unknown authority"
	}
	return fmt.Sprintf("signed by an unknown authority: %q", err.Cert.Issuer.String())
}
