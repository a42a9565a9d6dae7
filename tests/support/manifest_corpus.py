"""Manifests of every kind of oddity, made by hand and at random: what `attune lint` and an API server must agree on."""

import base64
import copy
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml
from support import actions_corpus

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One manifest. ``group`` is the kind of oddity; ``name`` is unique, and the object's name where that is well-formed."""

    group: str
    name: str
    text: str


RULE: Final[Manifest] = {
    "apiVersion": "attune.dev/v1alpha1",
    "kind": "Rule",
    "metadata": {"name": "NAME"},
    "spec": {"enabled": True, "trigger": {"type": "acme.any", "parameters": {"interval": 5, "names": ["a", "b"]}}},
}
SENSOR: Final[Manifest] = {
    "apiVersion": "attune.dev/v1alpha1",
    "kind": "Sensor",
    "metadata": {"name": "NAME", "labels": {"team": "a"}, "annotations": {"example.com/about": "A test."}},
    "spec": {
        "image": "acme/door:1.0",
        "imagePullPolicy": "Always",
        "command": ["python", "door.py"],
        "args": ["--fast"],
        "env": [
            {"name": "LEVEL", "value": "debug"},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "k", "key": "x"}}},
        ],
        "envFrom": [{"secretRef": {"name": "more"}}],
        "secrets": [{"name": "door-key"}],
        "ports": [{"name": "http", "port": 9000, "servicePort": 80}],
        "serviceAccountName": "door",
        "runner": "Stdio",
        "stdio": {
            "mode": "perRule",
            "onExit": "Restart",
            "linesPerSecond": 10,
            "stopSeconds": 1,
            "supervisor": "Image",
        },
        "scripts": {"door.py": "print()"},
        "triggerTypes": [
            {
                "name": "acme.door",
                "aliases": ["acme.gate"],
                "parametersSchema": {"type": "object"},
                "payloadSchema": {"type": "object"},
            },
            {"name": "acme.window"},
        ],
        "rules": {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}},
        "paused": False,
        "replicas": 2,
        "token": {"ttl": "12h", "onRotate": "Restart"},
        "config": {"anything": {"goes": [1, 2.5, None]}},
        "resources": {"limits": {"memory": "64Mi"}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "x", "operator": "Exists"}],
        "affinity": {},
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "pull"}],
        "terminationGracePeriodSeconds": 30,
    },
}
SECRET: Final[Manifest] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "NAME"},
    "type": "Opaque",
    "immutable": False,
    "data": {"token": "c2VjcmV0"},
    "stringData": {"user": "ann"},
}
CONFIG_MAP: Final[Manifest] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "NAME"},
    "immutable": True,
    "data": {"a.txt": "text"},
    "binaryData": {"b.bin": "AAEC"},
}
NAMESPACE: Final[Manifest] = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "NAME"},
    "spec": {"finalizers": ["example.com/mine"]},
    "status": {"phase": "Active"},
}
BASES: Final = {"rule": RULE, "sensor": SENSOR, "secret": SECRET, "configmap": CONFIG_MAP, "namespace": NAMESPACE}

#: Scalars as they stand in a manifest, without quotes unless written.
SCALARS: Final = [
    "1",
    "-1",
    "+1",
    "0",
    "-0",
    "007",
    "08",
    "09",
    "0o17",
    "0o8",
    "017",
    "0x1F",
    "0xg",
    "-0x1f",
    "+0x10",
    "0b101",
    "0b2",
    "-0b11",
    "1_000",
    "1__0",
    "_1",
    "1_",
    "0_7",
    "1e3",
    "1E3",
    "1e+3",
    "1e-3",
    "1e",
    "1.0",
    "1.",
    ".5",
    "-.5",
    "+.5",
    ".",
    "..",
    "1.5",
    "-1.5",
    "1e400",
    "-1e400",
    "1e-400",
    ".inf",
    "-.inf",
    "+.inf",
    ".Inf",
    ".INF",
    ".nan",
    ".NaN",
    ".NAN",
    "inf",
    "nan",
    "NaN",
    "Infinity",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "1e18",
    "1e19",
    "1e20",
    "1e21",
    "1e22",
    "123456789012345678901234567890",
    "0777777777777777777777777",
    "0.1",
    "0.30000000000000004",
    "100000.0",
    "1000000.0",
    "12345678.5",
    "1e-7",
    "0.0001",
    "0.00001",
    "y",
    "Y",
    "yes",
    "Yes",
    "YES",
    "yEs",
    "n",
    "N",
    "no",
    "No",
    "NO",
    "true",
    "True",
    "TRUE",
    "tRue",
    "false",
    "False",
    "FALSE",
    "on",
    "On",
    "ON",
    "off",
    "Off",
    "OFF",
    "oFF",
    "t",
    "f",
    "o",
    "~",
    "null",
    "Null",
    "NULL",
    "nUll",
    "None",
    "2026-01-01",
    "2026-1-1",
    "2026-13-01",
    "2026-01-01T00:00:00Z",
    "12:30",
    "12:30:00",
    "1:2",
    "190:20:30",
    "1.2.3",
    "1.10",
    "0.10",
    "1,000",
    "1%20",
    "=",
    "==",
    "<",
    "!!str\x001",
    '!!int\x00"1"',
    "!!int\x001.5",
    "!!int\x00x",
    "!!float\x001",
    "!!float\x001.5",
    "!!bool\x00yes",
    "!!bool\x00x",
    "!!null\x00~",
    "!!null\x00x",
    "!!binary\x00aGVsbG8=",
    "!!binary\x00a*b",
    "!!timestamp\x002026-01-01",
    "!!timestamp\x00x",
    "!foo\x001",
    "!!set\x00x",
    "!\x001",
    '"1"',
    "'1'",
    '"yes"',
    "'null'",
    '""',
    "''",
    '"a\\tb"',
    '"\\u00e4"',
    '"\\x41"',
    '"\\U0001F600"',
    "'it''s'",
    '"\\ud83d\\ude00"',
    '"\\q"',
    "@x",
    "`x",
    "%x",
    "a#b",
    "a:b",
    "a,b",
    "[a,b]",
    "{a:1}",
    "{a}",
    "a?b",
    "?a",
    "-a",
    "---",
    "a-b",
    ":a",
    "a:",
    "&a\x00x",
    "*a",
    "<<",
]


def dumped(body: Any) -> str:
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True)


def named(body: Manifest, name: str) -> Manifest:
    made = copy.deepcopy(body)
    if isinstance(made.get("metadata"), dict) and made["metadata"].get("name") == "NAME":
        made["metadata"]["name"] = name
    return made


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of everything inside a value."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*path, key)
        yield from paths(inner, (*path, key))


def put(body: Manifest, path: tuple[Any, ...], value: Any) -> Manifest:
    made = copy.deepcopy(body)
    inner: Any = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


def without(body: Manifest, path: tuple[Any, ...]) -> Manifest:
    made = copy.deepcopy(body)
    inner: Any = made
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return made


def scalar_cases() -> Iterator[Case]:
    for index, scalar in enumerate(SCALARS):
        text = scalar.replace("\x00", " ")
        head = "apiVersion: attune.dev/v1alpha1\nkind: Rule\nmetadata: {{name: {name}}}\nspec:\n  trigger:\n    type: acme.any\n"
        value = f"scalar-{index}"
        yield Case("scalar", value, f"{head.format(name=value)}    parameters:\n      v: {text}\n")
        inside = f"flow-{index}"
        yield Case("scalar in braces", inside, f"{head.format(name=inside)}    parameters: {{v: {text}}}\n")
        key = f"key-{index}"
        yield Case("key", key, f"{head.format(name=key)}    parameters:\n      {text}: v\n")


def metadata_cases() -> Iterator[Case]:
    long = "a" * 63
    good = [
        {"labels": {}},
        {"labels": None},
        {"labels": {"a": ""}},
        {"labels": {"a": None}},
        {"labels": {"a": long}},
        {"labels": {"example.com/a_b.c-d": "A1"}},
        {"annotations": {"A.B/c": "anything at all\n"}},
        {"annotations": {"a": None}},
        {"annotations": {}},
        {"annotations": {"a": "x" * 262_143}},
        {"finalizers": []},
        {"finalizers": ["example.com/x"]},
        {"finalizers": None},
        {"ownerReferences": []},
        {"generateName": "a-"},
        {"generateName": ""},
        {"namespace": ""},
        {"namespace": None},
        {"namespace": "team-a"},
        {"uid": "x"},
        {"generation": 7},
        {"creationTimestamp": None},
        {"creationTimestamp": "2026-01-01T00:00:00Z"},
        {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        {"selfLink": "x"},
        {"deletionGracePeriodSeconds": 5},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]},
        {
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": "p",
                    "uid": "u",
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ]
        },
        {"managedFields": []},
        {"finalizers": ["orphan"]},
        {"resourceVersion": ""},
        {"uid": ""},
        {"generation": 0},
    ]
    bad = [
        {"labels": []},
        {"labels": "a"},
        {"labels": {"a": 1}},
        {"labels": {"a": True}},
        {"labels": {"a": 1.5}},
        {"labels": {"a": {}}},
        {"labels": {"a": long + "b"}},
        {"labels": {long + "b": "a"}},
        {"labels": {"a b": "c"}},
        {"labels": {"a": "b c"}},
        {"labels": {"": "a"}},
        {"labels": {"/a": "b"}},
        {"labels": {"a/": "b"}},
        {"labels": {"a/b/c": "d"}},
        {"labels": {"A.b/c": "d"}},
        {"labels": {"-a": "b"}},
        {"labels": {"a": "-b"}},
        {"labels": {"a": "b\n"}},
        {"labels": {"ä": "b"}},
        {"labels": {"a": "ä"}},
        {"annotations": {"a": 1}},
        {"annotations": {"a b": "c"}},
        {"annotations": {"a/b/c": "d"}},
        {"annotations": {"a": "x" * 262_144}},
        {"annotations": {"a": "ä" * 131_072}},
        {"annotations": [1]},
        {"finalizers": ["a b"]},
        {"finalizers": ["orphan", "foregroundDeletion"]},
        {"finalizers": "x"},
        {"finalizers": [1]},
        {"finalizers": [None]},
        {"finalizers": ["x"]},
        {"ownerReferences": [{}]},
        {"ownerReferences": [None]},
        {"ownerReferences": ["x"]},
        {"ownerReferences": {}},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "p", "uid": "u"}]},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "extra": 1}]},
        {
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True},
                {"apiVersion": "v1", "kind": "Pod", "name": "q", "uid": "v", "controller": True},
            ]
        },
        {"Namespace": "team-a"},
        {"Labels": {}},
        {"label": {}},
        {"clusterName": "x"},
        {"namespace": "Team"},
        {"namespace": "a.b"},
        {"namespace": "a" * 64},
        {"namespace": 5},
        {"creationTimestamp": "yesterday"},
        {"creationTimestamp": "2026-01-01"},
        {"creationTimestamp": ""},
        {"creationTimestamp": "2026-13-01T00:00:00Z"},
        {"creationTimestamp": 5},
        {"deletionTimestamp": "x"},
        {"generation": "1"},
        {"generation": -1},
        {"generation": 1.5},
        {"uid": 1},
        {"deletionGracePeriodSeconds": "5"},
        {"generateName": "UP"},
        {"generateName": 1},
        {"managedFields": [{}]},
        {"managedFields": [{"operation": "Apply"}]},
        {"managedFields": "x"},
        {"resourceVersion": 5},
        {"creationTimestamp": "2026-01-01t00:00:00z"},
        {"creationTimestamp": "2026-01-01T00:00:00+01:00"},
        {"creationTimestamp": "2026-01-01T00:00:00.5Z"},
        {"creationTimestamp": "2026-01-01T24:00:00Z"},
    ]
    for index, change in enumerate([*good, *bad]):
        for kind, base in (("rule", RULE), ("secret", SECRET)):
            name = f"meta-{kind}-{index}"
            body = named(base, name)
            body["metadata"].update(change)
            yield Case("metadata", name, dumped(body))
    names: list[Any] = [
        None,
        "",
        5,
        True,
        1.5,
        [],
        {},
        "A",
        "a_b",
        "a b",
        "a..b",
        ".a",
        "a.",
        "-a",
        "a-",
        "a" * 253,
        "a" * 254,
        "a" * 64,
        "a.b.c",
        "1",
        "a\n",
        "ä",
        "../x",
        "a/b",
        "*",
        "con.fig",
        "0",
        "a" * 63,
    ]
    for index, wrong in enumerate(names):
        for kind, base in BASES.items():
            body = copy.deepcopy(base)
            body["metadata"]["name"] = wrong
            yield Case("name", f"name-{kind}-{index}", dumped(body))
    shapes: list[Any] = [None, [], "x", 5, {}, {"namespace": "default"}, {"generateName": "a-"}]
    for index, metadata in enumerate(shapes):
        for kind, base in BASES.items():
            yield Case("no metadata", f"nometa-{kind}-{index}", dumped({**base, "metadata": metadata}))
        yield Case(
            "no metadata", f"nometa-left-out-{index}", dumped({k: v for k, v in RULE.items() if k != "metadata"})
        )


def null_cases() -> Iterator[Case]:
    """Every field of everything as null, as an empty text, and left out."""
    for kind, base in BASES.items():
        for index, path in enumerate(paths(base)):
            if path in (("apiVersion",), ("kind",), ("metadata",), ("metadata", "name")):
                continue
            for what, value in (("null", None), ("empty", ""), ("zero", 0), ("object", {}), ("list", [])):
                name = f"{what}-{kind}-{index}"
                yield Case(f"{what} for a value", name, dumped(named(put(base, path, value), name)))
            name = f"out-{kind}-{index}"
            yield Case("left out", name, dumped(named(without(base, path), name)))


def plain_cases() -> Iterator[Case]:
    """Secrets, ConfigMaps and Namespaces."""
    b64 = "eA=="
    secrets: list[Any] = [
        {"data": {"a": "my-token"}},
        {"data": {"a": 5432}},
        {"data": {"a": "eA"}},
        {"data": {"a": "eA==\n"}},
        {"data": {"a": "e\nA=="}},
        {"data": {"a": ""}},
        {"data": {"a": None}},
        {"data": []},
        {"data": "x"},
        {"data": {"a": "_-=="}},
        {"data": {"a": "eA= ="}},
        {"data": {"a": "ä"}},
        {"data": {"a": True}},
        {"data": {"A=B": b64}},
        {"data": {"": b64}},
        {"data": {".": b64}},
        {"data": {"..": b64}},
        {"data": {"..a": b64}},
        {"data": {".a": b64}},
        {"data": {"a/b": b64}},
        {"data": {"a" * 253: b64}},
        {"data": {"a" * 254: b64}},
        {"stringData": "user=ann"},
        {"stringData": ["a"]},
        {"stringData": {"a": 1}},
        {"stringData": {"a": None}},
        {"stringData": {"a": ""}},
        {"stringData": {"a b": "c"}},
        {"stringdata": {"a": "b"}},
        {"StringData": {"a": "b"}},
        {"data": {"a": b64}, "stringData": {"a": "wins"}},
        {"data": ["x"], "stringData": {"a": "b"}},
        {"type": ""},
        {"type": None},
        {"type": 5},
        {"type": "any/thing"},
        {"type": "kubernetes.io/tls"},
        {"type": "kubernetes.io/tls", "data": {"tls.crt": b64, "tls.key": b64}},
        {"type": "kubernetes.io/basic-auth"},
        {"type": "kubernetes.io/basic-auth", "stringData": {"password": "x"}},
        {"type": "kubernetes.io/ssh-auth", "data": {"ssh-privatekey": ""}},
        {"type": "kubernetes.io/ssh-auth", "data": {"ssh-privatekey": b64}},
        {"type": "kubernetes.io/dockerconfigjson"},
        {"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{}"}},
        {"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "x"}},
        {"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "[]"}},
        {"type": "kubernetes.io/dockercfg", "stringData": {".dockercfg": "null"}},
        {"type": "kubernetes.io/service-account-token"},
        {"immutable": "yes"},
        {"immutable": None},
        {"immutable": True},
        {"extra": 1},
        {"stringData": {"a": "x" * 1_048_576}},
        {"stringData": {"a": "x" * 1_048_577}},
        {"stringData": {"a": "\u0000"}},
        {"stringData": {"a": "ä\u2028"}},
        {"data": {"a": "/w=="}},
        {"spec": {}},
        {"status": {}},
    ]
    maps: list[Any] = [
        {"data": {"a": 1}},
        {"data": {"a": True}},
        {"data": {"a": None}},
        {"data": []},
        {"data": {"a b": "c"}},
        {"data": {"a": "x"}, "binaryData": {"a": b64}},
        {"binaryData": {"a": "plain text"}},
        {"binaryData": {"a": b64}},
        {"binaryData": {"a": None}},
        {"data": {"..": "x"}},
        {"Data": {}},
        {"data": {"a": ["x"]}},
        {"data": {"a": "x" * 1_048_577}},
        {"data": {"a": "x" * 1_048_576}},
        {"data": {"a": "ä" * 524_288}},
        {"data": {"a": "ä" * 524_289}},
        {"immutable": 1},
        {"immutable": True},
        {"data": {}},
        {"data": None},
        {"binaryData": {}},
        {"binaryData": None, "data": {"x": ""}},
    ]
    namespaces: list[Any] = [
        {},
        {"spec": {}},
        {"spec": None},
        {"spec": {"finalizers": []}},
        {"spec": {"finalizers": ["x"]}},
        {"spec": {"finalizers": ["kubernetes"]}},
        {"spec": {"finalizers": "x"}},
        {"spec": {"finalizers": ["a/b"]}},
        {"spec": {"extra": 1}},
        {"status": {"phase": "Terminating"}},
        {"status": {"extra": 1}},
        {"extra": 1},
        {"spec": []},
    ]
    for kind, name, changes in (
        ("Secret", "plain-secret", secrets),
        ("ConfigMap", "plain-map", maps),
        ("Namespace", "plain-namespace", namespaces),
    ):
        for index, change in enumerate(changes):
            body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": f"{name}-{index}"}, **change}
            yield Case(f"a {kind}", f"{name}-{index}", dumped(body))
    for index, label in enumerate(["x", None, ""]):
        body = named(NAMESPACE, f"labelled-{index}")
        body["metadata"]["labels"] = {"kubernetes.io/metadata.name": label}
        yield Case("a Namespace", f"labelled-{index}", dumped(body))
    body = named(NAMESPACE, "inside")
    body["metadata"]["namespace"] = "default"
    yield Case("a Namespace", "inside", dumped(body))


def document_cases() -> Iterator[Case]:
    """Whole documents: YAML's and JSON's own oddities."""
    head = "apiVersion: attune.dev/v1alpha1\nkind: Rule\nmetadata: {name: NAME}\n"
    rest = "spec: {trigger: {type: acme.any}}\n"
    texts = [
        "just a text\n",
        "[1]\n",
        "5\n",
        "a: [1\n",
        "{}\n",
        "kind: Rule\n",
        "apiVersion: attune.dev/v1alpha1\n",
        "a: b\n",
        head + rest + "spec: {trigger: {type: acme.other}}\n",
        head + "spec:\n  trigger: {type: acme.any}\n  trigger: {type: acme.other}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {a: 1, a: 2}}}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {1: a, '1': a}}}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {<<: {a: 1}, b: 2}}}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {a: 3, <<: {a: 1}}}}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {<<: [{a: 1}, {a: 2, b: 2}]}}}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {<<: 5}}}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {<<: [1]}}}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {'<<': {a: 1}}}}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {x: &a {b: 1}, y: *a}}}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {x: *a}}}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {x: &a [*a]}}}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {? [a] : b}}}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {? {a: b} : c}}}\n",
        head + "spec:\n\ttrigger: {type: acme.any}\n",
        head + "spec:\n  trigger:\n    type: |\n      acme.any\n",
        head + "spec:\n  trigger:\n    type: |-\n      acme.any\n",
        head + "spec:\n  trigger:\n    type: >\n      acme.any\n",
        head + rest + "...\nnot: looked at\n",
        head + rest + "# a comment\n",
        "%YAML 1.1\n---\n" + head + rest,
        "\ufeff" + head + rest,
        (head + rest).replace("\n", "\r\n"),
        head + 'spec: {trigger: {type: acme.any, parameters: {a: "\u0001"}}}\n',
        head + 'spec: {trigger: {type: acme.any, parameters: {a: "\\x01"}}}\n',
        head + "spec: {trigger: {type: acme.any}}\nextra: 1\n",
        head + "spec: {trigger: {type: acme.any}}\nstatus: {sensor: x}\n",
        head + "spec: {trigger: {type: acme.any}}\nstatus: {extra: x}\n",
        head + "spec: {trigger: {type: acme.any}}\nstatus: 5\n",
        head + "spec: {trigger: {type: acme.any}}\nstatus:\n",
        head + "spec: {trigger: {type: acme.any}}\nstatus: {conditions: [{type: A}]}\n",
        head,
        head + "spec:\n",
        head + "spec: []\n",
        head + "spec: {}\n",
        head + "spec: {Trigger: {type: acme.any}}\n",
        head.replace("v1alpha1", "v1") + rest,
        head.replace("Rule", "rule") + rest,
        head.replace("Rule", "Rules") + rest,
        head.replace("attune.dev/v1alpha1", "attune.dev") + rest,
        head.replace("kind: Rule", "kind: 5") + rest,
        head.replace("kind: Rule", "kind:") + rest,
        head.replace("apiVersion: attune.dev/v1alpha1", "apiVersion: 1") + rest,
        head + "spec: {trigger: {type: acme.any, parameters: {deep: " + "[" * 40 + "]" * 40 + "}}}\n",
        head + 'spec: {trigger: {type: acme.any, parameters: {t: a\u0085b, u: "a\u2028b"}}}\n',
        head + "spec: {trigger: {type: acme.any, parameters: {e: \U0001f600}}}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {a: }}}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {a}}}\n",
        head + "spec: {trigger: {type: acme.any,}}\n",
        head + "spec: {trigger: {type: acme.any}, }\n",
        head + 'spec: {"trigger":{"type":"acme.any"}}\n',
        head + "spec: {trigger: {type: acme.any, parameters: {a:1}}}\n",
        head + "spec: {trigger: {type: acme.any, parameters: {a: b: c}}}\n",
        head + "spec:\n  trigger: {type: acme.any, parameters: {a: 'x\n\n    y'}}\n",
        head + "spec:\n  trigger:\n  - type: acme.any\n",
        head + "spec:\n trigger:\n   type: acme.any\n  enabled: true\n",
        head + "? spec\n: {trigger: {type: acme.any}}\n",
        head + "spec: !!map {trigger: {type: acme.any}}\n",
        head + "spec: {trigger: {type: !!str acme.any}}\n",
        head + "spec: {trigger: {type: acme.any}, enabled: !!str true}\n",
        "!!map\n" + head + rest,
        "&root\n" + head + rest,
    ]
    for index, text in enumerate(texts):
        name = f"document-{index}"
        yield Case("document", name, text.replace("NAME", name))
    rule = {
        "apiVersion": "attune.dev/v1alpha1",
        "kind": "Rule",
        "metadata": {"name": "NAME"},
        "spec": {"trigger": {"type": "acme.any"}},
    }
    plain = json.dumps(rule)

    def with_parameters(text: str) -> str:
        return plain.replace('"acme.any"', f'"acme.any", "parameters": {text}')

    objects = [
        plain,
        json.dumps(rule, indent=2),
        "\n\n  " + plain,
        plain + "\n",
        plain.replace("{", "{\t"),
        plain[:-1],
        plain[:-1] + ",}",
        plain.replace('"', "'"),
        "// x\n" + plain,
        with_parameters('{"a": 1.0, "b": 1e3, "c": -0, "d": 1E2, "e": 12345678901234567890, "f": 0.1}'),
        with_parameters('{"a": 01}'),
        with_parameters('{"a": NaN}'),
        with_parameters('{"a": +1}'),
        with_parameters('{"a": "\\ud83d\\ude00"}'),
        with_parameters('{"a": "\\ud83d"}'),
        with_parameters('{"a": "\\q"}'),
        with_parameters('{"a": "x\ty"}'),
        with_parameters('{"a": 1, "a": 2}'),
        with_parameters('{"a": .5}'),
        with_parameters('{"a": 1.}'),
        with_parameters("{a: 1}"),
        with_parameters('{"a": null}'),
        with_parameters('{"on": 1, "1": 2}'),
        with_parameters('{"a": 1e400}'),
        with_parameters('{"a": "\\u0000"}'),
        with_parameters('{"": 1}'),
        with_parameters('{"a": 1} /* x */'),
        with_parameters("[]"),
        with_parameters("null"),
    ]
    for index, text in enumerate(objects):
        name = f"json-{index}"
        yield Case("JSON", name, text.replace("NAME", name))


ODDS: Final[list[Any]] = [
    None,
    "",
    "x",
    0,
    1,
    -1,
    1.5,
    1e30,
    True,
    False,
    [],
    {},
    [None],
    [{}],
    {"a": None},
    {"a": 1},
    ["a", "a"],
    "a" * 300,
    "a.b",
    "24h",
    70000,
    "All",
    "Stdio",
    [{"name": "a.b"}, {"name": "a.b"}],
    {"name": "x"},
    2**40,
    "a\n",
    "ATTUNE_X",
    "2026-01-01T00:00:00Z",
]


def random_cases(count: int, seed: int) -> Iterator[Case]:
    """Objects with one to three random changes: something else somewhere, something left out, something more."""
    rng = random.Random(seed)
    for index in range(count):
        kind = rng.choice(["rule", "sensor", "sensor", "sensor", "secret", "configmap"])
        name = f"random-{seed}-{index}"
        body = named(BASES[kind], name)
        for _ in range(rng.randint(1, 3)):
            places = [
                path
                for path in paths(body)
                if path[0] not in ("apiVersion", "kind") and path != ("metadata", "name") and path != ("metadata",)
            ]
            if not places:
                break
            path = rng.choice(places)
            match rng.randrange(4):
                case 0:
                    body = without(body, path)
                case 1:
                    parent: Any = body
                    for key in path[:-1]:
                        parent = parent[key]
                    if isinstance(parent, dict):
                        parent[rng.choice(["extra", "Name", "type", "name", "namespaces"])] = copy.deepcopy(
                            rng.choice(ODDS)
                        )
                    else:
                        parent.append(copy.deepcopy(rng.choice([*ODDS, *parent[:1]])))
                case _:
                    body = put(body, path, copy.deepcopy(rng.choice(ODDS)))
        if isinstance(body.get("metadata"), dict) and body["metadata"].get("name") == name:
            yield Case("at random", name, dumped(body))


def by_hand() -> list[Case]:
    """Every case that is written down."""
    return [*scalar_cases(), *metadata_cases(), *null_cases(), *plain_cases(), *document_cases(), *action_cases()]


def action_cases() -> Iterator[Case]:
    """Rules with actions, those that are taken and those that are not."""
    specs = {**actions_corpus.TAKEN, **{name: spec for name, (spec, _) in actions_corpus.REFUSED.items()}}
    for name, spec in specs.items():
        manifest = {**RULE, "metadata": {"name": f"actions-{name}"}, "spec": {**RULE["spec"], **spec}}
        yield Case("actions", f"actions-{name}", yaml.safe_dump(manifest))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
