// Package web checks an HTTP server by asking for a page.
package web

import (
	"bufio"
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
	"sync"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/probe/secure"
	"github.com/localport-sh/localport/project"
)

// HTTP is the check of type "http", HTTPS that of type "https": well when the status is one of those expected, or with
// none given 2xx or 3xx, and the body holds what is expected. Redirects are not followed: their targets lie elsewhere.
var (
	HTTP  = probe.Kind{CheckType: project.CheckType{Name: "http", Keys: keys}, New: newHTTP}
	HTTPS = probe.Kind{
		CheckType: project.CheckType{Name: "https", Keys: append(slices.Clone(keys), secure.Verification...)},
		New:       newHTTPS,
	}
)

var keys = []project.Key{
	{Name: "path", Default: "/", Validate: absolute},
	{Name: "method", Default: http.MethodGet, Validate: token},
	{Name: "expected_status", Type: project.TypeNumberList, Validate: statuses},
	{Name: "expected_body", Validate: pattern}, // text, or /a regular expression/
	secure.Headers,
	{Name: "host"},
}

// mostBody is how much of a body is looked at, in bytes.
const mostBody = 1 << 20

func newHTTP(s project.Settings) (probe.Check, error) { return newCheck(s, nil) }

func newHTTPS(s project.Settings) (probe.Check, error) {
	config, err := secure.Always(s, s.Text("host"))
	if err != nil {
		return nil, err
	}
	return newCheck(s, config)
}

// page is what is asked for, and what is to come back.
type page struct {
	project.Settings
	secured  *tls.Config
	expected func(body string) bool
}

func newCheck(s project.Settings, secured *tls.Config) (probe.Check, error) {
	p := page{Settings: s, secured: secured}
	p.expected, _ = matcher(s.Text("expected_body")) // Valid has seen it
	return p.check, nil
}

func (p page) check(ctx context.Context, path probe.Path) error {
	request, err := p.request(ctx)
	if err != nil {
		return err
	}
	conn, err := secure.Dial(ctx, path, p.secured)
	if err != nil {
		return p.explain(ctx, err)
	}
	defer conn.Close()
	response, err := exchange(conn, request)
	if err != nil {
		return p.explain(ctx, err)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, mostBody))
	if err != nil {
		return p.explain(ctx, err)
	}
	return p.judge(response, string(body))
}

// mostHead is how much may come before a body, in bytes.
const mostHead = 1 << 20

// exchange asks and reads the answer, whose body the connection bounds. It does without http.Transport, which takes
// what a server says before it is asked for an answer to nothing, and puts that on stderr.
func exchange(conn net.Conn, request *http.Request) (*http.Response, error) {
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(io.LimitReader(conn, mostHead+mostBody))
	for {
		response, err := http.ReadResponse(reader, request)
		if err != nil || response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, err
		}
	}
}

func (p page) request(ctx context.Context) (*http.Request, error) {
	scheme := "http"
	if p.secured != nil {
		scheme = "https"
	}
	host := p.Text("host")
	if host == "" {
		host = "localhost"
	}
	request, err := http.NewRequestWithContext(ctx, p.Text("method"), scheme+"://localhost"+p.Text("path"), nil)
	if err != nil {
		return nil, err
	}
	request.Host, request.Close = host, true
	request.Header.Set("User-Agent", "localport")
	for name, value := range p.Table("headers") {
		request.Header.Set(name, value)
		if strings.EqualFold(name, "Host") {
			request.Host = value
		}
	}
	return request, nil
}

func (p page) judge(response *http.Response, body string) error {
	if !p.expects(response.StatusCode) {
		return &probe.Failure{
			Reason: fmt.Sprintf("%s %s: %s%s", p.Text("method"), p.Text("path"), response.Status, excerpt(body)),
			Hint:   p.advice(response.StatusCode),
		}
	}
	if !p.expected(body) {
		return &probe.Failure{Reason: fmt.Sprintf("%s %s: %s, but the body does not hold what is expected%s",
			p.Text("method"), p.Text("path"), response.Status, excerpt(body))}
	}
	return nil
}

func (p page) expects(status int) bool {
	if codes := p.NumberList("expected_status"); len(codes) > 0 {
		return slices.Contains(codes, status)
	}
	return status >= 200 && status < 400
}

// tryHTTPS is for a server that does not understand us.
const tryHTTPS = `does it speak TLS? health_check.type = "https"`

func (p page) advice(status int) string {
	switch status {
	case http.StatusBadRequest:
		if p.secured == nil {
			return tryHTTPS
		}
	case http.StatusUnauthorized, http.StatusForbidden:
		return "health_check: headers can carry credentials, or name a path that needs none"
	case http.StatusNotFound:
		return "health_check: path"
	case http.StatusMisdirectedRequest:
		return "health_check: host"
	}
	return ""
}

// markup is what a page for people has around its words.
var markup = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?is)<(style|script)\b.*?</(style|script)\s*>|<[^>]*>`)
})

// excerpt is the first words of a body, for a message.
func excerpt(body string) string {
	const most = 80
	if strings.HasPrefix(strings.TrimSpace(body), "<") {
		body = markup().ReplaceAllString(body[:min(len(body), 16<<10)], " ")
	}
	words := strings.Join(strings.Fields(body), " ")
	if words == "" {
		return ""
	}
	if runes := []rune(words); len(runes) > most {
		words = string(runes[:most]) + "…"
	}
	return ": " + words
}

func (p page) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("ask: %w", ctx.Err())
	}
	if strings.Contains(err.Error(), "malformed HTTP") {
		failure := &probe.Failure{Reason: "the answer is not HTTP: " + err.Error(), Hint: "check remote_port"}
		if p.secured == nil {
			failure.Hint = tryHTTPS
		}
		return failure
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the far end closed the connection instead of answering")
	}
	return secure.Explain(err)
}

func absolute(value any) error {
	if path := value.(string); !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " \r\n") {
		return errors.New(`must begin with "/" and hold no spaces`)
	}
	if _, err := url.ParseRequestURI(value.(string)); err != nil {
		return errors.New("is no path of a URL: % is written as %25")
	}
	return nil
}

func token(value any) error {
	if _, err := http.NewRequest(value.(string), "http://localhost/", nil); err != nil {
		return errors.New("is no method of HTTP")
	}
	return nil
}

func statuses(value any) error {
	for _, code := range value.([]int) {
		if code < 100 || code > 599 {
			return fmt.Errorf("%d is no status of HTTP: 100-599", code)
		}
	}
	return nil
}

func pattern(value any) error {
	_, err := matcher(value.(string))
	return err
}

// matcher is what a body must match: a text that it holds, or an expression between slashes.
func matcher(expected string) (func(string) bool, error) {
	if len(expected) > 2 && strings.HasPrefix(expected, "/") && strings.HasSuffix(expected, "/") {
		re, err := regexp.Compile(expected[1 : len(expected)-1])
		if err != nil {
			return nil, err
		}
		return re.MatchString, nil
	}
	return func(body string) bool { return strings.Contains(body, expected) }, nil
}
