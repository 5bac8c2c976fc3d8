package convert

import (
	"fmt"

	"github.com/localport-sh/localport/project/draft"
)

// LikelyChecks returns the health checks that a server of a protocol may pass without a password, the likeliest first; none if only tcp is
// known to fit.
func LikelyChecks(protocol Protocol) []draft.Table {
	check := func(entries ...draft.Entry) draft.Table {
		return append(draft.Table{{Key: "type", Value: string(protocol)}}, entries...)
	}
	insecure := draft.Entry{Key: "tls_verify", Value: false} // the certificate is for another name than localhost
	switch protocol {
	case Unknown:
		return nil
	case HTTP:
		return []draft.Table{check(pathEntry("/healthz")), check(pathEntry("/health")), check(pathEntry("/"))}
	case HTTPS:
		return []draft.Table{check(pathEntry("/healthz"), insecure), check(pathEntry("/"), insecure)}
	case Kafka:
		return []draft.Table{check(), check(draft.Entry{Key: "advertised", Value: "ignore"})}
	}
	return []draft.Table{check()}
}

func pathEntry(path string) draft.Entry { return draft.Entry{Key: "path", Value: path} }

// SuggestCheck adds the health check of a protocol as a comment, for a server that has not passed one of LikelyChecks. reason says why, if it is
// known.
func SuggestCheck(svc *draft.Service, protocol Protocol, reason string) {
	checks := LikelyChecks(protocol)
	if len(checks) == 0 {
		return
	}
	check, password := checks[0], draft.Template(fmt.Sprintf("${%s}", draft.SecretVariable(svc.Name, "password")))
	switch protocol {
	case Postgres:
		check = append(check, draft.Entry{Key: "user", Value: "postgres"}, draft.Entry{Key: "password", Value: password})
	case Redis:
		check = append(check, draft.Entry{Key: "password", Value: password})
	case MQTT:
		check = append(check, draft.Entry{Key: "user", Value: "app"}, draft.Entry{Key: "password", Value: password})
	}
	svc.Suggestions = append(svc.Suggestions, draft.Entry{Key: "health_check", Value: check, Comment: reason})
}
