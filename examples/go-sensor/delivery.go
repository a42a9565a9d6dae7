package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	mostWaiting = 100_000
	mostEvents  = 500
)

// delivery sends events in their order, and keeps what cannot be sent ("What answers mean").
type delivery struct {
	settings *settings
	client   *http.Client
	spool    *spool
	mutex    sync.Mutex
	queue    []*event
	first    int // number of the event at the queue's head, counted from the start
	dropped  int
	wake     chan struct{}
	flushing chan struct{}
	empty    chan struct{}
	outcome  atomic.Pointer[func(uid, reason string)] // what hears of each event whether it was refused, and why
}

func newDelivery(settings *settings) *delivery {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if settings.caFile != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if pem, err := os.ReadFile(settings.caFile); err == nil {
			pool.AppendCertsFromPEM(pem)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	d := &delivery{
		settings: settings,
		client: &http.Client{
			Transport: transport, Timeout: 15 * time.Second,
			// The token must not travel to another host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		spool: newSpool(settings.spoolDir), wake: make(chan struct{}, 1), flushing: make(chan struct{}), empty: make(chan struct{}, 1),
	}
	d.queue = d.spool.read()
	return d
}

func (d *delivery) add(one *event) {
	d.mutex.Lock()
	if len(d.queue) >= mostWaiting {
		d.remove(1)
		if d.dropped++; d.dropped%1000 == 1 {
			slog.Warn("events_dropped", "dropped", d.dropped, "reason", "too many wait for the API")
		}
	}
	d.queue = append(d.queue, one)
	d.mutex.Unlock()
	signalTo(d.wake)
}

// remove takes events from the queue's head; the mutex is held.
func (d *delivery) remove(count int) {
	if count > 0 {
		d.queue, d.first = d.queue[count:], d.first+count
	}
}

func (d *delivery) waiting() int {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return len(d.queue)
}

// flush returns when nothing waits any more, or after some time.
func (d *delivery) flush(grace time.Duration) {
	deadline := time.After(grace)
	close(d.flushing) // ends a pause that is under way
	for d.waiting() > 0 {
		select {
		case <-d.empty:
		case <-deadline:
			d.mutex.Lock()
			d.spool.keep(d.queue)
			d.mutex.Unlock()
			return
		}
	}
}

func (d *delivery) run(ctx context.Context) {
	pause, away := backoff{}, false
	for ctx.Err() == nil {
		d.mutex.Lock()
		batch, first := d.queue[:min(len(d.queue), mostEvents)], d.first
		d.mutex.Unlock()
		if len(batch) == 0 {
			d.spool.clear()
			signalTo(d.empty)
			select {
			case <-d.wake:
			case <-ctx.Done():
			}
			continue
		}
		done, wait, err := d.post(ctx, batch)
		d.mutex.Lock()
		d.remove(first + done - d.first) // what was dropped meanwhile is not there any more
		if err != nil {
			d.spool.keep(d.queue)
		}
		d.mutex.Unlock()
		if err != nil {
			if !away {
				slog.Warn("api_unavailable", "error", err.Error())
			}
			away = true
			if wait > 0 {
				sleep(ctx, wait)
			} else {
				pause.sleep(ctx, d.flushing)
			}
			continue
		}
		if away {
			slog.Info("api_back")
		}
		pause, away = backoff{}, false
	}
}

// post sends a batch. It returns how many of the events are done with, for how long the API asks to wait, and what went wrong.
func (d *delivery) post(ctx context.Context, batch []*event) (int, time.Duration, error) {
	token := d.token()
	status, header, body, err := d.request(ctx, batch, token)
	if err == nil && status == http.StatusUnauthorized {
		if renewed := d.token(); renewed != token {
			status, header, body, err = d.request(ctx, batch, renewed)
		}
	}
	switch {
	case err != nil:
		return 0, 0, err
	case status == http.StatusOK:
		var answer struct {
			Data []struct{ ID, Status, Reason string }
		}
		if err := json.Unmarshal(body, &answer); err != nil || len(answer.Data) != len(batch) {
			return 0, 0, fmt.Errorf("the API's answer is not as agreed")
		}
		for i, result := range answer.Data {
			reason := ""
			if result.Status == "refused" {
				reason = result.Reason
				slog.Warn("event_refused", "event_id", result.ID, "reason", reason)
			}
			d.tell(batch[i], reason)
		}
		return len(batch), 0, nil
	case status >= 400 && status < 500 && !retried[status]:
		// Halve it until the event that is refused is alone.
		if len(batch) == 1 {
			slog.Warn("event_refused", "event_id", batch[0].ID, "reason", strings.TrimSpace(string(body)))
			d.tell(batch[0], fmt.Sprintf("HTTP %d", status))
			return 1, 0, nil
		}
		half := len(batch) / 2
		done, wait, err := d.post(ctx, batch[:half])
		if err != nil || done < half {
			return done, wait, err
		}
		rest, wait, err := d.post(ctx, batch[half:])
		return done + rest, wait, err
	}
	wait := time.Duration(0)
	if seconds, err := strconv.Atoi(header.Get("Retry-After")); err == nil && seconds > 0 {
		wait = time.Duration(min(seconds, 300)) * time.Second
	} else if at, err := http.ParseTime(header.Get("Retry-After")); err == nil {
		wait = min(time.Until(at), 5*time.Minute)
	}
	return 0, wait, fmt.Errorf("HTTP %d", status)
}

func (d *delivery) tell(sent *event, reason string) {
	if outcome := d.outcome.Load(); outcome != nil {
		(*outcome)(sent.RuleUID, reason)
	}
}

// retried are refusals that say nothing about the events: a token, a wrong address, a proxy, a load that is too high.
var retried = map[int]bool{401: true, 404: true, 405: true, 407: true, 408: true, 421: true, 425: true, 429: true}

func (d *delivery) token() string {
	text, err := os.ReadFile(d.settings.tokenFile)
	if err != nil {
		slog.Warn("token_unreadable", "error", err.Error())
	}
	return strings.TrimSpace(string(text))
}

func (d *delivery) request(ctx context.Context, batch []*event, token string) (int, http.Header, []byte, error) {
	body, err := json.Marshal(map[string]any{"events": batch})
	if err != nil {
		return 0, nil, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.settings.apiURL+"/api/v1/events/batch", bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := d.client.Do(request)
	if err != nil {
		return 0, nil, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4<<20)) // read whole, so that the connection is used again
	return answer.StatusCode, answer.Header, text, err
}
