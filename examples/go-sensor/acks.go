package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// ack is what the sensor says of one generation of a rule ("Acks").
type ack struct {
	RuleUID    string    `json:"rule_uid"`
	Generation int64     `json:"generation"`
	State      string    `json:"state"`
	Instance   string    `json:"instance"`
	At         time.Time `json:"at"`
	Message    string    `json:"message,omitempty"`
}

// acks publishes the latest ack of each rule until JetStream has confirmed it.
type acks struct {
	connection *nats.Conn
	settings   *settings
	mutex      sync.Mutex
	latest     map[string]*ack
	waiting    map[string]bool
	refused    map[string]refusals
	wake       chan struct{}
}

func newAcks(connection *nats.Conn, settings *settings) *acks {
	return &acks{
		connection: connection, settings: settings,
		latest: map[string]*ack{}, waiting: map[string]bool{}, refused: map[string]refusals{}, wake: make(chan struct{}, 1),
	}
}

func (a *acks) say(state *rule, verdict, message string) {
	if len(message) > 1024 {
		message = message[:1024]
	}
	a.mutex.Lock()
	a.latest[state.UID] = &ack{
		RuleUID: state.UID, Generation: state.Generation, State: verdict,
		Instance: a.settings.instance, At: time.Now().UTC(), Message: message,
	}
	a.waiting[state.UID] = true
	delete(a.refused, state.UID)
	a.mutex.Unlock()
	signalTo(a.wake)
}

func (a *acks) forget(uid string) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	delete(a.latest, uid)
	delete(a.waiting, uid)
	delete(a.refused, uid)
}

// again says everything once more: the stream may have lost it.
func (a *acks) again() {
	a.mutex.Lock()
	for uid := range a.latest {
		a.waiting[uid] = true
	}
	a.mutex.Unlock()
	signalTo(a.wake)
}

func (a *acks) next() *ack {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	for uid := range a.waiting {
		return a.latest[uid]
	}
	return nil
}

func (a *acks) run(stop context.Context) {
	pause := backoff{}
	for stop.Err() == nil {
		one := a.next()
		if one == nil {
			select {
			case <-a.wake:
			case <-stop.Done():
			}
			continue
		}
		if err := a.publish(one); err != nil {
			slog.Warn("ack_failed", "rule_uid", one.RuleUID, "error", err.Error())
			pause.sleep(stop, nil)
			continue
		}
		pause = backoff{}
		a.mutex.Lock()
		if a.latest[one.RuleUID] == one { // it may have been overtaken meanwhile
			delete(a.waiting, one.RuleUID)
		}
		a.mutex.Unlock()
	}
}

func (a *acks) publish(one *ack) error {
	body, err := json.Marshal(one)
	if err != nil {
		return err
	}
	reply, err := a.connection.Request(a.settings.acksSubject+"."+one.RuleUID, body, 5*time.Second)
	if err != nil {
		return err
	}
	var answer struct{ Error *struct{ Description string } }
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return errorText(answer.Error.Description)
	}
	return nil
}
