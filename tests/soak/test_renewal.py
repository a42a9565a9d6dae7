"""Twelve minutes with a token that lives two: renewals and a new signing key, and no event is missing."""

import base64
import json
import time
from datetime import timedelta
from itertools import pairwise

from support.eventually import eventually
from support.system import SYSTEM, System

MINUTES = 12


def test_twelve_minutes_of_renewals(system: System) -> None:
    system.sensor("own", token={"ttl": "120s"})
    rule = system.rule("steady", parameters={"interval": 1})
    rule.wait_events(lambda events: len(events) >= 1, within=15)
    pod = system.wait_ready_pod("own", system.namespace)
    # A request that comes while a key waits to sign already is carried out by that one.
    eventually(lambda: signing_keys_in_use(system) == 1, within=400, every=5, what="no other rotation is under way")
    key = status(system)["keyId"]
    asked = str(int(time.time()))
    system.kube(
        "annotate", "secret", "attune-signing-keys", "-n", SYSTEM, "--overwrite", f"attune.dev/rotate-keys={asked}"
    )

    issued, keys = set(), {key}
    ends = time.monotonic() + MINUTES * 60

    def over() -> bool:
        token = status(system)
        issued.add(token["issuedAt"])
        keys.add(token["keyId"])
        return time.monotonic() >= ends

    eventually(over, within=MINUTES * 60 + 30, every=2, what="twelve minutes")

    # A rule that is changed now is changed within a second: the NATS credentials were renewed as well.
    rule.patch({"enabled": False})
    rule.wait_condition("Active", "False", reason="Disabled", within=5)
    events = rule.events()
    gaps = {later.occurred_at - earlier.occurred_at for earlier, later in pairwise(events)}
    [after] = system.pods("own", system.namespace)
    [container] = after["status"]["containerStatuses"]
    log = system.kube("logs", after["metadata"]["name"], "-n", system.namespace, "--tail=-1")
    lost = [line for line in log.splitlines() if "refused" in line or "dropped" in line]
    found = {
        "renewals": len(issued) - 1,
        "signing keys": len(keys),
        "events": len(events),
        "distinct events": len({event.id for event in events}),
        "gaps in seconds": sorted(gap.total_seconds() for gap in gaps),
        "restarts": container["restartCount"],
        "pods": 1 if after["metadata"]["uid"] == pod["metadata"]["uid"] else 2,
        "refusals in the sensor's log": lost,
    }
    print(json.dumps(found, indent=1))
    assert found["renewals"] >= 8
    assert found["signing keys"] == 2
    assert gaps == {timedelta(seconds=1)}
    assert found["events"] == found["distinct events"] >= MINUTES * 60
    assert found["restarts"] == 0
    assert found["pods"] == 1
    assert lost == []


def signing_keys_in_use(system: System) -> int:
    """Those that sign, or will."""
    secret = system.kube.get("secret", "attune-signing-keys", SYSTEM)
    keys = json.loads(base64.b64decode(secret["data"]["signing-keys.json"]))["keys"]
    return sum("d" in key and "retired_at" not in key for key in keys)


def status(system: System) -> dict[str, str]:
    token: dict[str, str] = system.kube.get("sensor", "own", system.namespace)["status"]["token"]
    return token
