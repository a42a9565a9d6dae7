"""What rules' parameters have in common: durations, and how one that does not fit a type is named to the rule's author."""

import re
from typing import Final


def sentence(error: Exception) -> str:
    """What msgspec says of parameters, with ``parameters`` in place of its ``$``."""
    return str(error).replace("`$.", "`parameters.").replace("`$`", "`parameters`")


_PART: Final = re.compile(r"([0-9]{1,9})(h|ms|m|s)")
_MICROSECONDS: Final = {"h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1000}


def microseconds(text: str) -> int:
    """Read a duration as Kubernetes writes it, like ``24h``, ``1h30m`` or ``500ms``.

    Raises:
        ValueError: the text is no duration.
    """
    if not re.fullmatch(r"([0-9]{1,9}(h|ms|m|s)){1,4}", text):
        raise ValueError(
            f"{text!r} is not a duration; write hours, minutes, seconds and milliseconds, like 24h or 1h30m"
        )
    return sum(int(number) * _MICROSECONDS[unit] for number, unit in _PART.findall(text))
