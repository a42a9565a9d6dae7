package main

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ticker is what this sensor watches: a clock.
type ticker struct {
	rule  *rule
	every time.Duration
}

func newTicker(state *rule) (*ticker, error) {
	var parameters struct {
		Every float64 `json:"every"`
	}
	if err := json.Unmarshal(state.Parameters, &parameters); err != nil {
		return nil, fmt.Errorf("parameters: %w", err)
	}
	if parameters.Every < 0.05 || parameters.Every > 1e6 {
		return nil, errors.New("every: write a number of seconds from 0.05 to 1000000")
	}
	return &ticker{rule: state, every: time.Duration(parameters.Every * float64(time.Second))}, nil
}

// run fires at the rule's creation + k × every, so that nothing drifts and a restart keeps the phase.
func (t *ticker) run(ctx context.Context, delivery *delivery) {
	for {
		k := time.Since(t.rule.CreatedAt)/t.every + 1
		due := t.rule.CreatedAt.Add(k * t.every)
		if !sleep(ctx, time.Until(due)) {
			return
		}
		delivery.add(newEvent(t.rule, due, map[string]any{"k": int64(k)}))
	}
}

// event is one event as the API takes it ("Events").
type event struct {
	ID            string         `json:"id"`
	TriggerType   string         `json:"trigger_type"`
	RuleUID       string         `json:"rule_uid"`
	RuleNamespace string         `json:"rule_namespace"`
	RuleName      string         `json:"rule_name"`
	OccurredAt    string         `json:"occurred_at"`
	Payload       map[string]any `json:"payload"`
}

func newEvent(state *rule, occurred time.Time, payload map[string]any) *event {
	at := occurred.UTC().Format("2006-01-02T15:04:05.000000Z")
	return &event{
		ID: uuid5(state.UID + "/" + at), TriggerType: state.TriggerType,
		RuleUID: state.UID, RuleNamespace: state.Namespace, RuleName: state.Name,
		OccurredAt: at, Payload: payload,
	}
}

var namespace, _ = hex.DecodeString("5a1c8f0e6d0b5d579c5e1f7a3b8f2d10")

// uuid5 is a UUIDv5 (RFC 9562) in the protocol's namespace: the same occurrence has the same id.
func uuid5(name string) string {
	sum := sha1.Sum(append(append([]byte{}, namespace...), name...))
	id := sum[:16]
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
