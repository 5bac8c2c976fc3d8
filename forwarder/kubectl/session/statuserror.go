package session

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// StatusError is an error response of the API server.
type StatusError struct {
	Code    int    `json:"code"`
	Reason  string `json:"reason"` // "NotFound", "Forbidden", …
	Message string `json:"message"`
	Details struct {
		Name string `json:"name"`
		Kind string `json:"kind"` // in the plural: "services"
	} `json:"details"`
}

// Error is the text that kubectl prints.
func (e *StatusError) Error() string {
	if e.Reason == "" {
		return e.Message
	}
	return fmt.Sprintf("Error from server (%s): %s", e.Reason, e.Message)
}

// readStatusError reads an error response and closes its body.
func readStatusError(resp *http.Response) *StatusError {
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	e := &StatusError{}
	if json.Unmarshal(body, e) != nil || e.Message == "" {
		text := strings.TrimSpace(string(body))
		if text == "" || strings.HasPrefix(text, "<") { // an HTML page of a proxy
			text = resp.Status
		}
		e = &StatusError{Message: text}
	}
	e.Code = resp.StatusCode
	if e.Code == http.StatusUnauthorized {
		e.Reason, e.Message = "Unauthorized", "You must be logged in to the server"
	}
	return e
}

// hasStatusCode reports whether err is an error response with this code.
func hasStatusCode(err error, code int) bool {
	e, ok := asStatus(err)
	return ok && e.Code == code
}
