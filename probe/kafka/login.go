package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/localport-sh/localport/probe"
)

// mechanisms are the values of health_check.sasl.
var mechanisms = map[string]func(user, password string) sasl.Mechanism{
	"plain": func(user, password string) sasl.Mechanism {
		return plain.Auth{User: user, Pass: password}.AsMechanism()
	},
	"scram-sha-256": func(user, password string) sasl.Mechanism {
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
	},
	"scram-sha-512": func(user, password string) sasl.Mechanism {
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
	},
}

const checkLoginHint = "check health_check.user and health_check.password"

// login sends SaslHandshake, then SaslAuthenticate as often as the mechanism requires. None of its errors holds the password.
func (b *broker) login(ctx context.Context, name, user, password string) error {
	if user == "" || password == "" {
		return &probe.Failure{Reason: "health_check.sasl requires a user and a password", Hint: checkLoginHint}
	}
	mechanism := mechanisms[name](user, password)
	if err := b.handshake(mechanism.Name()); err != nil {
		return err
	}
	session, message, err := mechanism.Authenticate(ctx, "localhost")
	for done := false; err == nil; {
		var challenge []byte
		if challenge, err = b.authenticate(message); err != nil || done {
			return err
		}
		if done, message, err = session.Challenge(challenge); done && len(message) == 0 {
			return err
		}
	}
	return &probe.Failure{Reason: "the login failed: " + err.Error(), Hint: checkLoginHint}
}

// describeMechanisms says which mechanisms a broker supports.
func describeMechanisms(supported []string) string {
	if len(supported) == 0 {
		return "nor any other"
	}
	return "only " + strings.Join(supported, ", ")
}

func (b *broker) handshake(mechanism string) error {
	request, response := kmsg.NewPtrSASLHandshakeRequest(), kmsg.NewPtrSASLHandshakeResponse()
	request.Mechanism = mechanism
	if err := b.request(request, response, 1); err != nil {
		return err
	}
	switch err := kerr.ErrorForCode(response.ErrorCode); {
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return &probe.Failure{
			Reason: fmt.Sprintf("the broker does not support SASL mechanism %s, %s", mechanism, describeMechanisms(response.SupportedMechanisms)),
			Hint:   "set health_check.sasl",
		}
	case errors.Is(err, kerr.IllegalSaslState):
		return &probe.Failure{Reason: "this listener does not accept logins: " + err.Error(), Hint: "remove health_check.sasl, or set remote_port to the port of a SASL listener"}
	default:
		return err
	}
}

func (b *broker) authenticate(message []byte) ([]byte, error) {
	request, response := kmsg.NewPtrSASLAuthenticateRequest(), kmsg.NewPtrSASLAuthenticateResponse()
	request.SASLAuthBytes = message
	if err := b.request(request, response, 1); err != nil {
		return nil, err
	}
	err := kerr.ErrorForCode(response.ErrorCode)
	if err == nil {
		return response.SASLAuthBytes, nil
	}
	brokerErr, _ := errors.AsType[*kerr.Error](err)
	reason := brokerErr.Message
	if response.ErrorMessage != nil {
		reason += ": " + *response.ErrorMessage
	}
	return nil, &probe.Failure{Reason: reason, Hint: checkLoginHint}
}
