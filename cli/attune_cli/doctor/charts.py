"""The values that a release of Helm was installed with. Pure."""

import base64
import binascii
import gzip
import io
import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

#: A release is compressed: what would be larger than this is no chart of ours.
_MOST: Final = 16 * 1024 * 1024
_CHART: Final = "attune"


def release_values(secret: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a user gave, and of which version of our chart; None when it is not a release of our chart, or cannot be read.

    Of the Secret in which Helm keeps a release (``sh.helm.release.v1.NAME.vN``) this takes the values that differ from the
    chart's, and nothing else. The bundle masks them as it masks everything.
    """
    try:
        packed = base64.b64decode(base64.b64decode((secret.get("data") or {})["release"]))
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            release = json.loads(file.read(_MOST))
        chart = release["chart"]["metadata"]
        if chart["name"] != _CHART:
            return None
        return {
            "release": release.get("name"),
            "revision": release.get("version"),
            "status": (release.get("info") or {}).get("status"),
            "chart": {"version": chart.get("version"), "appVersion": chart.get("appVersion")},
            "values": release.get("config") or {},
        }
    except (KeyError, TypeError, ValueError, EOFError, OSError, zlib.error, binascii.Error):
        return None
