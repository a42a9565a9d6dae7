"""Versions, folders and choices, in one place; everything that may be set comes from the environment.

`ATTUNE_CACHE`       what may be kept between clusters (default `$XDG_CACHE_HOME/attune-dev` or `~/.cache/attune-dev`)
`CLUSTER`            `kind`, `local` or `current`; without it `kind` where a Docker engine answers, else `local`
`KIND_CLUSTER`       the name of the kind cluster (default `attune-` and six hex digits of this checkout's own)
`KIND_IMAGE`         the node image of a new kind cluster (default kind's own)
`KIND_CONFIG`        a configuration file of a new kind cluster
`KIND_FROM_SOURCE`   `1`: the pinned version of kind, built from its Go module, although there is one on the PATH
`ATTUNE_PYTHON_IMAGE`  a base image to build on, instead of `python:3.13-slim` (`CLUSTER=kind`) or the one that is made from
                     Debian packages (`CLUSTER=local`)
`ATTUNE_GO_IMAGE`    an image with Go to build the NATS server in, instead of the Dockerfile's (`CLUSTER=kind`); `CLUSTER=local`
                     builds it with this machine's Go
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KUBERNETES = "1.35.4"
GO_MINIMUM = (1, 26)
GO_FROM_PYPI = "1.26.6"
DEBIAN_SUITE = "bookworm"

PACKAGE = Path(__file__).resolve().parent
MODULE = PACKAGE.parent / "kubestack"
IMAGES = PACKAGE.parent / "images.json"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where things are, for one checkout and one user.

    `repository` is the checkout; `state` holds what belongs to the cluster of this checkout and goes with it;
    `cache` what is shared by all checkouts and outlives clusters.
    """

    repository: Path
    cache: Path
    kind_cluster: str | None = None
    kind_image: str | None = None
    kind_config: str | None = None
    kind_from_source: bool = False
    python_image: str | None = None
    go_image: str | None = None

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ, *, repository: Path | None = None) -> Settings:
        """Read the settings; `repository` defaults to the checkout this file is part of."""
        home = Path(env.get("HOME") or "/root")
        cache = Path(env.get("ATTUNE_CACHE") or Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "attune-dev")
        return cls(
            repository=(repository or PACKAGE.parents[2]).resolve(),
            cache=cache.expanduser().absolute(),
            kind_cluster=env.get("KIND_CLUSTER") or None,
            kind_image=env.get("KIND_IMAGE") or None,
            kind_config=env.get("KIND_CONFIG") or None,
            kind_from_source=env.get("KIND_FROM_SOURCE") == "1",
            python_image=env.get("ATTUNE_PYTHON_IMAGE") or None,
            go_image=env.get("ATTUNE_GO_IMAGE") or None,
        )

    @property
    def state(self) -> Path:
        return self.repository / ".cluster"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def identity(self) -> str:
        """Six hex digits that tell this checkout's cluster from another one's on the same machine."""
        return hashlib.sha256(str(self.state).encode()).hexdigest()[:6]

    @property
    def mark(self) -> str:
        """The value of `ATTUNE_CLUSTER_MARK` in the environment of each process of this cluster (see `processes`)."""
        return f"attune-{self.identity}"

    @property
    def version(self) -> str:
        """The project's version, which is also the tag of its images."""
        try:
            with (self.repository / "pyproject.toml").open("rb") as file:
                version = tomllib.load(file)["project"]["version"]
        except (OSError, KeyError, tomllib.TOMLDecodeError):
            return "0.1.0"
        return str(version)
