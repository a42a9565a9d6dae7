"""Rules with actions: what may stand in a Rule, and what may not, with words of the complaint."""

from typing import Any, Final

Spec = dict[str, Any]

_HTTP: Final[Spec] = {"url": "https://chat.example.org/hooks/${event.data.team}"}
_SECRET: Final[Spec] = {"secretKeyRef": {"name": "chat", "key": "token"}}
_JOB: Final[Spec] = {"template": {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x"}]}}}}}
_DEPLOYMENT: Final[Spec] = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
_MANIFEST: Final[Spec] = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "${event.id}"}}


def action(**fields: Any) -> Spec:
    """A Rule's spec with one action."""
    await_ = {"await": fields.pop("await_")} if "await_" in fields else {}
    return {"serviceAccountName": "worker", "actions": [{"name": "act", **fields, **await_}]}


def http(**fields: Any) -> Spec:
    """A Rule's spec with one action of kind http."""
    return action(http={**_HTTP, **fields})


TAKEN: Final[dict[str, Spec]] = {
    "every-field": {
        "description": "Tells the team",
        "data": {"team": "imports", "list": [1, None, {"a": 1.5}]},
        "when": "event.payload.failed > 2",
        "serviceAccountName": "importer",
        "order": "Strict",
        "actions": [
            {
                "name": "tell",
                "when": "has(event.payload.a)",
                "http": {
                    **_HTTP,
                    "method": "PUT",
                    "headers": [
                        {"name": "Authorization", "valueFrom": _SECRET},
                        {"name": "X-Team", "value": "${event.data.team}"},
                    ],
                    "query": {"a": "${event.id}"},
                    "body": {"text": "${event.rule.name}", "none": None, "list": [1, None]},
                },
                "retry": {"attempts": 3, "backoff": "500ms", "maxBackoff": "1m30s", "timeout": "2s"},
                "concurrency": "Replace",
                "rateLimit": {"perSecond": 0.5, "burst": 3},
                "success": "response.status == 409",
            },
            {"name": "run", "job": _JOB, "await": "Completed", "concurrency": "Forbid"},
            {"name": "make", "object": {"operation": "Apply", "manifest": _MANIFEST}, "await": "object.data.a != ''"},
            {
                "name": "scale",
                "object": {
                    "operation": "Patch",
                    **_DEPLOYMENT,
                    "patch": {"spec": {"replicas": 3}},
                    "patchType": "Merge",
                },
            },
            {"name": "drop", "object": {"operation": "Delete", **_DEPLOYMENT}},
            {
                "name": "publish",
                "nats": {
                    "connection": {
                        "url": "tls://nats.example.org:4222",
                        "credentialsSecret": {"name": "nats", "key": "creds"},
                    },
                    "subject": "imports.${event.rule.name}",
                    "body": "${event.payload}",
                    "headers": {"X-A": "b"},
                    "jetStream": True,
                },
            },
            {"name": "silence", "rule": {"name": "other", "enabled": False}},
            {"name": "again", "emit": {"name": "import-failed", "payload": "${event.payload}"}},
        ],
    },
    "body-is-a-list": http(body=[1, "${event.id}"]),
    "body-is-a-text": http(body="${event.payload}"),
    "body-is-null": http(body=None),
    "form": http(form={"a": "b"}),
    "text": http(text="down since ${event.occurredAt}"),
    "cloud-event": http(cloudEvent="Binary"),
    "cloud-event-patch": http(cloudEvent="Structured", method="PATCH"),
    "url-is-an-expression": http(url="${event.payload.callback}"),
    "http-without-an-account": {"actions": [{"name": "a", "http": _HTTP}]},
    "nats-without-an-account": {
        "actions": [{"name": "a", "nats": {"connection": {"url": "nats://n:4222"}, "subject": "s"}}]
    },
    "emit-without-an-account": {"actions": [{"name": "a", "emit": {"name": "x"}}]},
    "no-actions": {"actions": []},
    "whole-rate": action(http=_HTTP, rateLimit={"perSecond": 2}),
    "patch-without-a-type": action(object={"operation": "Patch", **_DEPLOYMENT, "patch": {}}),
    "longest-waits": action(http=_HTTP, retry={"backoff": "1h", "maxBackoff": "24h", "timeout": "10m"}),
}

REFUSED: Final[dict[str, tuple[Spec, str]]] = {
    "no-kind": (action(), "an action has exactly one of http, job, object, nats, rule and emit"),
    "two-kinds": (action(http=_HTTP, emit={"name": "x"}), "an action has exactly one of"),
    "same-name": ({"actions": [{"name": "a", "http": _HTTP}, {"name": "a", "http": _HTTP}]}, "there twice"),
    "name-with-capitals": ({"actions": [{"name": "Tell", "http": _HTTP}]}, "does not match"),
    "name-too-long": ({"actions": [{"name": "a" * 41, "http": _HTTP}]}, "at most 40 characters"),
    "too-many": ({"actions": [{"name": f"a{n}", "http": _HTTP} for n in range(17)]}, "at most 16 items"),
    "job-without-an-account": ({"actions": [{"name": "a", "job": _JOB}]}, "serviceAccountName is required"),
    "rule-without-an-account": (
        {"actions": [{"name": "a", "rule": {"name": "b", "enabled": True}}]},
        "serviceAccountName is required",
    ),
    "object-without-an-account": (
        {"actions": [{"name": "a", "object": {"operation": "Delete", **_DEPLOYMENT}}]},
        "serviceAccountName is required",
    ),
    "secret-without-an-account": (
        {"actions": [{"name": "a", "http": {**_HTTP, "headers": [{"name": "A", "valueFrom": _SECRET}]}}]},
        "serviceAccountName is required",
    ),
    "nats-secret-without-an-account": (
        {
            "actions": [
                {
                    "name": "a",
                    "nats": {
                        "connection": {"url": "nats://n", "credentialsSecret": {"name": "nats", "key": "creds"}},
                        "subject": "s",
                    },
                }
            ]
        },
        "serviceAccountName is required",
    ),
    "account-name": ({"serviceAccountName": "../x"}, "does not match"),
    "url-of-another-kind": (http(url="file:///etc/passwd"), "a url begins with https:// or http://"),
    "url-without-a-host": (http(url="https:///x"), "a url begins with https:// or http://"),
    "body-and-form": (http(body={}, form={"a": "b"}), "body and form exclude each other"),
    "body-and-text": (http(body=1, text="x"), "body and text exclude each other"),
    "body-and-cloud-event": (http(body=[], cloudEvent="Binary"), "body and cloudEvent exclude each other"),
    "form-and-text": (http(form={"a": "b"}, text="x"), "exclude each other"),
    "text-and-cloud-event": (http(text="x", cloudEvent="Binary"), "exclude each other"),
    "cloud-event-get": (http(cloudEvent="Binary", method="GET"), "a CloudEvent is sent with POST, PUT or PATCH"),
    "method": (http(method="TRACE"), "must be one of"),
    "header-host": (http(headers=[{"name": "HOST", "value": "x"}]), "this header is set by Attune"),
    "header-key": (http(headers=[{"name": "Idempotency-Key", "value": "x"}]), "this header is set by Attune"),
    "header-name": (http(headers=[{"name": "A: b\r\nC", "value": "x"}]), "does not match"),
    "header-twice": (http(headers=[{"name": "A", "value": "x"}, {"name": "A", "value": "z"}]), "there twice"),
    "header-without-a-value": (http(headers=[{"name": "A"}]), "a header has either value or valueFrom"),
    "header-with-both": (
        http(headers=[{"name": "A", "value": "x", "valueFrom": _SECRET}]),
        "a header has either value or valueFrom",
    ),
    "success-of-a-job": (action(job=_JOB, success="true"), "success is only for http"),
    "await-of-http": (action(http=_HTTP, await_="Completed"), "await is only for job"),
    "await-of-a-job": (action(job=_JOB, await_="object.status.ready"), "await is only for job"),
    "create-without-a-manifest": (action(object={"operation": "Create"}), "Create and Apply need manifest"),
    "apply-with-a-name": (
        action(object={"operation": "Apply", "manifest": _MANIFEST, "name": "x"}),
        "Create and Apply need manifest",
    ),
    "delete-without-a-name": (
        action(object={"operation": "Delete", "apiVersion": "v1", "kind": "Pod"}),
        "Patch and Delete need apiVersion, kind and name",
    ),
    "patch-without-a-patch": (action(object={"operation": "Patch", **_DEPLOYMENT}), "Patch and patch go together"),
    "patch-of-a-delete": (
        action(object={"operation": "Delete", **_DEPLOYMENT, "patch": {}}),
        "Patch and patch go together",
    ),
    "patch-type-of-a-delete": (
        action(object={"operation": "Delete", **_DEPLOYMENT, "patchType": "Merge"}),
        "patchType goes with operation: Patch",
    ),
    "nats-with-a-password": (
        action(nats={"connection": {"url": "nats://ann:secret@n:4222"}, "subject": "s"}),
        "does not match",
    ),
    "duration": (action(http=_HTTP, retry={"backoff": "2 seconds"}), "does not match"),
    "duration-too-short": (action(http=_HTTP, retry={"backoff": "1ms"}), "expected a duration from 10ms to 1h"),
    "duration-too-long": (action(http=_HTTP, retry={"timeout": "11m"}), "expected a duration from 100ms to 10m"),
    "longest-wait-too-short": (
        action(http=_HTTP, retry={"backoff": "2s", "maxBackoff": "1s"}),
        "maxBackoff is at least backoff",
    ),
    "no-attempts": (action(http=_HTTP, retry={"attempts": 0}), "at least 1"),
    "rate-of-nothing": (action(http=_HTTP, rateLimit={"perSecond": 0}), "perSecond is from 0.001"),
    "concurrency": (action(http=_HTTP, concurrency="Maybe"), "must be one of"),
    "order": ({"order": "Random"}, "must be one of"),
    "condition-of-nothing": ({"when": ""}, "at least 1 characters"),
    "unknown-field": (action(http={**_HTTP, "verb": "GET"}), "unknown field"),
}
