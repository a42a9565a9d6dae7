"""`attune lint`, `attune up` and a real kube-apiserver judge alike: the same verdict, and the same object in the store.

The server is asked by ``kubectl create --dry-run=server``, so reading YAML is compared, too. Where both differ on purpose,
:data:`ON_PURPOSE` says why.
"""

import copy
import json
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from support.manifest_corpus import Case, by_hand, random_cases

from attune_cluster.apiserver import ApiServer
from attune_cluster.settings import Settings
from attune_cluster.tools import tools
from attune_local.admission import check_text

pytest_plugins = ["support.operator_fixtures"]
pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(600)]

#: Cases on which we differ, and why.
ON_PURPOSE: Final = {
    r"nometa-\w+-6": "generateName creates another object each time; `kubectl apply` refuses it as well",
    r"flow-168": "a plain text that ends with ':' before a brace; libyaml refuses what kubectl reads as part of the text",
}
_OF_THE_SERVER: Final = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
_SEED: Final = 20261127

Verdict = tuple[bool, list[Any], str]


class Kube:
    """kubectl against the real API server. Nothing is stored."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self._kubectl = tools(Settings.from_environment(), ["kubectl"])["kubectl"]
        self._server = server
        self.folder = folder

    def create(self, *paths: Path) -> "subprocess.CompletedProcess[str]":
        files = [part for path in paths for part in ("-f", str(path))]
        return subprocess.run(
            [
                *(str(self._kubectl), "--kubeconfig", str(self._server.kubeconfig), "create", "--dry-run=server"),
                *("--validate=strict", "-o", "json", *files),
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def verdicts(self, cases: Sequence[Case]) -> dict[str, Verdict]:
        """All at once; those of which the answer does not tell are asked one by one."""
        for case in cases:
            (self.folder / f"{case.name}.yaml").write_text(case.text, encoding="utf-8")
        done = self.create(self.folder)
        accepted = {body["metadata"].get("name"): body for body in objects(done.stdout)}
        refused = {Path(match).stem for match in re.findall(r'(?:creating|parsing) "?([^":]+\.yaml)', done.stderr)}
        found: dict[str, Verdict] = {name: (False, [], "") for name in refused}
        found |= {name: (True, [body], "") for name, body in accepted.items() if name not in refused}
        with ThreadPoolExecutor(4) as pool:
            found |= pool.map(self._alone, [case.name for case in cases if case.name not in found])
        return found

    def _alone(self, name: str) -> tuple[str, Verdict]:
        done = self.create(self.folder / f"{name}.yaml")
        return name, (done.returncode == 0, objects(done.stdout), done.stderr)


def objects(text: str) -> list[Any]:
    """The objects that kubectl printed."""
    decoder, place = json.JSONDecoder(), 0
    found: list[Any] = []
    while (place := place + len(text[place:]) - len(text[place:].lstrip())) < len(text):
        body, place = decoder.raw_decode(text, place)
        found += body["items"] if body.get("kind") == "List" else [body]
    return found


def comparable(value: Any) -> Any:
    """JSON's numbers have 64 bits, so large ones are the same when they are as those."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) > 2**53:
        return float(value)
    return value


def bare(body: Any) -> Any:
    """The object without what the server alone writes."""
    body = copy.deepcopy(body)
    for key in _OF_THE_SERVER:
        body["metadata"].pop(key, None)
    if body.get("status") == {"observedGeneration": -1}:  # the default that our definitions give a new object
        del body["status"]
    return comparable(body)


def difference(case: Case, verdict: Verdict) -> str | None:
    """In what we differ from the API server; None when in nothing."""
    result = check_text(case.text, source=case.name)
    ours = not result.problems and not result.skipped
    accepted, stored, said = verdict
    if accepted != ours:
        complaints = [str(problem) for problem in result.problems][:3]
        return f"{case.group} {case.name}: taken by Kubernetes: {accepted}, by us: {ours}; {complaints} {said[:300]}"
    if accepted and (theirs := [bare(body) for body in stored]) != (mine := [bare(c.object) for c in result.objects]):
        return f"{case.group} {case.name}: stored by Kubernetes {theirs}, by us {mine}"
    return None


def test_no_manifest_is_judged_otherwise_than_by_an_api_server(kubernetes: ApiServer, tmp_path: Path) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}}
    kubernetes.api().request("POST", "/api/v1/namespaces", namespace)
    cases = [*by_hand(), *random_cases(400, _SEED)]
    verdicts = Kube(kubernetes, tmp_path).verdicts(cases)
    found = {case.name: said for case in cases if (said := difference(case, verdicts[case.name])) is not None}
    expected = {name for name in found if any(re.fullmatch(pattern, name) for pattern in ON_PURPOSE)}
    print(f"{len(cases)} manifests, {sum(v[0] for v in verdicts.values())} taken; {len(expected)} differ on purpose")
    unexpected = [said for name, said in found.items() if name not in expected]
    assert not unexpected, "\n".join(unexpected[:20])
    assert {pattern for pattern in ON_PURPOSE if any(re.fullmatch(pattern, name) for name in found)} == set(ON_PURPOSE)
