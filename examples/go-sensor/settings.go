package main

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"time"
)

// settings is what a sensor is given ("What a sensor is given").
type settings struct {
	ref, instance             string
	triggerTypes              map[string]bool
	apiURL, tokenFile         string
	natsURL, natsCreds        string
	inboxPrefix               string
	rulesSubject, acksSubject string
	apiPrefix                 string
	consumers                 []string
	spoolDir, caFile          string
	healthAddress             string
	grace                     time.Duration
}

func readSettings(variable func(string) string) (*settings, error) {
	var missing []string
	required := func(name string) string {
		value := variable(name)
		if value == "" {
			missing = append(missing, name)
		}
		return value
	}
	s := &settings{
		ref:          required("ATTUNE_SENSOR_REF"),
		instance:     required("ATTUNE_SENSOR_INSTANCE"),
		triggerTypes: map[string]bool{},
		apiURL:       strings.TrimRight(required("ATTUNE_API_URL"), "/"),
		tokenFile:    required("ATTUNE_API_TOKEN_FILE"),
		natsURL:      required("ATTUNE_NATS_URL"),
		natsCreds:    variable("ATTUNE_NATS_CREDS_FILE"),
		inboxPrefix:  required("ATTUNE_NATS_INBOX_PREFIX"),
		rulesSubject: required("ATTUNE_RULES_SUBJECT"),
		acksSubject:  required("ATTUNE_ACKS_SUBJECT"),
		apiPrefix:    variable("ATTUNE_NATS_API_PREFIX"),
		spoolDir:     variable("ATTUNE_SPOOL_DIR"),
		caFile:       variable("ATTUNE_CA_FILE"),
		grace:        25 * time.Second,
	}
	for _, name := range strings.Split(required("ATTUNE_TRIGGER_TYPES"), ",") {
		s.triggerTypes[strings.TrimSpace(name)] = true
	}
	if s.apiPrefix == "" {
		s.apiPrefix = "$JS.API"
	}
	for _, name := range strings.Split(variable("ATTUNE_RULES_CONSUMERS"), ",") {
		if name = strings.TrimSpace(name); name != "" {
			s.consumers = append(s.consumers, name)
		}
	}
	port := variable("ATTUNE_METRICS_PORT")
	if port == "" {
		port = "8080"
	}
	s.healthAddress = net.JoinHostPort(variable("ATTUNE_METRICS_HOST"), port)
	if seconds, err := strconv.ParseFloat(variable("ATTUNE_GRACE_SECONDS"), 64); err == nil && seconds > 0 {
		s.grace = time.Duration(seconds * float64(time.Second))
	}
	if len(missing) > 0 {
		return nil, errors.New("not set: " + strings.Join(missing, ", "))
	}
	return s, nil
}
