"""The functions that CEL has in Kubernetes and Google's runtime does not: lists, regular expressions, URLs, addresses,
quantities, versions and formats (https://kubernetes.io/docs/reference/using-api/cel/).

Values of Kubernetes' own types travel as maps with one key that is normalised, so that ``==`` compares them.
"""

import ipaddress
import itertools
import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import re2  # type: ignore[import-untyped]
from cel_expr_python import cel

from attune_kit.cel.quantities import Version, parse_quantity

_T: Final = cel.Type
_STRINGS: Final = _T.List(_T.STRING)
_ANY_LIST: Final = _T.List(_T.DYN)
_VALUE: Final = _T.Map(_T.STRING, _T.STRING)
_ELEMENTS: Final = {
    "bool": _T.BOOL, "int": _T.INT, "uint": _T.UINT, "double": _T.DOUBLE, "string": _T.STRING, "bytes": _T.BYTES,
    "timestamp": _T.TIMESTAMP, "duration": _T.DURATION, "list": _ANY_LIST, "map": _T.Map(_T.DYN, _T.DYN),
}  # fmt: skip
_QUANTITY, _URL, _IP, _CIDR, _SEMVER = "quantity", "url", "ip", "cidr", "semver"


def declarations() -> list[Any]:
    """All functions, for ``cel.NewEnv``."""
    declared: dict[str, list[Any]] = {}

    def add(name: str, returns: Any, parameters: list[Any], run: Callable[..., Any], *, member: bool = True) -> None:
        overloads = declared.setdefault(name, [])
        overloads.append(
            cel.Overload(
                f"{name}_{len(overloads)}".replace(".", "_"),
                return_type=returns,
                parameters=parameters,
                is_member=member,
                impl=run,
            )
        )

    _lists(add)
    _regular_expressions(add)
    _urls(add)
    _addresses(add)
    _numbers(add)
    for name in (*_PATTERNS, "uri", "date", "datetime"):
        # Only for the check of types: what is evaluated is rewritten to format_problems.
        add(f"format.{name}", _VALUE, [], lambda name=name: _wrap("format", name), member=False)
    add("validate", _T.DYN, [_VALUE, _T.STRING], lambda value, text: _format_problems(_unwrap("format", value), text))
    add("format_problems", _STRINGS, [_T.STRING, _T.STRING], _format_problems, member=False)
    return [cel.FunctionDecl(name, overloads) for name, overloads in declared.items()]


Add = Callable[..., None]


def _wrap(kind: str, text: str) -> dict[str, str]:
    return {kind: text}


def _unwrap(kind: str, value: Any) -> str:
    if not isinstance(value, dict) or kind not in value:
        raise ValueError(f"expected a value of {kind}()")
    text: str = value[kind]
    return text


# -- lists -------------------------------------------------------------------------------------------------------------


def _lists(add: Add) -> None:
    add("isSorted", _T.BOOL, [_ANY_LIST], lambda values: all(a <= b for a, b in itertools.pairwise(values)))
    add("sum", _T.DYN, [_ANY_LIST], _sum)
    add("min", _T.DYN, [_ANY_LIST], lambda values: _extreme(min, values))
    add("max", _T.DYN, [_ANY_LIST], lambda values: _extreme(max, values))
    # Google's runtime has these for texts, and takes no more overloads: see attune_kit.cel.tokens.RENAMED.
    add("indexof", _T.INT, [_T.STRING, _T.STRING], lambda text, part: text.find(part))
    add(
        "indexof",
        _T.INT,
        [_T.STRING, _T.STRING, _T.INT],
        lambda text, part, start: text.find(part, _offset(text, start)),
    )
    add("lastIndexof", _T.INT, [_T.STRING, _T.STRING], lambda text, part: text.rfind(part))
    add("lastIndexof", _T.INT, [_T.STRING, _T.STRING, _T.INT], _last_index_of_text)
    for element in _ELEMENTS.values():
        add("indexof", _T.INT, [_ANY_LIST, element], lambda values, each: _index(values, each, range(len(values))))
        add(
            "lastIndexof", _T.INT, [_ANY_LIST, element],
            lambda values, each: _index(values, each, range(len(values) - 1, -1, -1)),
        )  # fmt: skip


def _sum(values: list[Any]) -> Any:
    if not values:
        return 0
    if isinstance(values[0], timedelta):
        return sum(values, timedelta())
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise ValueError("sum() takes numbers or durations")
    return sum(values)


def _extreme(of: Callable[[Iterable[Any]], Any], values: list[Any]) -> Any:
    if not values:
        raise ValueError("there is neither a smallest nor a largest value in an empty list")
    return of(values)


def _offset(text: str, start: int) -> int:
    if not 0 <= start <= len(text):
        raise ValueError(f"the offset {start} is outside of the text")
    return start


def _last_index_of_text(text: str, part: str, start: int) -> int:
    return text.rfind(part, 0, _offset(text, start) + len(part))


def _index(values: list[Any], wanted: Any, order: Iterable[int]) -> int:
    return next((index for index in order if values[index] == wanted), -1)


# -- regular expressions -----------------------------------------------------------------------------------------------


def _regular_expressions(add: Add) -> None:
    add("find", _T.STRING, [_T.STRING, _T.STRING], _find)
    add("findAll", _STRINGS, [_T.STRING, _T.STRING], lambda text, pattern: _find_all(text, pattern, -1))
    add("findAll", _STRINGS, [_T.STRING, _T.STRING, _T.INT], _find_all)


def _compiled(pattern: str) -> Any:
    try:
        return re2.compile(pattern)
    except re2.error as error:
        raise ValueError(f"{pattern[:100]!r} is not a regular expression: {error}") from None


def _find(text: str, pattern: str) -> str:
    match = _compiled(pattern).search(text)
    return match.group() if match else ""


def _find_all(text: str, pattern: str, limit: int) -> list[str]:
    found: list[str] = []
    if limit == 0:
        return found
    for match in _compiled(pattern).finditer(text):
        found.append(match.group())
        if len(found) == limit:
            break
    return found


# -- URLs --------------------------------------------------------------------------------------------------------------


def _urls(add: Add) -> None:
    add("url", _VALUE, [_T.STRING], lambda text: _wrap(_URL, _parse_url(text)), member=False)
    add("isURL", _T.BOOL, [_T.STRING], lambda text: _is(_parse_url, text), member=False)
    add("getScheme", _T.STRING, [_VALUE], lambda value: urlsplit(_unwrap(_URL, value)).scheme)
    add("getHost", _T.STRING, [_VALUE], lambda value: urlsplit(_unwrap(_URL, value)).netloc.rpartition("@")[2])
    add("getHostname", _T.STRING, [_VALUE], lambda value: _hostname(_unwrap(_URL, value)))
    add("getPort", _T.STRING, [_VALUE], lambda value: _port(_unwrap(_URL, value)))
    add("getEscapedPath", _T.STRING, [_VALUE], lambda value: urlsplit(_unwrap(_URL, value)).path)
    add(
        "getQuery", _T.Map(_T.STRING, _STRINGS), [_VALUE],
        lambda value: parse_qs(urlsplit(_unwrap(_URL, value)).query, keep_blank_values=True),
    )  # fmt: skip


def _parse_url(text: str) -> str:
    """A URL as Go's ``url.ParseRequestURI`` takes it: absolute, or a path from the root."""
    parts = urlsplit(text)  # ValueError for a broken host
    absolute = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text) is not None
    if not text or not (absolute or text.startswith("/")) or re.search(r"[\x00-\x20\x7f]", text):
        raise ValueError(f"{text[:50]!r} is not a URL")
    if absolute and not parts.netloc and not parts.path.startswith("/"):
        raise ValueError(f"{text[:50]!r} is not a URL")
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ValueError(f"{text[:50]!r} has a wrong percent escape")
    _ = parts.port
    return text


def _hostname(text: str) -> str:
    host = urlsplit(text).netloc.rpartition("@")[2]
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _port(text: str) -> str:
    host = urlsplit(text).netloc.rpartition("@")[2]
    return host.rpartition("]")[2].partition(":")[2]


def _is(parse: Callable[[str], Any], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


# -- addresses ---------------------------------------------------------------------------------------------------------


def _addresses(add: Add) -> None:
    def address(value: Any) -> Any:
        return _parse_ip(_unwrap(_IP, value))

    def network(value: Any) -> Any:
        return ipaddress.ip_interface(_unwrap(_CIDR, value))

    add("ip", _VALUE, [_T.STRING], lambda text: _wrap(_IP, str(_parse_ip(text))), member=False)
    add("isIP", _T.BOOL, [_T.STRING], lambda text: _is(_parse_ip, text), member=False)
    add("ip.isCanonical", _T.BOOL, [_T.STRING], lambda text: str(_parse_ip(text)) == text, member=False)
    add("cidr", _VALUE, [_T.STRING], lambda text: _wrap(_CIDR, str(_parse_cidr(text))), member=False)
    add("isCIDR", _T.BOOL, [_T.STRING], lambda text: _is(_parse_cidr, text), member=False)
    add("family", _T.INT, [_VALUE], lambda value: address(value).version)
    add("isUnspecified", _T.BOOL, [_VALUE], lambda value: address(value).is_unspecified)
    add("isLoopback", _T.BOOL, [_VALUE], lambda value: address(value).is_loopback)
    add("isLinkLocalUnicast", _T.BOOL, [_VALUE], lambda value: address(value).is_link_local)
    add("isLinkLocalMulticast", _T.BOOL, [_VALUE], lambda value: _link_local_multicast(address(value)))
    add("isGlobalUnicast", _T.BOOL, [_VALUE], lambda value: _global_unicast(address(value)))
    add("containsIP", _T.BOOL, [_VALUE, _T.STRING], lambda value, text: _parse_ip(text) in network(value).network)
    add("containsIP", _T.BOOL, [_VALUE, _VALUE], lambda value, other: address(other) in network(value).network)
    add("containsCIDR", _T.BOOL, [_VALUE, _T.STRING], lambda value, text: _inside(network(value), _parse_cidr(text)))
    add("containsCIDR", _T.BOOL, [_VALUE, _VALUE], lambda value, other: _inside(network(value), network(other)))
    add("ip", _VALUE, [_VALUE], lambda value: _wrap(_IP, str(network(value).ip)))
    add("masked", _VALUE, [_VALUE], lambda value: _wrap(_CIDR, str(network(value).network)))
    add("prefixLength", _T.INT, [_VALUE], lambda value: network(value).network.prefixlen)


def _parse_ip(text: str) -> Any:
    found = ipaddress.ip_address(text)
    if "%" in text or getattr(found, "ipv4_mapped", None) is not None:
        raise ValueError(f"{text[:50]!r}: zones and IPv4-mapped addresses are not allowed")
    return found


def _parse_cidr(text: str) -> Any:
    address, slash, length = text.partition("/")
    if not slash or not length.isascii() or not length.isdigit() or (len(length) > 1 and length.startswith("0")):
        raise ValueError(f"{text[:50]!r} is not a CIDR; expected one like 10.0.0.0/8")
    _parse_ip(address)
    return ipaddress.ip_interface(text)


def _inside(outer: Any, inner: Any) -> bool:
    return bool(outer.version == inner.version and inner.network.subnet_of(outer.network))


def _link_local_multicast(address: Any) -> bool:
    if address.version == 4:
        return address in ipaddress.ip_network("224.0.0.0/24")
    return bool(address.is_multicast and address.packed[1] & 0x0F == 2)


def _global_unicast(address: Any) -> bool:
    """As Go's ``netip.Addr.IsGlobalUnicast``: private addresses are, the broadcast address is not."""
    return not (
        address.is_unspecified
        or address.is_loopback
        or address.is_multicast
        or address.is_link_local
        or str(address) == "255.255.255.255"
    )


# -- quantities and versions -------------------------------------------------------------------------------------------


def _number(value: Any) -> Decimal:
    return Decimal(_unwrap(_QUANTITY, value))


def _quantity(number: Decimal) -> dict[str, str]:
    return _wrap(_QUANTITY, f"{number.normalize():f}")


def _whole(number: Decimal) -> bool:
    return number == number.to_integral_value() and -(2**63) <= number < 2**63


def _as_integer(value: Any) -> int:
    number = _number(value)
    if not _whole(number):
        raise ValueError("the quantity is not a 64-bit integer")
    return int(number)


def _compare(left: Any, right: Any) -> int:
    if isinstance(left, dict) and _SEMVER in left:
        a: Any = Version(left[_SEMVER]).key()
        b: Any = Version(_unwrap(_SEMVER, right)).key()
    else:
        a, b = _number(left), _number(right)
    return int(a > b) - int(a < b)


def _numbers(add: Add) -> None:
    add("quantity", _VALUE, [_T.STRING], lambda text: _quantity(parse_quantity(text)), member=False)
    add("isQuantity", _T.BOOL, [_T.STRING], lambda text: _is(parse_quantity, text), member=False)
    add("sign", _T.INT, [_VALUE], lambda value: int(_number(value) > 0) - int(_number(value) < 0))
    add("isInteger", _T.BOOL, [_VALUE], lambda value: _whole(_number(value)))
    add("asInteger", _T.INT, [_VALUE], _as_integer)
    add("asApproximateFloat", _T.DOUBLE, [_VALUE], lambda value: float(_number(value)))
    add("add", _VALUE, [_VALUE, _VALUE], lambda left, right: _quantity(_number(left) + _number(right)))
    add("add", _VALUE, [_VALUE, _T.INT], lambda left, right: _quantity(_number(left) + right))
    add("sub", _VALUE, [_VALUE, _VALUE], lambda left, right: _quantity(_number(left) - _number(right)))
    add("sub", _VALUE, [_VALUE, _T.INT], lambda left, right: _quantity(_number(left) - right))
    add("compareTo", _T.INT, [_VALUE, _VALUE], _compare)
    add("isGreaterThan", _T.BOOL, [_VALUE, _VALUE], lambda left, right: _compare(left, right) > 0)
    add("isLessThan", _T.BOOL, [_VALUE, _VALUE], lambda left, right: _compare(left, right) < 0)
    add("semver", _VALUE, [_T.STRING], lambda text: _wrap(_SEMVER, Version(text).text), member=False)
    add(
        "semver", _VALUE, [_T.STRING, _T.BOOL],
        lambda text, normalize: _wrap(_SEMVER, Version(text, normalize=normalize).text), member=False,
    )  # fmt: skip
    add("isSemver", _T.BOOL, [_T.STRING], lambda text: _is(Version, text), member=False)
    add(
        "isSemver", _T.BOOL, [_T.STRING, _T.BOOL],
        lambda text, normalize: _is(lambda each: Version(each, normalize=normalize), text), member=False,
    )  # fmt: skip
    for place, name in enumerate(("major", "minor", "patch")):
        add(name, _T.INT, [_VALUE], lambda value, place=place: Version(_unwrap(_SEMVER, value)).numbers[place])


# -- formats -----------------------------------------------------------------------------------------------------------

_LABEL: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN: Final = rf"(?=.{{1,253}}\Z){_LABEL.replace('{0,61}', '*')}(\.{_LABEL.replace('{0,61}', '*')})*"
_PATTERNS: Final = {
    "dns1123Label": _LABEL,
    "dns1123LabelPrefix": r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?-?",
    "dns1123Subdomain": _SUBDOMAIN,
    "dns1123SubdomainPrefix": _SUBDOMAIN + r"-?",
    "dns1035Label": r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?",
    "dns1035LabelPrefix": r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?-?",
    "labelValue": r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?",
    "qualifiedName": rf"({_SUBDOMAIN}/)?(?=.{{1,63}}\Z)([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]",
    "uuid": r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}",
    "byte": r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?",
}


def _format_problems(name: str, text: str) -> list[str]:
    """What is wrong with a text by one of Kubernetes' named formats; nothing when it fits."""
    if name == "uri":
        good = _is(_parse_url, text)
    elif name == "date":
        good = _is(lambda each: datetime.strptime(each, "%Y-%m-%d"), text)  # noqa: DTZ007 - a day has no zone
    elif name == "datetime":
        good = bool(re.fullmatch(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:?\d\d)", text)) and _is(
            datetime.fromisoformat, text
        )
    elif name in _PATTERNS:
        good = re.fullmatch(_PATTERNS[name], text) is not None
    else:
        raise ValueError(
            f"unknown format {name}; expected one of: {', '.join([*sorted(_PATTERNS), 'uri', 'date', 'datetime'])}"
        )
    return [] if good else [f"does not have the format {name}"]
