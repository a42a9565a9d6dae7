"""A real server that speaks S3 (gofakes3), with its objects in a file, so that they outlive it. Built from its Go module."""

import asyncio
import contextlib
import fcntl
import hashlib
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError
from support.environments import CACHE
from support.server_process import ServerProcess

from attune_cluster.golang import installed, toolchain
from attune_cluster.settings import Settings

MODULE: Final = Path(__file__).resolve().parents[1] / "soak" / "gofakes3"
#: What it takes to build it.
PRESENT: Final = installed() is not None
_PROGRAM: Final = "github.com/johannesboyne/gofakes3/cmd/gofakes3"
_SECONDS: Final = 900
#: It reads the service's description once.
_SESSION: Final = AioSession()
T = TypeVar("T")


def program() -> Path:
    """The server's program, built unless it is in the cache."""
    go = toolchain(Settings.from_environment())
    pins = b"".join((MODULE / name).read_bytes() for name in ("go.mod", "go.sum"))
    CACHE.mkdir(parents=True, exist_ok=True)
    made = CACHE / f"gofakes3-{hashlib.sha256(pins + go.version.encode()).hexdigest()[:12]}"
    with (CACHE / "gofakes3.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not made.exists():
            new = made.with_suffix(".new")
            command = [str(go.program), "build", "-mod=readonly", "-trimpath", "-o", str(new), _PROGRAM]
            done = subprocess.run(
                command,
                cwd=MODULE,
                env=go.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_SECONDS,
            )
            assert done.returncode == 0, done.stderr[-2000:]
            new.rename(made)
    return made


class ObjectsServer(ServerProcess):
    """A server that speaks S3. It takes any credentials."""

    name = "objects"
    starts_within = 60
    ends_by = signal.SIGKILL

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def access(self) -> dict[str, Any]:
        """What the sensor's configuration says of it; the keys are where :meth:`ElasticMq.place_keys` puts them."""
        return {
            "url": self.url,
            "pathStyle": True,
            "accessKeyId": "attune-aws/access-key-id",
            "secretAccessKey": "attune-aws/secret-access-key",
        }

    def command(self) -> Sequence[str | Path]:
        kept = ["-backend", "bolt", "-bolt.db", str(self.directory / "objects.db")]
        return [program(), *kept, "-host", f"127.0.0.1:{self.port}"]

    def answers(self) -> bool:
        with contextlib.suppress(BotoCoreError, ClientError, OSError):
            self.work(lambda s3: s3.list_buckets())
            return True
        return False

    # -- as a client; all of these block -----------------------------------------------------------------------------------

    def work(self, use: Callable[[Any], Awaitable[T]]) -> T:
        """Do something with a client."""

        async def run() -> T:
            async with _SESSION.create_client(
                "s3",
                region_name="us-east-1",
                endpoint_url=self.url,
                aws_access_key_id="tests",
                aws_secret_access_key="tests",
                config=AioConfig(
                    connect_timeout=5,
                    read_timeout=30,
                    retries={"mode": "standard", "total_max_attempts": 1},
                    s3={"addressing_style": "path"},
                ),
            ) as s3:
                return await use(s3)

        return asyncio.run(run())

    def make(self, bucket: str) -> None:
        """Make a bucket."""
        self.work(lambda s3: s3.create_bucket(Bucket=bucket))

    def put(self, bucket: str, *keys: str, body: bytes = b"content") -> None:
        """Write objects, in order."""

        async def use(s3: Any) -> None:
            for key in keys:
                await s3.put_object(Bucket=bucket, Key=key, Body=body)

        self.work(use)

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        self.work(lambda s3: s3.delete_object(Bucket=bucket, Key=key))
