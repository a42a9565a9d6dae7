"""Makes and removes the folders behind PersistentVolumeClaims (see `storage`); one of the node's programs.

It looks once a second instead of watching: two small lists cost less than 1 % of a core, and there is nothing to resume
after a lost connection.

Started as `python3 -m attune_cluster.provisioner CONFIG`.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from .api import Api, ApiError
from .certificates import Pair
from .storage import finished, folder_name, volume, wanted

INTERVAL = 1.0
"""Seconds between two looks."""


def look(api: Api, volumes: Path) -> None:
    """Give each waiting claim its volume, remove each volume whose claim is gone."""
    for claim in api.request("GET", "/api/v1/persistentvolumeclaims")["items"]:
        if wanted(claim):
            folder = volumes / folder_name(claim)
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o777)  # any user that the pod runs as: not every pod has an fsGroup
            api.apply([volume(claim, folder=folder)])
            print("made", folder, flush=True)
    for item in api.request("GET", "/api/v1/persistentvolumes")["items"]:
        if finished(item):
            folder = Path(item["spec"]["local"]["path"])
            if folder.parent == volumes:
                shutil.rmtree(folder, ignore_errors=True)
            api.request("DELETE", f"/api/v1/persistentvolumes/{item['metadata']['name']}")
            print("removed", folder, flush=True)


def main() -> None:
    """Look, for ever."""
    config: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    client = Pair(certificate=Path(config["certificate"]), key=Path(config["key"]))
    api = Api(config["server"], authority=Path(config["authority"]), client=client)
    while True:
        try:
            look(api, Path(config["volumes"]))
        except (OSError, ApiError) as problem:
            print(f"goes on after: {problem}", flush=True)
        time.sleep(INTERVAL)


if __name__ == "__main__":
    main()
