"""``attune convert``: what comes of manifests of other systems, and what is listed."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cli import attune

from attune_cli.convert.expressions import UntranslatableError, from_mustache, optional, put, select, split_path, there
from attune_cli.convert.files import Converted, convert
from attune_cli.errors import ExitCode
from attune_kit.cel.library import Expression
from attune_kit.cel.templates import expressions_in

SAMPLES = Path(__file__).with_name("convert")


def converted(name: str) -> tuple[dict[str, Any], Converted]:
    """The specs of a sample's Rules by their names."""
    done = convert([(name, (SAMPLES / name).read_text())])
    return {body["metadata"]["name"]: body["spec"] for body in done.objects}, done


def line_of(name: str, text: str) -> int:
    return next(number for number, line in enumerate((SAMPLES / name).read_text().splitlines(), 1) if text in line)


def lines(done: Converted) -> list[tuple[int, str]]:
    return [(note.line, note.field) for note in done.notes]


def test_a_workflow_for_a_push() -> None:
    rules, _ = converted("argo.yaml")
    rule = rules["build-workflow"]
    assert rule["trigger"] == {
        "type": "core.webhook",
        "parameters": {
            "path": "/push",
            "methods": ["POST"],
            "auth": {"type": "bearer", "secrets": ["hooks/token"]},
        },
    }
    assert rule["when"] == (
        'string(event.payload.body.ref).matches("^refs/heads/main$") && '
        "double(event.payload.body.commits[0].size) > 50.0"
    )
    assert rule["serviceAccountName"] == "builder"
    (action,) = rule["actions"]
    assert action["name"] == "workflow"
    assert action["retry"] == {"attempts": 3, "backoff": "3s"}
    assert action["rateLimit"] == {"perSecond": 0.5}
    manifest = action["object"]["manifest"]
    assert action["object"]["operation"] == "Create"
    assert manifest["metadata"] == {}
    assert manifest["spec"]["arguments"]["parameters"] == [
        {"name": "commit", "value": "${string(event.payload.body.after)}"},
        {"name": "shell", "value": "echo $${HOME}"},
    ]


def test_one_trigger_for_two_events_is_two_rules() -> None:
    rules, _ = converted("argo.yaml")
    night, failed = rules["build-tell-night"], rules["build-tell-failed"]
    assert night["trigger"] == {
        "type": "core.crontimer",
        "parameters": {"cron": "30 2 * * *", "timezone": "Europe/Berlin"},
    }
    (action,) = night["actions"]
    assert action["success"] == "response.status in [200, 204]"
    assert action["http"] == {
        "url": "https://chat.example.org/hook",
        "method": "POST",
        "headers": [{"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "chat", "key": "token"}}}],
        "body": {"text": {"when": "${event.occurredAt}", "about": "at ${event.payload.scheduled_at}"}},
    }
    assert failed["trigger"]["parameters"] == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "namespaces": ["batch"],
        "events": ["modified"],
        "labelSelector": "team=data",
        "filter": 'object.metadata.name.startsWith("import-") && object.metadata.annotations.level == "high"',
    }


def test_a_patch_of_an_object() -> None:
    rules, _ = converted("argo.yaml")
    (action,) = rules["build-scale"]["actions"]
    assert action["object"] == {
        "operation": "Patch",
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "worker",
        "patch": {"spec": {"replicas": "${event.payload.object.spec.parallelism}"}},
        "patchType": "Merge",
    }


def test_a_trigger_that_waits_for_several_events_is_a_rule_about_rules() -> None:
    rules, _ = converted("argo.yaml")
    assert rules["build-both"]["trigger"] == {
        "type": "core.all",
        "parameters": {
            "rules": ["build-push", "build-night"],
            "within": "744h",
            "when": '(event.rule.name == "build-push" && string(event.payload.body.ref).matches("^refs/heads/main$") && '
            'double(event.payload.body.commits[0].size) > 50.0) || (event.rule.name == "build-night")',
        },
    }
    assert "actions" not in rules["build-push"]
    assert rules["build-push"]["trigger"] == rules["build-workflow"]["trigger"]
    assert rules["build-night"]["trigger"] == rules["build-tell-night"]["trigger"]


@pytest.mark.parametrize(
    ("conditions", "action", "note"),
    [
        ("(push || night) && failed", "log: {}", "is not translated"),
        ("push && gone", "log: {}", "names a dependency"),
        (
            "push && night",
            "http: {url: https://x.example/, payload: [{src: {dependencyName: push, dataKey: body.ref}, dest: ref}]}",
            "actions with data of several events",
        ),
    ],
)
def test_of_several_events_what_cannot_be_said_is_listed(conditions: str, action: str, note: str) -> None:
    text = (SAMPLES / "argo.yaml").read_text()
    text = text.replace("conditions: push && night\n        log: {}", f"conditions: {conditions}\n        {action}")
    done = convert([("argo.yaml", text)])
    assert "build-both" not in {each["metadata"]["name"] for each in done.objects}
    [found] = [each for each in done.notes if each.field == "spec.triggers[3].template.conditions"]
    assert note in found.message


def test_an_event_that_no_sensor_uses_is_a_rule_without_actions() -> None:
    rules, _ = converted("argo.yaml")
    assert rules["sources-often"] == {
        "trigger": {"type": "core.intervaltimer", "parameters": {"interval": 90, "unit": "seconds"}}
    }


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("createdBy", "spec.resource.failed.filter.createdBy"),
        ("authSecret", "spec.webhook.push.authSecret"),
        ("exprs:", "spec.dependencies[0].filters.exprs"),
        ("{name: gone,", "spec.dependencies[3]"),
        ("generateName", "spec.triggers[0].template.argoWorkflow"),
        ("factor: 2", "spec.triggers[0].retryStrategy.factor"),
        ("slack:", "spec.triggers[4].template.slack"),
    ],
)
def test_what_argo_has_and_we_have_not_is_listed(text: str, field: str) -> None:
    _, done = converted("argo.yaml")
    notes = {field_: line for line, field_ in lines(done)}
    assert field in notes
    if text != "generateName":
        assert notes[field] == line_of("argo.yaml", text)


def test_a_ping_sends_what_the_source_would_send() -> None:
    rules, _ = converted("knative.yaml")
    rule = rules["heartbeat"]
    assert rule["trigger"]["parameters"] == {"cron": "*/5 * * * *", "timezone": "Europe/Berlin"}
    (action,) = rule["actions"]
    assert action["http"]["url"] == "http://receiver.shop.svc.cluster.local/beats"
    assert action["http"]["body"] == {"message": "costs $${5}"}
    headers = {header["name"]: header["value"] for header in action["http"]["headers"]}
    assert headers["Ce-Type"] == "dev.knative.sources.ping"
    assert headers["Ce-Source"] == "/apis/v1/namespaces/shop/pingsources/heartbeat"
    assert headers["Ce-Id"] == "${event.id}"


def test_triggers_become_actions_of_the_sources_that_they_take_events_of() -> None:
    rules, done = converted("knative.yaml")
    rule = rules["pods-pod"]
    assert rule["trigger"] == {
        "type": "core.kubernetes",
        "parameters": {"apiVersion": "v1", "kind": "Pod", "labelSelector": "app=web", "events": ["added"]},
    }
    (action,) = rule["actions"]
    assert (action["name"], action["when"]) == ("on-add", 'event.payload.change in ["added"]')
    assert action["http"]["url"] == "https://adds.example.org/"
    assert action["http"]["body"] == "${event.payload.object}"
    assert {"spec.sink.ref", "spec.serviceAccountName"} <= {field for _, field in lines(done)}


def test_rules_of_stackstorm() -> None:
    rules, done = converted("stackstorm.yaml")
    rule = rules["ops-disk-full"]
    assert rule["description"] == "Cleans up when a disk is nearly full."
    assert rule["trigger"]["parameters"] == {
        "path": "/disks",
        "auth": {"type": "header", "header": "St2-Api-Key", "secrets": ["attune-webhooks/disks"]},
    }
    assert rule["when"] == " && ".join(
        [
            "double(event.payload.body.level) > 90.0",
            'string(event.payload.body.host).matches("^web[0-9]+$")',
            "(has(event.payload.body.host))",
            '(type(event.payload.body.tags) == string ? string(event.payload.body.tags).contains("production") : '
            '"production" in event.payload.body.tags)',
        ]
    )
    (action,) = rule["actions"]
    assert action["http"]["body"] == {"host": "${event.payload.body.host}", "percent": "${event.payload.body.level} %"}
    nightly = rules["ops-nightly"]
    assert nightly["enabled"] is False
    assert nightly["trigger"]["parameters"] == {"cron": "0 3 * * MON-FRI", "timezone": "Europe/Berlin"}
    spec = nightly["actions"][0]["job"]["template"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["command"] == ["sh", "-c", "date; df -h"]
    assert rules["git-on-push"]["trigger"] == {"type": "github.push"}
    assert "actions" not in rules["git-on-push"]
    assert rules["git-pass-on"]["actions"] == [
        {
            "name": "inject-trigger",
            "emit": {"name": "git.released", "payload": {"tag": "${event.payload.body.tag}"}},
        }
    ]
    assert "type: core.event, parameters: {name: git.released}" in str(done.notes)
    assert [(line, field) for line, field in lines(done) if line > 35] == [
        (line_of("stackstorm.yaml", "type: github.push"), "trigger.type"),
        (line_of("stackstorm.yaml", "chatops.post_message"), "action.ref"),
        (line_of("stackstorm.yaml", "url: release") - 1, "trigger.type"),
        (line_of("stackstorm.yaml", "core.inject_trigger"), "action.ref"),
    ]
    assert (line_of("stackstorm.yaml", "timediff_gt"), "criteria.trigger.body.since") in lines(done)
    assert (line_of("stackstorm.yaml", "verify_ssl_cert"), "action.parameters.verify_ssl_cert") in lines(done)


@pytest.mark.parametrize("sample", ["argo.yaml", "knative.yaml", "stackstorm.yaml"])
def test_what_comes_out_is_admitted_and_its_expressions_compile(sample: str, tmp_path: Path) -> None:
    done = attune("convert", SAMPLES / sample, code=ExitCode.PROBLEM)
    assert f"{sample}:" in done.stderr
    out = tmp_path / "rules.yaml"
    out.write_text(done.stdout)
    linted = attune("lint", out, "--sensors", Path(__file__).parents[3] / "packs", "--allow-unknown-types")
    assert linted.stdout == ""
    for body in yaml.safe_load_all(done.stdout):
        if (when := body["spec"].get("when")) is not None:
            Expression(when, variables=["event"], condition=True)
        for action in body["spec"].get("actions", ()):
            for _, expression in expressions_in(action):
                Expression(expression.source, variables=["event"])


def test_other_documents_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mixed.yaml"
    file.write_text("kind: ConfigMap\napiVersion: v1\n---\n- a list\n---\n{broken\n")
    done = attune("convert", file, code=ExitCode.PROBLEM)
    assert done.stdout == ""
    assert f"{file}:1: ConfigMap of v1 is not translated" in done.stderr
    assert f"{file}:4: is not an object" in done.stderr
    assert "cannot be read" in done.stderr
    attune("convert", tmp_path / "missing.yaml", code=ExitCode.USAGE)


def test_paths_and_templates() -> None:
    assert select("e", split_path("a.b-c.0.in")) == 'e.a["b-c"][0]["in"]'
    assert split_path("a\\.b.c") == ["a.b", "c"]
    assert optional("e", ["a", "b-c"], "x") == 'e.?a[?"b-c"].orValue("x")'
    assert there("e", ["a", "b-c"]) == '"b-c" in e.a'
    for wrong in ("a.#.b", "a|@reverse", "a*"):
        with pytest.raises(UntranslatableError):
            split_path(wrong)
    assert from_mustache("$${x} {{ a }}", lambda inner: inner) == "$$${x} ${a}"
    with pytest.raises(UntranslatableError):
        from_mustache("{% if a %}", str)
    target: dict[str, Any] = {"list": ["a"]}
    put(target, ["list", "1", "b"], 5)
    put(target, ["list", "0"], 4)
    assert target == {"list": [4, {"b": 5}]}
    with pytest.raises(UntranslatableError):
        put(target, ["list", "9"], 1)
