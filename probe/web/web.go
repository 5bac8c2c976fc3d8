// Package web checks an HTTP server with a request.
package web

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/localport-sh/localport/forwarder/printable"
	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/probe/secure"
	"github.com/localport-sh/localport/project"
)

// HTTP is the check of type "http", HTTPS that of type "https": healthy if the status is one of those expected, or with
// none given 2xx or 3xx, and the body matches. Redirects are not followed, because their targets are other servers.
var (
	HTTP  = probe.Type{CheckType: project.CheckType{Name: "http", Keys: keys}, New: newHTTP}
	HTTPS = probe.Type{
		CheckType: project.CheckType{Name: "https", Keys: append(slices.Clone(keys), secure.VerificationKeys...)},
		New:       newHTTPS,
	}
)

var keys = []project.Key{
	{Name: "path", Aliases: []string{"url", "endpoint", "uri", "http_path"}, Default: "/", Validate: validatePath},
	{Name: "method", Default: http.MethodGet, Validate: validateMethod},
	{Name: "expected_status", Aliases: []string{"status", "status_code", "expect_status", "code"}, Type: project.TypeNumberList, Validate: validateStatuses},
	{Name: "expected_body", Aliases: []string{"body", "contains", "expect_body"}, Validate: validateBody}, // text, or /a regular expression/
	secure.HeadersKey,
	{Name: "host"},
}

// maxBodySize is the number of bytes of a body that are read.
const maxBodySize = 1 << 20

func newHTTP(s project.Settings) (probe.Check, error) { return newCheck(s, nil) }

func newHTTPS(s project.Settings) (probe.Check, error) {
	config, err := secure.RequiredConfig(s, s.Text("host"))
	if err != nil {
		return nil, err
	}
	return newCheck(s, config)
}

// request is what a check sends, and the response that it expects.
type request struct {
	project.Settings
	tlsConfig   *tls.Config
	matchesBody func(body string) bool
}

func newCheck(s project.Settings, config *tls.Config) (probe.Check, error) {
	r := request{Settings: s, tlsConfig: config}
	r.matchesBody, _ = newBodyMatcher(s.Text("expected_body")) // Validate has parsed it
	return r.check, nil
}

func (r request) check(ctx context.Context, dialer probe.Dialer) error {
	request, err := r.newRequest(ctx)
	if err != nil {
		return err
	}
	conn, err := secure.Dial(ctx, dialer, r.tlsConfig)
	if err != nil {
		return r.explainError(ctx, err)
	}
	defer conn.Close()
	response, err := roundTrip(conn, request)
	if err != nil {
		return r.explainError(ctx, err)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBodySize))
	if err != nil {
		return r.explainError(ctx, err)
	}
	return r.checkResponse(response, string(body))
}

// maxHeadSize is the maximum number of bytes before a body.
const maxHeadSize = 1 << 20

// roundTrip sends the request and reads the response. It does not use http.Transport, which takes
// what a server sends before the request as an unsolicited response, and prints it on stderr.
func roundTrip(conn net.Conn, request *http.Request) (*http.Response, error) {
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(io.LimitReader(conn, maxHeadSize+maxBodySize))
	for {
		response, err := http.ReadResponse(reader, request)
		if err != nil || response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, err
		}
	}
}

func (r request) newRequest(ctx context.Context) (*http.Request, error) {
	scheme := "http"
	if r.tlsConfig != nil {
		scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, r.Text("method"), scheme+"://localhost"+r.Text("path"), nil)
	if err != nil {
		return nil, err
	}
	request.Host, request.Close = cmp.Or(r.Text("host"), "localhost"), true
	request.Header.Set("User-Agent", "localport")
	for name, value := range r.Table("headers") {
		request.Header.Set(name, value)
		if strings.EqualFold(name, "Host") {
			request.Host = value
		}
	}
	return request, nil
}

func (r request) checkResponse(response *http.Response, body string) error {
	if !r.isExpectedStatus(response.StatusCode) {
		return &probe.Failure{
			Reason: fmt.Sprintf("%s %s: %s%s", r.Text("method"), r.Text("path"), response.Status, excerpt(body)),
			Hint:   r.hintFor(response.StatusCode),
		}
	}
	if !r.matchesBody(body) {
		return &probe.Failure{Reason: fmt.Sprintf("%s %s: %s, but the body does not match expected_body%s",
			r.Text("method"), r.Text("path"), response.Status, excerpt(body))}
	}
	return nil
}

func (r request) isExpectedStatus(status int) bool {
	if codes := r.NumberList("expected_status"); len(codes) > 0 {
		return slices.Contains(codes, status)
	}
	return status >= 200 && status < 400
}

// tryHTTPSHint is for a server that does not understand HTTP.
const tryHTTPSHint = `if the server uses TLS, set health_check.type = "https"`

func (r request) hintFor(status int) string {
	switch status {
	case http.StatusBadRequest:
		if r.tlsConfig == nil {
			return tryHTTPSHint
		}
	case http.StatusUnauthorized, http.StatusForbidden:
		return "set credentials in health_check.headers, or use a health_check.path that needs none"
	case http.StatusNotFound:
		return "check health_check.path"
	case http.StatusMisdirectedRequest:
		return "check health_check.host"
	}
	return ""
}

// markupPattern matches HTML tags, styles and scripts.
var markupPattern = project.LazyRegexp(`(?is)<(style|script)\b.*?</(style|script)\s*>|<[^>]*>`)

// excerpt returns the first words of a body, for a message.
func excerpt(body string) string {
	const maxLength = 80 // characters
	if strings.HasPrefix(strings.TrimSpace(body), "<") {
		body = markupPattern().ReplaceAllString(body[:min(len(body), 16<<10)], " ")
	}
	words := strings.Join(strings.Fields(body), " ")
	if words == "" {
		return ""
	}
	return ": " + printable.Truncate(words, maxLength)
}

func (r request) explainError(ctx context.Context, err error) error {
	if ctx.Err() != nil || !strings.Contains(err.Error(), "malformed HTTP") {
		return secure.ExplainResponseError(ctx, err)
	}
	failure := &probe.Failure{Reason: "the answer is not HTTP: " + err.Error(), Hint: "check remote_port"}
	if r.tlsConfig == nil {
		failure.Hint = tryHTTPSHint
	}
	return failure
}

func validatePath(value any) error {
	if path := value.(string); !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " \r\n") {
		return errors.New(`must start with "/" and contain no spaces`)
	}
	if _, err := url.ParseRequestURI(value.(string)); err != nil {
		return errors.New(`invalid URL path: write "%" as "%25"`)
	}
	return nil
}

func validateMethod(value any) error {
	if _, err := http.NewRequest(value.(string), "http://localhost/", nil); err != nil {
		return errors.New("invalid HTTP method")
	}
	return nil
}

func validateStatuses(value any) error {
	for _, code := range value.([]int) {
		if code < 100 || code > 599 {
			return fmt.Errorf("invalid HTTP status %d: must be 100-599", code)
		}
	}
	return nil
}

func validateBody(value any) error {
	_, err := newBodyMatcher(value.(string))
	return err
}

// newBodyMatcher returns a function that matches a body: it must contain the text, or match an expression between slashes.
func newBodyMatcher(expected string) (func(string) bool, error) {
	if len(expected) > 2 && strings.HasPrefix(expected, "/") && strings.HasSuffix(expected, "/") {
		re, err := regexp.Compile(expected[1 : len(expected)-1])
		if err != nil {
			return nil, err
		}
		return re.MatchString, nil
	}
	return func(body string) bool { return strings.Contains(body, expected) }, nil
}
