package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// batch is how many messages, and batchBytes how many bytes, are asked for at a time.
const (
	batch      = 1000
	batchBytes = 4 << 20
)

// consumer is a pull consumer of the rule stream ("Reading the rule stream", 3 and 4).
type consumer struct {
	connection *nats.Conn
	api, name  string
	left       int // messages of the batch that have not arrived
}

// createConsumer takes the first of the allowed names that is free.
func (s *sensor) createConsumer() (*consumer, uint64, error) {
	names := s.settings.consumers
	if len(names) == 0 {
		names = []string{"go-" + rand.Text()}
	}
	for _, name := range names {
		pending, code, err := s.tryConsumer(name)
		if err == nil {
			return &consumer{connection: s.connection, api: s.settings.apiPrefix, name: name}, pending, nil
		}
		if code != 10013 && code != 10148 { // the name is taken
			return nil, 0, err
		}
	}
	return nil, 0, errors.New("no consumer of ATTUNE_RULES: all names are taken")
}

func (s *sensor) tryConsumer(name string) (pending uint64, code int, err error) {
	config := map[string]any{
		"name": name, "deliver_policy": "last_per_subject", "ack_policy": "none", "replay_policy": "instant",
		"filter_subject": s.settings.rulesSubject, "inactive_threshold": (10 * time.Second).Nanoseconds(),
		"mem_storage": true, "num_replicas": 1,
		// Two instances with the same configuration would share a consumer.
		"metadata": map[string]string{"attune.dev/reader": rand.Text()},
	}
	body, err := json.Marshal(map[string]any{"stream_name": "ATTUNE_RULES", "action": "create", "config": config})
	if err != nil {
		return 0, 0, err
	}
	subject := s.settings.apiPrefix + ".CONSUMER.CREATE.ATTUNE_RULES." + name + "." + s.settings.rulesSubject
	reply, err := s.connection.Request(subject, body, 5*time.Second)
	if err != nil {
		return 0, 0, fmt.Errorf("no consumer of ATTUNE_RULES: %w", err)
	}
	var answer struct {
		Pending uint64 `json:"num_pending"`
		Error   *struct {
			Description string
			Code        int `json:"err_code"`
		}
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return 0, 0, err
	}
	if answer.Error != nil {
		return 0, answer.Error.Code, fmt.Errorf("no consumer of ATTUNE_RULES: %s", answer.Error.Description)
	}
	return answer.Pending, 0, nil
}

// pull asks for the next batch.
func (c *consumer) pull(inbox string) error {
	c.left = batch
	body, err := json.Marshal(map[string]any{
		"batch": batch, "max_bytes": batchBytes, "expires": time.Minute.Nanoseconds(), "idle_heartbeat": heartbeat.Nanoseconds(),
	})
	if err != nil {
		return err
	}
	return c.connection.PublishRequest(c.api+".CONSUMER.MSG.NEXT.ATTUNE_RULES."+c.name, inbox, body)
}

// endsBatch says whether a status message asks for the next request, and not for another consumer.
func endsBatch(header nats.Header) bool {
	status, text := header.Get("Status"), strings.ToLower(header.Get("Description"))
	return status == "404" || status == "408" || status == "409" && (strings.Contains(text, "maxbytes") || strings.Contains(text, "batch completed"))
}

// delete frees the name.
func (c *consumer) delete() {
	c.connection.Request(c.api+".CONSUMER.DELETE.ATTUNE_RULES."+c.name, nil, time.Second)
}
