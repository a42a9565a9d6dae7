package main

import (
	"bufio"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
)

// spool is a file with events that wait, a line each, so that a sensor that is killed while the API is away loses nothing.
// A line that was cut off is no event. What was delivered all the same is delivered again, and is the same event.
type spool struct {
	path string
	last string // id of the newest event in the file
	used bool
}

func newSpool(folder string) *spool {
	if folder == "" {
		return &spool{}
	}
	return &spool{path: filepath.Join(folder, "waiting.jsonl")}
}

func (s *spool) read() []*event {
	var found []*event
	if s.path == "" {
		return found
	}
	file, err := os.Open(s.path)
	if err != nil {
		return found
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 2<<20)
	for lines.Scan() {
		one := &event{}
		if json.Unmarshal(lines.Bytes(), one) == nil && one.ID != "" {
			found = append(found, one)
			s.last, s.used = one.ID, true
		}
	}
	slog.Info("spool_read", "events", len(found))
	return found
}

// keep appends those of the waiting events that are not in the file yet.
func (s *spool) keep(waiting []*event) {
	if s.path == "" || len(waiting) == 0 || waiting[len(waiting)-1].ID == s.last {
		return
	}
	from := 0
	for i := len(waiting) - 1; i >= 0; i-- {
		if waiting[i].ID == s.last {
			from = i + 1
			break
		}
	}
	file, err := os.OpenFile(s.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		slog.Warn("spool_unavailable", "error", err.Error())
		return
	}
	defer file.Close()
	out := json.NewEncoder(file)
	file.WriteString("\n") // ends a line that a killed process left
	for _, one := range waiting[from:] {
		if err := out.Encode(one); err != nil {
			slog.Warn("spool_unavailable", "error", err.Error())
			return
		}
	}
	s.last, s.used = waiting[len(waiting)-1].ID, true
}

func (s *spool) clear() {
	if s.used {
		os.Remove(s.path)
		s.last, s.used = "", false
	}
}
