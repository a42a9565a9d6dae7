"""What a scalar of a YAML document means, as ``kubectl`` reads it.

Source: ``go.yaml.in/yaml/v2`` 2.4 (``resolve.go``) and ``sigs.k8s.io/yaml`` 1.6, which kubectl 1.35 uses: YAML 1.1 without
dates and without numbers to the base of 60, and then the numbers of JSON as Go writes them.
"""

import base64
import binascii
import math
import re
import struct
from typing import Final

Scalar = str | int | float | bool | None

_PREFIX: Final = "tag:yaml.org,2002:"
_WORDS: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_WHOLE: Final = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[oO]?([0-7]+)|0[bB]([01]+)|(0|[1-9][0-9]*))", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_POINT_FLOAT: Final = re.compile(r"\.[0-9]+([eE][-+]?[0-9]+)?", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?", re.ASCII)
_NAMES: Final = {bool: "bool", int: "int", float: "float", type(None): "null", str: "str"}
_LEAST: Final = -(2**63)
_MOST: Final = 2**64
#: Digits of the longest whole number of 64 bits, in base 2.
_MOST_DIGITS: Final = 64
#: From here on Go writes the shortest form with an exponent (``strconv``, format 'g').
_LARGEST_EXPONENT: Final = 6


def resolved(text: str, *, plain: bool, tag: str | None) -> Scalar:
    """The value of a scalar.

    Args:
        text: what stands there.
        plain: whether it stands there without quotes.
        tag: its tag; None for none.

    Raises:
        ValueError: it is not what its tag says.
    """
    if tag is None:
        return _plain(text) if plain else text
    kind = tag.removeprefix(_PREFIX)
    if kind == "binary":
        try:
            return base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True).decode(errors="replace")
        except binascii.Error:
            raise ValueError("it is not base64") from None
    if kind == tag or kind not in ("bool", "int", "float", "null", "timestamp"):
        return text
    value = _plain(text)
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind == "timestamp" and isinstance(value, str) and _DATE.fullmatch(text):
        return text
    if _NAMES[type(value)] != kind:
        raise ValueError(f"it is not what its tag !!{kind} says")
    return value


def _plain(text: str) -> Scalar:
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first == ".":
        return _finite(text) if _POINT_FLOAT.fullmatch(text) else text
    if first not in "+-0123456789":
        return text
    digits = text.replace("_", "")
    if (match := _WHOLE.fullmatch(digits)) and (whole := _whole(match)) is not None:
        return whole
    return _finite(digits, otherwise=text) if _FLOAT.fullmatch(digits) else text


def _whole(match: re.Match[str]) -> int | None:
    """A whole number of 64 bits; None when it needs more."""
    sign, *bases = match.groups()
    for digits, base in zip(bases, (16, 8, 2, 10), strict=True):
        if digits is not None:
            if len(digits.lstrip("0")) > _MOST_DIGITS:
                return None
            value = int(digits, base)
            if sign == "-":
                return -value if -value >= _LEAST else None
            return value if value < (_MOST if not sign else -_LEAST) else None
    return None


def _finite(digits: str, *, otherwise: str | None = None) -> Scalar:
    """The number; the text where it is larger than a number of 64 bits can be."""
    value = float(digits)
    return value if math.isfinite(value) else otherwise or digits


def as_json(value: Scalar) -> Scalar:
    """The value after Go has written it as JSON and read it again: 1.0 is 1, and a whole number has 64 bits.

    Raises:
        ValueError: JSON has no such number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("JSON has no such number")
        # Go writes a number without an exponent below 1e21, and reads it as a whole one where it fits.
        if not value.is_integer():
            return value
        value = int(value)
    return value if _LEAST <= value < -_LEAST else float(value)


def as_key(value: Scalar) -> str:
    """The key of an object that a YAML key becomes.

    Raises:
        ValueError: it can be none.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value < -_LEAST:
        return str(value)
    if isinstance(value, float):
        return _float_key(value)
    if isinstance(value, str):
        return value
    raise ValueError("a key must be a text")


def _float_key(value: float) -> str:
    """A number as Go writes it with ``FormatFloat(value, 'g', -1, 32)``: the shortest that is the same in 32 bits."""
    try:
        single = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        single = math.copysign(math.inf, value)
    if not math.isfinite(single):
        return ".nan" if math.isnan(single) else ".inf" if single > 0 else "-.inf"
    for precision in range(9):
        text = f"{single:.{precision}e}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == single:
            break
    mantissa, _, exponent_text = text.partition("e")
    exponent = int(exponent_text)
    if exponent < -4 or exponent >= _LARGEST_EXPONENT:
        return f"{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    digits = mantissa.replace(".", "").replace("-", "")
    sign = "-" if mantissa.startswith("-") else ""
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    rest = digits[exponent + 1 :]
    return f"{sign}{whole}.{rest}" if rest else f"{sign}{whole}"
