"""Using a cluster as its users do: through kubectl and helm."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

#: What kubectl says when its request did not get through, or the API server could not carry it out now.
_AGAIN = re.compile(
    "connection refused|connection reset|connection lost|i/o timeout|TLS handshake timeout|unexpected EOF"
    "|etcdserver: (request timed out|leader changed)|currently unable to handle the request"
)
#: These do the same however often they are carried out.
_REPEATABLE = frozenset(
    ("apply", "cordon", "delete", "explain", "get", "logs", "patch", "rollout", "scale", "uncordon", "wait")
)


class CommandFailedError(RuntimeError):
    """A command ended with another status than 0. Its text is what the command wrote to stderr."""

    def __init__(self, command: list[str], result: subprocess.CompletedProcess[str]) -> None:
        super().__init__(f"{' '.join(command)} ended with {result.returncode}: {result.stderr.strip()}")
        self.returncode = result.returncode
        self.stderr = result.stderr


@dataclass(frozen=True)
class Kubectl:
    """kubectl and helm with one kubeconfig."""

    kubeconfig: Path
    kubectl: Path
    helm: Path
    _environment: dict[str, str] = field(default_factory=dict)

    def _run(self, program: Path, arguments: list[str], *, stdin: str | None = None, timeout: float = 200) -> str:
        command = [str(program), *arguments]
        result = subprocess.run(
            command,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), **self._environment},
        )
        if result.returncode:
            raise CommandFailedError(command, result)
        return result.stdout

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 200) -> str:
        """Run kubectl; returns what it printed. What the API server could not be asked is asked again, if it may be."""
        for _ in range(5):
            try:
                return self._run(self.kubectl, list(arguments), stdin=stdin, timeout=timeout)
            except CommandFailedError as error:
                if arguments[0] not in _REPEATABLE or not _AGAIN.search(error.stderr):
                    raise
                time.sleep(2)
        return self._run(self.kubectl, list(arguments), stdin=stdin, timeout=timeout)

    def attempt(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run kubectl; returns what it printed, or what it said when it failed."""
        try:
            return self(*arguments, stdin=stdin, timeout=timeout)
        except CommandFailedError as error:
            return error.stderr

    def attempt_apply(self, manifest: Manifest, *, dry_run: bool) -> str:
        """Apply a manifest; returns what kubectl printed, or what it said when that failed."""
        flags = ["--dry-run=server"] if dry_run else []
        return self.attempt("apply", *flags, "-f", "-", stdin=yaml.safe_dump(manifest))

    def run_helm(self, *arguments: str, timeout: float = 400) -> str:
        """Run helm; returns what it printed."""
        return self._run(self.helm, list(arguments), timeout=timeout)

    def apply(self, *manifests: Manifest) -> None:
        self("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def get(self, kind: str, name: str, namespace: str) -> Manifest:
        result: Manifest = json.loads(self("get", kind, name, "-n", namespace, "-o", "json"))
        return result

    def find(self, kind: str, name: str, namespace: str) -> Manifest | None:
        """The object, or None when there is none of that name."""
        text = self("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def list(self, kind: str, namespace: str, selector: str = "") -> list[Manifest]:
        items: list[Manifest] = json.loads(self("get", kind, "-n", namespace, "-l", selector, "-o", "json"))["items"]
        return items

    def patch(self, kind: str, name: str, namespace: str, patch: Manifest) -> None:
        self("patch", kind, name, "-n", namespace, "--type=merge", "-p", json.dumps(patch))

    def delete(self, kind: str, name: str, namespace: str, *flags: str) -> None:
        self("delete", kind, name, "-n", namespace, "--ignore-not-found", *flags)

    @contextmanager
    def port_forward(self, target: str, port: int, namespace: str) -> Iterator[int]:
        """Make ``port`` of a Service reachable on a port of loopback, which is yielded."""
        with self._listening("port-forward", "-n", namespace, target, f":{port}") as found:
            yield found

    @contextmanager
    def proxy(self) -> Iterator[str]:
        """The API server on loopback, with the kubeconfig's rights."""
        with self._listening("proxy", "--port=0") as port:
            yield f"http://127.0.0.1:{port}"

    @contextmanager
    def _listening(self, *arguments: str) -> Iterator[int]:
        """Run kubectl meanwhile; yields the port of loopback on which it says that it listens."""
        with subprocess.Popen(
            [self.kubectl, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
        ) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                found = re.search(r"127\.0\.0\.1:(\d+)", line)
                if not found:
                    raise RuntimeError(f"kubectl {arguments[0]} said {line!r}")
                yield int(found.group(1))
            finally:
                process.terminate()
                process.wait(60)


def condition(resource: Manifest, kind: str) -> Manifest:
    """The condition of that type.

    Raises:
        LookupError: there is none yet.
    """
    for candidate in resource.get("status", {}).get("conditions", []):
        if candidate["type"] == kind:
            found: Manifest = candidate
            return found
    raise LookupError(f"{resource['metadata']['name']} has no condition {kind} yet")


def now() -> float:
    """Wall-clock time, which the cluster on this machine shares."""
    return time.time()
