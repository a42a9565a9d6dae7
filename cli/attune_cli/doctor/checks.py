"""What the doctor looks at beyond ``attune status``. Pure: everything is passed in."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from attune_cli.checks import Check
from attune_cli.metrics import Sample
from attune_cli.targets.pages import Page, Part, cut_off
from attune_contract.telling import Object, ref

#: What a sensor's token may differ from the API's clock by, as in the API.
CLOCK_TOLERANCE: Final = timedelta(seconds=10)
#: Tokens are renewed at two thirds of their life, which is 10 minutes at least.
TOKEN_NEAR_END: Final = timedelta(minutes=2)
#: HTTP statuses from here on are failures.
_FAILED: Final = 400
#: What is named of a long list.
_NAMED: Final = 5


def definitions(found: Mapping[str, Object | None], wanted: Mapping[str, Object]) -> Iterator[Check]:
    """Whether the CustomResourceDefinitions are there, and those of this version.

    Args:
        found: the cluster's, by name; None where there is none.
        wanted: this version's.
    """
    advice = "helm upgrade to the chart of this version, with crds.install=true (docs/installing.md)"
    for name, want in wanted.items():
        have = found.get(name)
        if have is None:
            yield Check(name=f"Definition {name}", state="problem", message="it is not there", advice=advice)
            continue
        lacking = sorted(_fields(want) - _fields(have))
        more = sorted(_fields(have) - _fields(want))
        if lacking:
            message = f"it is older than this command line and lacks {_few(lacking)}"
            yield Check(name=f"Definition {name}", state="problem", message=message, advice=advice)
        elif more:
            message = f"it is newer than this command line and has {_few(more)} in addition"
            yield Check(name=f"Definition {name}", state="note", message=message)
        else:
            yield Check(name=f"Definition {name}", state="ok", message="it is there, and of this version")


def _fields(definition: Object) -> set[str]:
    """The paths of all fields."""
    paths: set[str] = set()

    def walk(schema: Any, path: str) -> None:
        if not isinstance(schema, Mapping):
            return
        for name, field in (schema.get("properties") or {}).items():
            paths.add(f"{path}{name}")
            walk(field, f"{path}{name}.")
        walk(schema.get("items"), path)
        walk(schema.get("additionalProperties"), path)

    for version in definition["spec"]["versions"]:
        walk((version.get("schema") or {}).get("openAPIV3Schema"), "")
    return paths


def _few(names: list[str]) -> str:
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest


def versions(mine: str, pods: Iterable[Object]) -> Iterator[Check]:
    """Whether the parts are of one version, by their images' tags and their labels."""
    found: dict[str, set[str]] = {}
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        if version := labels.get("app.kubernetes.io/version"):
            found.setdefault(str(version), set()).add(str(labels.get("app.kubernetes.io/name", "")))
    if not found:
        return
    others = {version: names for version, names in found.items() if version != mine}
    if others:
        text = "; ".join(f"{', '.join(sorted(names))} is {version}" for version, names in sorted(others.items()))
        yield Check(name="Versions", state="note", message=f"this command line is {mine}, and {text}")
    else:
        yield Check(name="Versions", state="ok", message=f"command line and chart are {mine}")


def readiness(parts: Iterable[Part], read: Mapping[tuple[Part, str], Page]) -> Iterator[Check]:
    """Whether the parts answer, and say that they are ready.

    Args:
        parts: all that were asked.
        read: the pages that were read.
    """
    asked = answered = 0
    for part in parts:
        paths = [path for path in part.ports if path != "/metrics"] or list(part.ports)
        if not paths:
            continue
        asked += 1
        pages = [read[part, path] for path in paths if (part, path) in read]
        answered += bool(pages)
        who = f"{part.role} {part.name}" if part.role != part.name else part.role
        for page in pages:
            if page.status >= _FAILED:
                text = " ".join(page.text.split())[:200]
                yield Check(
                    name=who,
                    state="problem",
                    message=f"it is not ready: {text}",
                    advice="look at its log in the bundle",
                )
        if not pages:
            yield Check(
                name=who,
                state="problem" if part.url else "unknown",
                message="its health and metrics cannot be read (not-read.txt of the bundle says why)",
                advice="look at its log in the bundle",
            )
    if asked:
        yield Check(
            name="Health and metrics",
            state="ok" if answered else "unknown",
            message=f"{answered} of {asked} parts answered",
        )


def connections(pages: Iterable[tuple[Part, list[Sample]]]) -> Iterator[Check]:
    """Whether the parts are connected to NATS, as they say themselves."""
    answers = [(part, answer) for part, samples in pages if (answer := cut_off(part, samples)) is not None]
    if alone := {part.sensor or part.name for part, answer in answers if answer}:
        message = f"no connection: {_few(sorted(alone))}"
        advice = "look at the logs of NATS and of these parts in the bundle"
        yield Check(name="NATS connections", state="problem", message=message, advice=advice)
    elif answers:
        yield Check(
            name="NATS connections", state="ok", message=f"all {len(answers)} parts that were asked are connected"
        )


def offsets(read: Mapping[tuple[Part, str], Page]) -> dict[str, timedelta]:
    """How far each part's clock is ahead of this machine's, by the part's name."""
    return {part.name: page.ahead for (part, _), page in read.items() if page.ahead is not None}


def clocks(offsets: Mapping[str, timedelta]) -> Iterator[Check]:
    """Whether clocks agree.

    Args:
        offsets: how far each is ahead of this machine's, by whose it is.
    """
    far = {who: offset for who, offset in offsets.items() if abs(offset) > CLOCK_TOLERANCE}
    if far:
        text = ", ".join(
            f"{who} is {abs(offset).total_seconds():.0f} s {'ahead' if offset > timedelta() else 'behind'}"
            for who, offset in sorted(far.items(), key=lambda entry: abs(entry[1]), reverse=True)[:_NAMED]
        )
        yield Check(
            name="Clocks",
            state="problem",
            message=f"compared with this machine, {text}",
            advice="set the clock that is wrong (NTP); tokens are good only by clocks that agree within 10 s",
        )
    elif offsets:
        yield Check(name="Clocks", state="ok", message="they agree within 10 s")


def tokens(sensors: Iterable[Object], now: datetime) -> Iterator[Check]:
    """Whether tokens of Sensors are near their end."""
    near: list[str] = []
    known = 0
    for body in sensors:
        if not (text := ((body.get("status") or {}).get("token") or {}).get("expiresAt")):
            continue
        known += 1
        left = datetime.fromisoformat(text) - now
        if left < TOKEN_NEAR_END and not body["spec"].get("paused"):
            end = f"ends in {left.total_seconds():.0f} s" if left > timedelta() else "has ended"
            near.append(f"that of {ref(body)} {end}")
    if near:
        advice = "the operator's log says why it was not renewed (token_not_renewed)"
        yield Check(name="Tokens", state="problem", message=_few(near), advice=advice)
    elif known:
        yield Check(name="Tokens", state="ok", message=f"those of {known} Sensors are good for more than two minutes")


def required_secrets(sensor: Object) -> set[str]:
    """The Secrets without which a Sensor's pods do not start."""
    spec = sensor["spec"]
    names = {str(secret.get("name", "")) for secret in spec.get("imagePullSecrets") or ()}
    sources = [(variable.get("valueFrom") or {}).get("secretKeyRef") for variable in spec.get("env") or ()]
    sources += [source.get("secretRef") for source in spec.get("envFrom") or ()]
    names |= {str(source.get("name", "")) for source in sources if source and not source.get("optional")}
    return names - {""}


def secrets(sensors: Iterable[Object], present: Mapping[str, set[str] | None]) -> Iterator[Check]:
    """Whether the Secrets that Sensors name are there.

    Args:
        sensors: the Sensors.
        present: the names of Secrets in each namespace; None where they may not be listed.
    """
    wanted = 0
    unknown: set[str] = set()
    for body in sensors:
        namespace = body["metadata"]["namespace"]
        required = required_secrets(body)
        mounted = {str(secret["name"]) for secret in body["spec"].get("secrets") or ()} - required
        if not required and not mounted:
            continue
        have = present.get(namespace)
        if have is None:
            unknown.add(namespace)
            continue
        wanted += len((required | mounted) & have)
        for name in sorted(required - have):
            yield Check(
                name=f"Secret {namespace}/{name}",
                state="problem",
                message=f"it is not there, and the pods of Sensor {ref(body)} do not start without it",
                advice=f"kubectl -n {namespace} create secret generic {name} --from-file=…",
            )
        for name in sorted(mounted - have):
            message = f"it is not there; Rules of Sensor {ref(body)} that name its keys fail until it is"
            yield Check(name=f"Secret {namespace}/{name}", state="note", message=message)
    if unknown:
        message = f"whether those of {_few(sorted(unknown))} are there is not known: you may not list Secrets there"
        yield Check(name="Secrets", state="unknown", message=message)
    if wanted:
        yield Check(name="Secrets", state="ok", message=f"{wanted} that Sensors name are there")


#: What the command line is used for needs these: verb, group, resource, and what is not possible without.
RIGHTS: Final = (
    ("list", "attune.dev", "sensors", "seeing Sensors"),
    ("list", "attune.dev", "rules", "seeing Rules"),
    ("patch", "attune.dev", "rules", "attune rules enable and disable"),
)
#: The same in the namespace of the chart.
HOME_RIGHTS: Final = (
    ("list", "", "pods", "finding the API"),
    ("create", "", "pods/portforward", "reaching the API and metrics (without it: --api-url)"),
    ("get", "", "pods/log", "logs in this bundle"),
    ("list", "apps", "deployments", "Deployments in this bundle"),
    ("list", "", "configmaps", "ConfigMaps in this bundle"),
)


def rights(answers: Iterable[tuple[str, str, str, str, bool]]) -> Iterator[Check]:
    """What the asker may not do.

    Args:
        answers: verb, resource, namespace, what it is for, and whether it is allowed.
    """
    denied, asked = [], 0
    for verb, resource, namespace, purpose, allowed in answers:
        asked += 1
        if not allowed:
            denied.append(f"{verb} {resource} in {namespace} ({purpose})")
    if denied:
        advice = "have somebody bind a role with it to you (docs/rbac.md), or have them run this"
        yield Check(name="Your rights", state="unknown", message=f"you may not {'; '.join(denied)}", advice=advice)
    elif asked:
        yield Check(name="Your rights", state="ok", message="you may do all that this command line does")
