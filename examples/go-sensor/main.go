// A sensor in Go without an SDK: it implements docs/sensor-protocol.md, and nothing more.
//
// It provides one trigger type: a rule with the parameters {"every": 0.5} fires every half second, counted from the
// rule's creation, so that restarts and replicas report the same occurrences.
package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: names})))
	settings, err := readSettings(os.Getenv)
	if err != nil {
		slog.Error("sensor_misconfigured", "error", err.Error())
		os.Exit(2)
	}
	stop, done := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer done()

	var ready atomic.Bool
	delivery := newDelivery(settings)
	serveHealth(settings, &ready, delivery)

	delivering, stopDelivering := context.WithCancel(context.Background())
	delivered := make(chan struct{})
	go func() { defer close(delivered); delivery.run(delivering) }()

	sensor := &sensor{settings: settings, delivery: delivery, ready: &ready}
	if err := sensor.run(stop); err != nil {
		slog.Error("sensor_failed", "error", err.Error())
		os.Exit(1)
	}
	// In this order: nothing new is made, then what was made is delivered.
	delivery.flush(settings.grace)
	stopDelivering()
	<-delivered
	slog.Info("sensor_stopped", "undelivered", delivery.waiting())
}

// names gives the fields of a log line the names that the protocol asks for.
func names(_ []string, attribute slog.Attr) slog.Attr {
	switch attribute.Key {
	case slog.MessageKey:
		attribute.Key = "event"
	case slog.TimeKey:
		attribute.Key = "timestamp"
	}
	return attribute
}

func serveHealth(settings *settings, ready *atomic.Bool, delivery *delivery) {
	mux := http.NewServeMux()
	mux.HandleFunc("/live", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"status":"pass"}`)) })
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			w.Write([]byte(`{"status":"fail","problems":{"rules":"the rules were not read yet"}}`))
			return
		}
		w.Write([]byte(`{"status":"pass"}`))
	})
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		w.Write([]byte("# TYPE go_sensor_events_waiting gauge\ngo_sensor_events_waiting " + strconv.Itoa(delivery.waiting()) + "\n"))
	})
	server := &http.Server{Addr: settings.healthAddress, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := server.ListenAndServe(); err != nil {
			slog.Error("health_server_failed", "error", err.Error())
			os.Exit(1)
		}
	}()
}
