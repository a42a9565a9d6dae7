"""Ways that lie in the Rule: its type, its parameters, when it is due, who may serve it."""

from __future__ import annotations

from ways.stage import Stage, every_second, program, rule, timer
from ways.way import Manifest, Way, add


def _other(stage: Stage) -> str:
    return f"{stage.namespace}-other"


def _other_namespace(stage: Stage) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": _other(stage), "labels": {"attune-ways": "yes"}},
    }


def _drop_other(stage: Stage) -> None:
    stage.kube("delete", "namespace", _other(stage), "--ignore-not-found", "--wait=false")


def _sensor_elsewhere(stage: Stage, **rules: object) -> None:
    sensor = program("sleep 1000", type_="way.elsewhere", rules={"namespaces": rules} if rules else {}, paused=True)
    sensor["metadata"]["namespace"] = _other(stage)
    stage.apply(_other_namespace(stage), sensor)
    stage.begin()
    stage.apply(rule("way.elsewhere", {}))


def _timer_way(name: str, what: str, cause: str, type_: str, parameters: Manifest, *, but: str = "") -> Way:
    return Way(
        name=name, what=what, cause=cause, but=but, breaks=lambda stage: stage.apply(rule(type_, parameters)), within=30
    )


_INTERVAL, _CRON, _DATE = "core.intervaltimer", "core.crontimer", "core.datetimetimer"

add(
    _timer_way(
        "type-unknown",
        "the trigger type is unknown",
        r"UnknownTriggerType.*|no sensor offers the trigger type acme\.unheard",
        "acme.unheard",
        {},
    ),
    _timer_way(
        "type-misspelt",
        "the trigger type is misspelt",
        r"did you mean core\.intervaltimer",
        "core.intervaltime",
        {"interval": 1},
    ),
    _timer_way(
        "parameter-missing", "a parameter is missing", r"interval.{0,40}required|required.{0,40}interval", _INTERVAL, {}
    ),
    _timer_way(
        "parameter-of-wrong-type",
        "a parameter has another type",
        r"interval.{0,40}not of type.{0,20}number",
        _INTERVAL,
        {"interval": "often"},
    ),
    _timer_way(
        "parameter-misspelt", "a parameter is misspelt", r"intervall", _INTERVAL, {"interval": 1, "intervall": 2}
    ),
    _timer_way(
        "parameter-out-of-range",
        "an interval of 10 milliseconds",
        r"shorter than 0\.1 seconds",
        _INTERVAL,
        {"interval": 10, "unit": "milliseconds"},
    ),
    _timer_way(
        "enum-violated",
        "a unit that there is not",
        r"fortnights.{0,60}(one of|seconds)",
        _INTERVAL,
        {"interval": 1, "unit": "fortnights"},
    ),
    _timer_way(
        "jitter-too-long",
        "jitter longer than the interval",
        r"jitter is longer than the interval",
        _INTERVAL,
        {"interval": 1, "jitter": 5},
    ),
    _timer_way(
        "end-before-start",
        "the end is before the start",
        r"end is before the start",
        _INTERVAL,
        {"interval": 1, "start": "2030-01-02T00:00:00Z", "end": "2030-01-01T00:00:00Z"},
    ),
    _timer_way(
        "end-was-over",
        "the end was over when the rule was made",
        r"never fires.*over",
        _INTERVAL,
        {"interval": 1, "end": "2020-01-01T00:00:00Z"},
    ),
    _timer_way(
        "date-was-over",
        "the date was over when the rule was made",
        r"never fires",
        _DATE,
        {"at": "2020-01-01T00:00:00Z", "missed": "skip"},
    ),
    _timer_way(
        "start-far-away",
        "it starts in 2099",
        r"2099-01-01T00:00:0",
        _INTERVAL,
        {"interval": 1, "start": "2099-01-01T00:00:00Z"},
    ),
    Way(
        name="interval-of-weeks",
        what="the interval is 30 days",
        cause=r"(next|due|first).{0,60}20\d\d-\d\d-\d\dT",
        places=("get", "describe"),
        but="what is only not due yet is no problem",
        breaks=lambda stage: stage.apply(rule(_INTERVAL, {"interval": 30, "unit": "days"})),
        within=30,
    ),
    _timer_way("date-far-away", "the date is in 2099", r"2099-01-01T00:00:0", _DATE, {"at": "2099-01-01T00:00:00Z"}),
    _timer_way("leap-day", "cron: 29 February", r"20(28|32)-02-29T12:00", _CRON, {"cron": "0 12 29 2 *"}),
    _timer_way(
        "never-due",
        "cron: 30 February",
        r"never (due|fires?|matches)|no day|29 days|does not exist",
        _CRON,
        {"cron": "0 12 30 2 *"},
    ),
    _timer_way(
        "cron-out-of-range",
        "cron: minute 61",
        r"61.{0,80}(minute|0.{0,5}59)|minute.{0,80}61",
        _CRON,
        {"cron": "61 * * * *"},
    ),
    _timer_way(
        "cron-too-short",
        "cron: four fields",
        r"(five|5|4|four).{0,40}fields?|fields?.{0,60}(5|five)",
        _CRON,
        {"cron": "0 9 * *"},
    ),
    _timer_way(
        "cron-all-excluded",
        "every occurrence is excluded",
        r"No event is due before 2120",
        _CRON,
        {"cron": "0 12 * * *", "exclude": {"periods": [{"from": "2000-01-01", "until": "2120-01-01"}]}},
    ),
    _timer_way(
        "days-that-never-meet",
        "30 February and Monday",
        r"never (due|fires?)|no day|29 days|does not exist",
        _CRON,
        {"cron": "0 9 30 2 MON", "dayMatch": "All"},
    ),
    _timer_way(
        "zone-unknown",
        "the time zone is unknown",
        r"Mars/Olympus.{0,80}(zone|IANA)|(zone|IANA).{0,80}Mars/Olympus",
        _CRON,
        {"cron": "* * * * *", "timezone": "Mars/Olympus"},
    ),
    _timer_way(
        "zone-of-the-machine",
        "the time zone is one of the machine's",
        r"localtime",
        _CRON,
        {"cron": "* * * * *", "timezone": "localtime"},
    ),
    _timer_way(
        "data-too-large",
        "the timer's data is too large",
        r"data.{0,80}(16|KiB|bytes)",
        _INTERVAL,
        {"interval": 1, "data": {"x": "y" * 20000}},
    ),
    Way(
        name="disabled",
        what="the Rule is disabled",
        cause=r"rule is disabled",
        before=lambda stage: [every_second()],
        breaks=lambda stage: stage.patch("rule", "r", {"spec": {"enabled": False}}),
        wrong=(r"problem.*disabled",),
    ),
    Way(
        name="created-disabled",
        what="the Rule was made disabled",
        cause=r"rule is disabled",
        breaks=lambda stage: stage.apply(every_second(enabled=False)),
    ),
    Way(
        name="type-no-longer-offered",
        what="the Sensor offers the type no more",
        cause=r"no sensor offers the trigger type \S+\.old",
        before=lambda stage: [program("sleep 1000", type_="way.old"), rule("way.old", {})],
        breaks=lambda stage: stage.patch("sensor", "program", {"spec": {"triggerTypes": [{"name": "way.new"}]}}),
    ),
    Way(
        name="parameters-fit-no-more",
        what="the Sensor's schema was changed, and the parameters fit no more",
        cause=r"parameters.*queue.*required|required.*queue",
        before=lambda stage: [program("sleep 1000", type_="way.schema"), rule("way.schema", {})],
        breaks=lambda stage: stage.patch(
            "sensor",
            "program",
            {
                "spec": {
                    "triggerTypes": [
                        {"name": "way.schema", "parametersSchema": {"type": "object", "required": ["queue"]}}
                    ]
                }
            },
        ),
    ),
    Way(
        name="schema-unusable",
        what="the Sensor's schema is none",
        cause=r"parametersSchema.*(cannot be used|invalid|not valid|is not)|InvalidParametersSchema",
        breaks=lambda stage: stage.apply(
            program("sleep 1000", triggerTypes=[{"name": "way.schemaless", "parametersSchema": {"type": "objekt"}}]),
            rule("way.schemaless", {}),
        ),
    ),
    Way(
        name="sensor-deleted",
        what="the Sensor was deleted",
        cause=r"no sensor offers the trigger type \S+\.program",
        before=lambda stage: [program("sleep 1000"), rule("way.program", {})],
        breaks=lambda stage: stage.delete("sensor", "program"),
    ),
    Way(
        name="sensor-paused",
        what="the Sensor is paused",
        cause=r"sensor( \S+)? is paused",
        before=lambda stage: [program("sleep 1000"), rule("way.program", {})],
        breaks=lambda stage: stage.patch("sensor", "program", {"spec": {"paused": True}}),
        wrong=(r"problem.*paused",),
    ),
    Way(
        name="sensor-of-another-namespace",
        what="the Sensor admits Rules of its own namespace only",
        cause=r"admits Rules from its own namespace way-\S+ only",
        breaks=_sensor_elsewhere,
        mends=_drop_other,
    ),
    Way(
        name="namespace-selector",
        what="the Sensor admits namespaces with another label",
        cause=r"admits Rules from namespaces with .*team.* only",
        breaks=lambda stage: _sensor_elsewhere(
            stage, **{"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}
        ),
        mends=_drop_other,
    ),
    Way(
        name="namespace-lost-its-label",
        what="the namespace lost the label that the Sensor asks for",
        cause=r"admits Rules from namespaces with .*team.* only",
        labels={
            "pod-security.kubernetes.io/enforce": "restricted",
            "team": "a",
            "sensors.attune.dev/way-namespace-lost-its-label-other": "allowed",
        },
        before=lambda stage: [
            _other_namespace(stage),
            {
                **program(
                    "sleep 1000",
                    type_="way.labelled",
                    rules={"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}},
                ),
                "metadata": {"name": "program", "namespace": _other(stage)},
            },
            rule("way.labelled", {}),
        ],
        breaks=lambda stage: stage.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": stage.namespace, "labels": {"attune-ways": "yes"}},
            }
        ),
        mends=_drop_other,
    ),
    Way(
        name="permission-missing",
        what="the namespace has not allowed Sensors of the other one",
        cause=r"has not allowed Sensors of way-permission-missing-other",
        breaks=lambda stage: _sensor_elsewhere(stage, **{"from": "All"}),
        mends=_drop_other,
    ),
    Way(
        name="nearer-sensor-wins",
        what="a Sensor of the Rule's namespace wins over the one that works, and cannot start",
        cause=r"Sensor way-\S+/timer is not ready.*acme/none|image acme/none",
        kubelet=r"pull",
        before=lambda stage: [every_second()],
        breaks=lambda stage: stage.apply(timer(image="acme/none:1")),
        wrong=(r"Active=True.*core\.timer runs the rule",),
    ),
    Way(
        name="actions-invalid",
        what="an expression of its actions is wrong",
        cause=r"actions.*no_such_function|no_such_function",
        but="events are stored, nothing is done",
        breaks=lambda stage: stage.apply(
            every_second(
                actions=[{"name": "a", "http": {"url": "http://example.org", "body": {"x": "${no_such_function(1)}"}}}]
            )
        ),
    ),
    Way(
        name="actions-without-rights",
        what="its ServiceAccount may not do what the actions do",
        cause=r"does not let attune-actions act as the ServiceAccount poor",
        but="events are stored, nothing is done",
        breaks=lambda stage: stage.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "poor"}},
            every_second(
                serviceAccountName="poor",
                actions=[
                    {
                        "name": "a",
                        "object": {
                            "operation": "Apply",
                            "manifest": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}},
                        },
                    }
                ],
            ),
        ),
    ),
    Way(
        name="kinds-rights-missing",
        what="the Kubernetes sensor may not watch the kind",
        cause=r"secrets.*(forbidden|may not|no right|not allowed|cannot)|(may not|not allowed|forbidden).*secrets",
        breaks=lambda stage: stage.apply(rule("core.kubernetes", {"apiVersion": "v1", "kind": "Secret"})),
    ),
    Way(
        name="kind-unknown",
        what="the API server has no such kind",
        cause=r"does not serve example\.com/v1",
        breaks=lambda stage: stage.apply(rule("core.kubernetes", {"apiVersion": "example.com/v1", "kind": "Widget"})),
    ),
    Way(
        name="kinds-other-namespace",
        what="the Kubernetes sensor does not look into other namespaces for it",
        cause=r"(namespaces?.*default|default.*namespace|otherNamespaces)",
        breaks=lambda stage: stage.apply(
            rule("core.kubernetes", {"apiVersion": "v1", "kind": "ConfigMap", "namespaces": ["default"]})
        ),
    ),
    Way(
        name="selector-invalid",
        what="a label selector that is none",
        cause=r"labelSelector",
        breaks=lambda stage: stage.apply(
            rule("core.kubernetes", {"apiVersion": "v1", "kind": "ConfigMap", "labelSelector": "a===b"})
        ),
    ),
    Way(
        name="filter-no-cel",
        what="a filter that is no CEL",
        cause=r"parameters\.filter is not a CEL expression",
        breaks=lambda stage: stage.apply(
            rule("core.kubernetes", {"apiVersion": "v1", "kind": "ConfigMap", "filter": "object.data.x =="})
        ),
    ),
    Way(
        name="filter-no-bool",
        what="a filter that gives no bool",
        cause=r"filter.*expected true or false",
        breaks=lambda stage: _filtered(stage, "object.metadata.name"),
    ),
    Way(
        name="filter-fails",
        what="a filter that cannot be evaluated",
        cause=r"nothing gets through.*nowhere",
        breaks=lambda stage: _filtered(stage, "object.nowhere.at_all == 1"),
    ),
    Way(
        name="filter-never-true",
        what="a filter that is never true",
        cause=r"No event yet.*parameters\.filter was not true",
        breaks=lambda stage: _filtered(stage, "object.metadata.name == 'other'"),
    ),
)


def _filtered(stage: Stage, text: str) -> None:
    """A Rule with this filter, and then things that it would have to report."""
    stage.apply(rule("core.kubernetes", {"apiVersion": "v1", "kind": "ConfigMap", "events": ["added"], "filter": text}))
    stage.kube("wait", "--for=condition=Accepted", "rule/r", "-n", stage.namespace, "--timeout=30s")
    stage.kube(
        "wait",
        "--for=jsonpath={.status.conditions[?(@.type=='Active')].reason}",
        "rule/r",
        "-n",
        stage.namespace,
        "--timeout=30s",
    )
    stage.begin()
    for number in range(4):
        stage.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}"}})
