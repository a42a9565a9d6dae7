#!/bin/sh
# croniter 7.0.0: a range of one value with a step, such as 5-5/15, is taken for the whole field with that step.
#
# Minutes from 5 to 5, each 15th, is the minute 5: so read it robfig/cron (Kubernetes), Quartz 2.3.2 and Debian's
# cron 3.0pl1 as well as Attune. croniter fires at 0, 15, 30 and 45, and not at 5 at all. Templates that fill in
# "{first}-{last}/{step}" meet this.
#
# Exits 1 when this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check croniter==7.0.0
cat >"$folder/check.py" <<'PYTHON'
from datetime import UTC, datetime

from croniter import croniter


def firings(cron: str, number: int) -> list[str]:
    schedule = croniter(cron, datetime(2026, 12, 31, 23, 59, tzinfo=UTC))
    return [schedule.get_next(datetime).strftime("%m-%d %H:%M") for _ in range(number)]


minutes = firings("5-5/15 * * * *", 4)
hours = firings("0 22-22/6 * * *", 4)
print("croniter 7.0.0: 5-5/15 * * * *:", minutes)
print("croniter 7.0.0: 0 22-22/6 * * *:", hours)
print("croniter 7.0.0: 5-6/15 * * * *:", firings("5-6/15 * * * *", 2))
quarters = [f"01-01 00:{minute}" for minute in ("00", "15", "30", "45")]
raise SystemExit(0 if minutes == quarters and hours[1] == "01-01 06:00" else 1)
PYTHON
"$folder/venv/bin/python" "$folder/check.py"
