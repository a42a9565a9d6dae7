package main

import (
	"fmt"
	"time"
)

// refusals are what the API refused of one rule, since it took an event last ("When nothing gets through").
type refusals struct {
	number int
	since  time.Time
	taken  bool // it has taken an event of this rule at some time
	said   bool
}

// More than so many in a row mean that nothing gets through, where something did before.
const fewRefusals = 3

// outcome says in the rule's ack that nothing gets through, and that something does again; reason is empty for an event
// that was taken.
func (a *acks) outcome(uid, reason string) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	latest, known := a.latest[uid]
	if !known {
		return
	}
	found := a.refused[uid]
	if reason == "" {
		if found.said {
			a.replace(latest, "Active", "")
		}
		a.refused[uid] = refusals{taken: true}
		return
	}
	if found.number == 0 {
		found.since = time.Now().UTC()
	}
	found.number++
	if !found.said && latest.State == "Active" && (!found.taken || found.number > fewRefusals) {
		found.said = true
		a.replace(latest, "Failing", fmt.Sprintf("Nothing gets through: %d events refused since %s; the last reason: %s.",
			found.number, found.since.Format(time.RFC3339), reason))
	}
	a.refused[uid] = found
}

// replace acks the same generation anew. The mutex is held.
func (a *acks) replace(before *ack, state, message string) {
	after := *before
	after.State, after.Message, after.At = state, message[:min(len(message), 1024)], time.Now().UTC()
	a.latest[before.RuleUID] = &after
	a.waiting[before.RuleUID] = true
	signalTo(a.wake)
}
