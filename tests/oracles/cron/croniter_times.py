"""Reads cases as JSON lines, and prints when croniter fires. Runs with croniter alone, without Attune."""

import json
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from croniter import CroniterBadCronError, CroniterBadDateError, croniter

for line in sys.stdin:
    case = json.loads(line)
    begin = datetime.fromtimestamp(case["from"] - 1, UTC).astimezone(ZoneInfo(case["zone"]))
    times: list[int] = []
    try:
        schedule = croniter(case["cron"], begin)
        times.extend(int(schedule.get_next(datetime).timestamp()) for _ in range(case["number"]))
    except CroniterBadDateError:
        print(json.dumps({"times": times}))
    except CroniterBadCronError as error:
        print(json.dumps({"refused": str(error)}))
    else:
        print(json.dumps({"times": times}))
