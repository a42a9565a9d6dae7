package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	heartbeat = 2 * time.Second
	resync    = 5 * time.Minute
	// How long a rule goes on that a complete snapshot lacks without a tombstone.
	patience = 15 * time.Second
)

// rule is a rule's whole state ("Rules").
type rule struct {
	UID         string          `json:"uid"`
	Namespace   string          `json:"namespace"`
	Name        string          `json:"name"`
	Generation  int64           `json:"generation"`
	Enabled     bool            `json:"enabled"`
	TriggerType string          `json:"trigger_type"`
	Parameters  json.RawMessage `json:"parameters"`
	CreatedAt   time.Time       `json:"created_at"`
}

func (r *rule) equal(other *rule) bool {
	return r.Generation == other.Generation && r.Enabled == other.Enabled && r.TriggerType == other.TriggerType &&
		bytes.Equal(r.Parameters, other.Parameters)
}

// sensor keeps what runs equal to the rule stream. One goroutine owns its state.
type sensor struct {
	settings *settings
	delivery *delivery
	ready    *atomic.Bool

	connection *nats.Conn
	acks       *acks
	known      map[string]*rule
	missing    map[string]time.Time
	running    map[string]context.CancelFunc
}

// run reads rules and runs them until stop is done.
func (s *sensor) run(stop context.Context) error {
	s.known, s.missing, s.running = map[string]*rule{}, map[string]time.Time{}, map[string]context.CancelFunc{}
	connected := make(chan struct{}, 1)
	options := []nats.Option{
		nats.Name(s.settings.ref), nats.CustomInboxPrefix(s.settings.inboxPrefix),
		// For ever, also at the start, and also while the credentials are refused: they will be renewed.
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.PingInterval(10 * time.Second), nats.Timeout(5 * time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { slog.Warn("nats_unavailable", "error", fmt.Sprint(err)) }),
		nats.ReconnectHandler(func(*nats.Conn) { slog.Info("nats_back"); signalTo(connected) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { slog.Warn("nats_error", "error", err.Error()) }),
	}
	if s.settings.natsCreds != "" {
		options = append(options, nats.UserCredentials(s.settings.natsCreds)) // read again for each connection
	}
	if s.settings.caFile != "" {
		options = append(options, nats.RootCAs(s.settings.caFile))
	}
	connection, err := nats.Connect(s.settings.natsURL, options...)
	if err != nil {
		return err
	}
	defer connection.Close()
	s.connection = connection
	s.acks = newAcks(connection, s.settings)
	outcome := s.acks.outcome
	s.delivery.outcome.Store(&outcome)
	go s.acks.run(stop)
	go followCredentials(stop, connection, s.settings.natsCreds)

	pause := backoff{}
	for stop.Err() == nil {
		reason, err := s.session(stop, connected)
		if err != nil {
			slog.Warn("rules_unavailable", "error", err.Error())
			pause.sleep(stop, connected)
			continue
		}
		pause = backoff{}
		slog.Info("rules_read_again", "reason", reason)
	}
	for uid := range s.running {
		s.stop(uid)
	}
	return nil
}

// followCredentials reconnects when the credentials were renewed: NATS ends connections whose user has expired.
func followCredentials(stop context.Context, connection *nats.Conn, path string) {
	if path == "" {
		return
	}
	last, _ := os.ReadFile(path)
	for sleep(stop, time.Second) {
		now, err := os.ReadFile(path)
		if err == nil && !bytes.Equal(now, last) {
			last = now
			if err := connection.ForceReconnect(); err != nil {
				slog.Warn("nats_reconnect_failed", "error", err.Error())
			}
		}
	}
}

// session is one consumer: its snapshot, then what follows. It returns why a new one is needed.
func (s *sensor) session(stop context.Context, connected chan struct{}) (string, error) {
	inbox := s.connection.NewInbox()
	subscription, err := s.connection.SubscribeSync(inbox)
	if err != nil {
		return "", err
	}
	defer subscription.Unsubscribe()
	consumer, pending, err := s.createConsumer()
	if err != nil {
		return "", err
	}
	defer consumer.delete()
	if err := consumer.pull(inbox); err != nil {
		return "", err
	}

	snapshot, deleted := map[string]*rule{}, map[string]bool{}
	complete := false
	finish := func() {
		if !complete {
			complete = true
			s.swap(snapshot, deleted)
		}
	}
	if pending == 0 {
		finish()
	}
	received := uint64(0)
	began, heard := time.Now(), time.Now()
	for stop.Err() == nil {
		select {
		case <-connected:
			return "reconnect", nil
		default:
		}
		message, err := subscription.NextMsg(200 * time.Millisecond)
		if err == nats.ErrTimeout {
			switch {
			case time.Since(heard) > 3*heartbeat:
				return "heartbeats missed", nil
			case time.Since(began) > resync:
				return "period", nil
			case len(s.missing) > 0 && time.Since(began) > patience:
				return "rules are missing", nil
			}
			continue
		}
		if err != nil {
			return "", err
		}
		heard = time.Now()
		if status := message.Header.Get("Status"); status != "" {
			switch {
			case endsBatch(message.Header):
				if err := consumer.pull(inbox); err != nil {
					return "", err
				}
			case status != "100":
				return "status " + status, nil
			case message.Header.Get("Nats-Last-Consumer") != strconv.FormatUint(received, 10):
				return "gap", nil
			default:
				finish() // idle, so the snapshot is over
			}
			continue
		}
		sequence, left, err := delivered(message.Reply)
		if err != nil {
			slog.Warn("rule_message_malformed", "error", err.Error())
			continue
		}
		if sequence != received+1 {
			return "gap", nil
		}
		received = sequence
		s.take(message, complete, snapshot, deleted)
		if left == 0 {
			finish()
		}
		if consumer.left--; consumer.left == 0 {
			if err := consumer.pull(inbox); err != nil {
				return "", err
			}
		}
	}
	return "stopping", nil
}

// delivered reads the consumer's sequence, and how many messages are left, from a message's reply subject.
func delivered(reply string) (sequence, left uint64, err error) {
	tokens := strings.Split(reply, ".")
	first := 2
	if len(tokens) > 9 {
		first = 4 // domain and account come before the stream
	}
	if len(tokens) < 9 || tokens[0] != "$JS" || tokens[1] != "ACK" {
		return 0, 0, fmt.Errorf("%q is no JetStream delivery", reply)
	}
	if sequence, err = strconv.ParseUint(tokens[first+4], 10, 64); err != nil {
		return 0, 0, err
	}
	left, err = strconv.ParseUint(tokens[first+6], 10, 64)
	return sequence, left, err
}

func (s *sensor) take(message *nats.Msg, complete bool, snapshot map[string]*rule, deleted map[string]bool) {
	uid := message.Subject[strings.LastIndexByte(message.Subject, '.')+1:]
	gone := message.Header.Get("ce-type") == "dev.attune.rule.deleted" || message.Header.Get("Nats-Marker-Reason") != ""
	state := &rule{}
	err := json.Unmarshal(message.Data, state)
	if err == nil && state.UID != uid {
		err = fmt.Errorf("the body is about rule %q, the subject about %q", state.UID, uid)
	}
	switch {
	case gone && complete:
		if known := s.known[uid]; known != nil && (err != nil || state.Generation >= known.Generation) {
			s.forget(uid)
		}
	case gone:
		delete(snapshot, uid)
		deleted[uid] = true
	case err != nil:
		slog.Warn("rule_message_malformed", "rule_uid", uid, "error", err.Error())
		if known := s.known[uid]; known != nil && !complete {
			snapshot[uid] = known // what is known of it stays
		}
	case complete:
		s.put(state)
	default:
		snapshot[uid] = state
		delete(deleted, uid)
	}
}

// swap makes a complete snapshot the state.
func (s *sensor) swap(snapshot map[string]*rule, deleted map[string]bool) {
	for uid := range s.known {
		if _, present := snapshot[uid]; present {
			delete(s.missing, uid)
			continue
		}
		since, before := s.missing[uid]
		switch {
		case deleted[uid] || (before && time.Since(since) >= patience):
			s.forget(uid)
		case !before:
			s.missing[uid] = time.Now()
		}
	}
	for _, state := range snapshot {
		s.put(state)
	}
	s.acks.again()
	s.ready.Store(true)
	slog.Info("rules_snapshot_taken", "rules", len(s.known))
	if len(s.known) == 0 {
		slog.Info("sensor_serves_no_rule")
	}
}

func (s *sensor) forget(uid string) {
	s.stop(uid)
	s.acks.forget(uid)
	delete(s.known, uid)
	delete(s.missing, uid)
}

func (s *sensor) stop(uid string) {
	if cancel := s.running[uid]; cancel != nil {
		cancel()
		delete(s.running, uid)
	}
}

// put takes up a rule's state, unless it is old or known.
func (s *sensor) put(state *rule) {
	delete(s.missing, state.UID)
	if known := s.known[state.UID]; known != nil && (state.Generation < known.Generation || state.equal(known)) {
		return
	}
	s.known[state.UID] = state
	s.stop(state.UID)
	if !state.Enabled {
		s.acks.say(state, "Stopped", "")
		return
	}
	if !s.settings.triggerTypes[state.TriggerType] {
		s.acks.say(state, "Rejected", "this sensor does not provide the trigger type "+state.TriggerType)
		return
	}
	ticker, err := newTicker(state)
	if err != nil {
		s.acks.say(state, "Rejected", err.Error())
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.running[state.UID] = cancel
	go ticker.run(ctx, s.delivery)
	s.acks.say(state, "Active", "")
}
