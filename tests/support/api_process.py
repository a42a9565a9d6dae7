"""The API as a process of its own, on a free port of loopback, with keys and tokens to call it."""

import base64
import json
import os
import signal
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.eventually import eventually

from attune_contract.claims import DEFAULT_ISSUER, SensorClaims
from attune_contract.events import event_id, scheduled
from attune_contract.identity import SensorRef
from attune_local.ports import free_port

SENSOR = SensorRef("attune-system", "core.timer")
TYPE = "core.intervaltimer"
ADMIN_TOKEN = "an-admin-token-of-this-test"


def encode_bytes(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Minter:
    """A signing key and what is made with it, as the operator does."""

    def __init__(self, kid: str = "key-1") -> None:
        self.kid = kid
        self.private = Ed25519PrivateKey.generate()

    @property
    def public_bytes(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    def public_jwk(self) -> dict[str, str]:
        return {"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "use": "sig", "x": encode_bytes(self.public_bytes)}

    def private_jwk(self) -> dict[str, str]:
        return {**self.public_jwk(), "d": encode_bytes(self.private.private_bytes_raw())}

    def payload(self, **changes: Any) -> dict[str, Any]:
        """A good token's payload with some claims changed; one that is changed to None is left out."""
        now = datetime.now(UTC)
        claims = SensorClaims(
            issuer=DEFAULT_ISSUER,
            subject="9a2f0c1e-1f7b-4b52-9f57-8c3e5f0f7a01",
            sensor=SENSOR,
            trigger_types=(TYPE,),
            issued_at=now - timedelta(seconds=5),
            expires_at=now + timedelta(hours=1),
            token_id=str(uuid.uuid4()),
        )
        payload = {**claims.to_payload(), **changes}
        return {name: value for name, value in payload.items() if value is not None}

    def token(self, *, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        return jwt.encode(
            self.payload(**changes), self.private, algorithm="EdDSA", headers={"kid": self.kid, **(headers or {})}
        )


def write_jwks(path: Path, *minters: Minter) -> None:
    """Replace the file as kubelet does, at once."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"keys": [minter.public_jwk() for minter in minters]}))
    new.replace(path)


def report(k: int = 0, *, rule_uid: str = "7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10", **changes: Any) -> dict[str, Any]:
    """The body of one event; ``k`` is the occurrence."""
    occurred_at = datetime(2026, 11, 23, 12, tzinfo=UTC) + timedelta(seconds=k)
    return {
        "id": str(event_id(rule_uid, scheduled(occurred_at))),
        "trigger_type": TYPE,
        "rule_uid": rule_uid,
        "rule_namespace": "default",
        "rule_name": "echo-every-second",
        "occurred_at": scheduled(occurred_at),
        "payload": {"k": k},
        **changes,
    }


def _answers(url: str) -> bool:
    return httpx.get(url, trust_env=False, verify=False).status_code == 200


class ApiProcess:
    """``python -m attune_api`` with a directory of its own. Port and directory stay the same over restarts."""

    def __init__(
        self, directory: Path, *, database_url: str | None = None, python: str = sys.executable, **settings: str
    ) -> None:
        self.python = python
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.minter = Minter()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.jwks_file = directory / "jwks.json"
        write_jwks(self.jwks_file, self.minter)
        admin_token_file = directory / "admin-token"
        admin_token_file.write_text(ADMIN_TOKEN + "\n")
        self.signing_keys_file = directory / "signing-keys.json"
        self.signing_keys_file.write_text(json.dumps({"keys": [self.minter.private_jwk()], "active": self.minter.kid}))
        self.log = directory / "api.log"
        self.database_url = database_url or f"sqlite:///{directory}/db/attune.db"
        self.environment = {
            "PATH": os.environ["PATH"],
            "ATTUNE_API_HOST": "127.0.0.1",
            "ATTUNE_API_PORT": str(self.port),
            "ATTUNE_API_DATABASE_URL": self.database_url,
            "ATTUNE_API_MIGRATE_AT_START": "true",
            "ATTUNE_API_JWKS_FILE": str(self.jwks_file),
            "ATTUNE_API_SIGNING_KEYS_FILE": str(self.signing_keys_file),
            "ATTUNE_API_ADMIN_TOKEN_FILE": str(admin_token_file),
            "ATTUNE_API_KUBERNETES_AUTH": "off",
            **{f"ATTUNE_API_{name.upper()}": value for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *, path: str = "/health") -> None:
        """Start it and return when ``path`` is answered with 200."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.python, "-W", "error", "-m", "attune_api"],
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        process = self._process

        def ended_or_up() -> bool:
            return process.poll() is not None or _answers(self.url + path)

        eventually(ended_or_up, within=300, every=0.05, what=f"the API, whose log is {self.log}, is up")
        if process.poll() is not None:
            raise RuntimeError(f"the API ended with {process.returncode}:\n{self.log.read_text()}")

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, "it was not started"
        return self._process

    def stop(self) -> int:
        """Let it end by itself (SIGTERM); its exit status."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(120)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self.process.kill()
        self.process.wait(120)

    def freeze(self) -> None:
        """Have it stand still (SIGSTOP), as a node that is overloaded or a machine that is moved does."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        """A client that sends ``token``; not given, the sensor's own; an empty one sends none."""
        # verify=False: reading the machine's certificates, which plain HTTP needs none of, takes half a second.
        token = self.minter.token() if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=120, trust_env=False, verify=False)

    def reader(self) -> httpx.AsyncClient:
        return self.client(ADMIN_TOKEN)

    def events_logged(self, name: str) -> list[dict[str, Any]]:
        """Log lines with this event; one that is being written is none yet."""
        whole = self.log.read_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]
