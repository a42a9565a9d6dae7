"""Kubernetes' quantities (``1Gi``, ``500m``) and semantic versions, as CEL in Kubernetes compares them. Pure.

A quantity is an exact decimal number; its rules are those of ``k8s.io/apimachinery/pkg/api/resource``. Versions follow
semver.org 2.0.0.
"""

import re
from decimal import Decimal, localcontext
from typing import Final

_QUANTITY: Final = re.compile(
    r"(?P<sign>[+-]?)(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
    r"(?:(?P<binary>Ki|Mi|Gi|Ti|Pi|Ei)|(?P<decimal>n|u|m|k|M|G|T|P|E)|[eE](?P<exponent>[+-]?[0-9]{1,2}))?"
)
_BINARY: Final = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_VERSION: Final = re.compile(
    r"(?P<major>0|[1-9][0-9]*)\.(?P<minor>0|[1-9][0-9]*)\.(?P<patch>0|[1-9][0-9]*)"
    r"(?:-(?P<pre>(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+(?P<build>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)
_LONGEST: Final = 100


def parse_quantity(text: str) -> Decimal:
    """Read a quantity.

    Raises:
        ValueError: it is something else.
    """
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise ValueError(f"{text[:50]!r} is not a quantity; expected one like 500m or 1Gi")
    with localcontext() as context:
        context.prec = 2 * _LONGEST
        number = Decimal(match["sign"] + match["number"])
        if match["binary"]:
            number *= Decimal(1024) ** _BINARY[match["binary"]]
        else:
            exponent = int(match["exponent"]) if match["exponent"] else _DECIMAL.get(match["decimal"] or "", 0)
            number = number.scaleb(exponent)
        return number.normalize()


class Version:
    """A semantic version.

    Raises:
        ValueError: the text is none.
    """

    def __init__(self, text: str, *, normalize: bool = False) -> None:
        match = _VERSION.fullmatch(_normalized(text) if normalize else text) if len(text) <= 256 else None
        if match is None:
            raise ValueError(f"{text[:50]!r} is not a semantic version; expected one like 1.2.3")
        self.numbers = (int(match["major"]), int(match["minor"]), int(match["patch"]))
        self.pre = match["pre"]
        self.text = match[0]

    def key(self) -> tuple[tuple[int, int, int], bool, list[tuple[bool, int, str]]]:
        """What versions are ordered by: a release comes after all of its pre-releases, numbers before words."""
        parts = [] if self.pre is None else self.pre.split(".")
        order = [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
        return self.numbers, self.pre is None, order


def _normalized(text: str) -> str:
    """Without a leading ``v`` and leading zeros, and with all three numbers."""
    core, mark, rest = re.match(r"v?([^-+]*)([-+]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    numbers = [part.lstrip("0") or "0" for part in core.split(".")] if core else []
    return ".".join([*numbers, "0", "0"][: max(3, len(numbers))]) + mark + rest
