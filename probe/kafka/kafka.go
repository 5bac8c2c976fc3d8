// Package kafka checks a Kafka broker by fetching its metadata, and checks whether the addresses that it advertises to clients
// can be reached from here: if not, no client works, even if the broker is healthy.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/probe/secure"
	"github.com/localport-sh/localport/project"
)

// Type is the check of type "kafka": ApiVersions, the login if there is one, and Metadata, all from the one broker that
// the tunnel leads to. With a topic, that must have a leader for every partition.
var Type = probe.Type{
	CheckType: project.CheckType{Name: "kafka", Keys: append([]project.Key{
		{Name: "sasl", Values: slices.Sorted(maps.Keys(mechanisms))},
		{Name: "user", Aliases: []string{"username"}},
		{Name: "password", Secret: true},
		{Name: "topic"},
		{Name: "advertised", Default: advertisedCheck, Values: []string{advertisedCheck, advertisedIgnore}},
	}, secure.Keys...)},
	New: func(s project.Settings) (probe.Check, error) {
		config, err := secure.Config(s)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, dialer probe.Dialer) error {
			conn, err := secure.Dial(ctx, dialer, config)
			if err != nil {
				return err
			}
			defer conn.Close()
			return check(ctx, dialer, conn, s, config != nil)
		}, nil
	},
}

// The values of health_check.advertised.
const (
	advertisedCheck  = "check"
	advertisedIgnore = "ignore"
)

func check(ctx context.Context, dialer probe.Dialer, conn net.Conn, s project.Settings, usesTLS bool) error {
	b := &broker{conn: conn}
	if err := b.fetchVersions(); err != nil {
		return b.explainError(ctx, err, usesTLS)
	}
	if mechanism := s.Text("sasl"); mechanism != "" {
		if err := b.login(ctx, mechanism, s.Text("user"), s.Text("password")); err != nil {
			return b.explainError(ctx, err, usesTLS)
		}
	}
	metadata, err := b.fetchMetadata(s.Text("topic"))
	if err != nil {
		if s.Text("sasl") == "" {
			err = withHint(err, `if the listener requires a login, set health_check.sasl to "plain", "scram-sha-256" or "scram-sha-512"`)
		}
		return b.explainError(ctx, err, usesTLS)
	}
	if err := checkTopic(metadata); err != nil {
		return err
	}
	if s.Text("advertised") == advertisedIgnore {
		return nil
	}
	return checkAdvertisedAddresses(ctx, dialer, metadata.Brokers)
}

// fetchVersions fetches the request versions that the broker supports. Every broker answers version 0 of ApiVersions.
func (b *broker) fetchVersions() error {
	response := kmsg.NewPtrApiVersionsResponse()
	if err := b.request(kmsg.NewPtrApiVersionsRequest(), response, 0); err != nil {
		return err
	}
	if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
		return err
	}
	b.maxVersions = make(map[int16]int16, len(response.ApiKeys))
	for _, key := range response.ApiKeys {
		b.maxVersions[key.ApiKey] = key.MaxVersion
	}
	return nil
}

func (b *broker) fetchMetadata(topic string) (*kmsg.MetadataResponse, error) {
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = []kmsg.MetadataRequestTopic{}
	if topic != "" {
		requested := kmsg.NewMetadataRequestTopic()
		requested.Topic = &topic
		request.Topics = append(request.Topics, requested)
	}
	request.AllowAutoTopicCreation = false
	response := kmsg.NewPtrMetadataResponse()
	const newest = 12
	return response, b.request(request, response, min(newest, b.maxVersions[request.Key()]))
}

func checkTopic(metadata *kmsg.MetadataResponse) error {
	for _, topic := range metadata.Topics {
		if err := kerr.ErrorForCode(topic.ErrorCode); err != nil {
			return &probe.Failure{Reason: fmt.Sprintf("topic %q: %v", *topic.Topic, err), Hint: "check health_check.topic"}
		}
		for _, partition := range topic.Partitions {
			if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
				return &probe.Failure{Reason: fmt.Sprintf("topic %q, partition %d: %v", *topic.Topic, partition.Partition, err)}
			}
		}
	}
	return nil
}

// withHint adds a hint to an error that has none.
func withHint(err error, hint string) error {
	failure, ok := errors.AsType[*probe.Failure](err)
	if ok && failure.Hint != "" {
		return err
	}
	return &hintError{err, hint}
}

type hintError struct {
	error
	hint string
}

func (h *hintError) Unwrap() error { return h.error }
