"""Hides secrets in what goes into a bundle. Pure.

Three ways, since no single one sees everything: by values that are known to be secret, by names (a field ``password``, a header
``Authorization``, ``token=…`` in a log line), and by the form of a value (JSON Web Tokens, private keys, URLs with a password).
Hiding too much costs support a question; hiding too little cannot be taken back. So where it is open, it is hidden.
"""

import base64
import contextlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

MASK: Final = "***"
#: A known value that is shorter would hide parts of ordinary words.
_SHORTEST: Final = 6
#: Characters of one line that are kept: the patterns below are not made for more.
_LONGEST_LINE: Final = 8000

#: A name that has one of these in it, wherever, may be a secret's.
_STRONG: Final = re.compile(
    r"passw|passphrase|secret|token|api[-_.]?key|credential|private[-_.]?key|access[-_.]?key", re.IGNORECASE
)
#: The same of whole words: ``dbPwd``, ``DB_PWD`` and ``x-auth`` are made of words, and ``author`` is not ``auth``.
_WORD: Final = re.compile(
    r"(?:^|[-_.])(?:pass|passcode|pwd|keys?|creds|auth|authorization|authentication|cookies?|session|signature|sig|hmac|nkey"
    r"|seed|jwt|bearer|otp|pin|dsn|webhook[-_.]?url|connection[-_.]?string|salt)(?=$|[-_.\d])",
    re.IGNORECASE,
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
#: Names that speak of a secret and hold none: where it is, what it is called, until when it is good.
_ABOUT: Final = re.compile(
    r"(?:^|[-_.])(?:file|path|dir|mount|name|ref|id|kid|type|kind|seconds|ttl|count|total|expir\w*|rotates?|at|since|time"
    r"|timestamp|valid|status|reason|mode|policy|period|lead|enabled|header|namespace|version|algorithm|alg|issuer|prefix|refused"
    r"|minted|failures|left)$",
    re.IGNORECASE,
)
#: What may stand in such a field: a path, a name, a number, a time.
_HARMLESS: Final = re.compile(
    r"/[\w./-]*|[a-z]([a-z0-9.-]{0,60}[a-z0-9])?(/[a-z0-9.-]{1,80})?|\d{1,20}|[\dTZ:.+-]{10,40}|"
)
#: Where ``key`` is no secret but what something is called.
_KEY_OWNERS: Final = frozenset({"secretKeyRef", "configMapKeyRef", "tolerations", "matchExpressions", "items"})
#: Variables of containers whose values are shown. All others are hidden, whatever they are called.
_PLAIN_VARIABLES: Final = re.compile(
    r"ATTUNE_\w+|TZ|LANG|LC_\w+|PYTHON(?:TZPATH|UNBUFFERED|HASHSEED|OPTIMIZE|FAULTHANDLER)|LOG_LEVEL|GOMEMLIMIT|GOMAXPROCS"
    r"|(?:https?|no|all)_proxy|HTTPS?_PROXY|NO_PROXY|ALL_PROXY"
)
#: Somebody's own programs, and copies of whole objects.
_WHOLLY_HIDDEN: Final = frozenset({"scripts", "kubectl.kubernetes.io/last-applied-configuration"})

_PEM: Final = re.compile(
    r"-{3,5}BEGIN (?!CERTIFICATE-|PUBLIC KEY-)[A-Z0-9 ]{3,60}-{3,5}.*?(?:-{3,6}END [A-Z0-9 ]{3,60}-{3,6}|\Z)", re.DOTALL
)
_FORMS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)*",  # JSON Web Tokens (RFC 7519)
        r"\bS[ACNOUXP][A-Z2-7]{54,58}\b",  # seeds of nkeys
        r"\b(?:gh[opsur]_|github_pat_|glpat-|xox[abeoprs]-|sk[-_]|rk_live_|whsec_|npm_|hf_|dop_v1_|SG\.)[\w.=+/-]{8,}",
        r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",  # AWS
        r"\bAIza[A-Za-z0-9_-]{30,}",  # Google
    )
)
#: ``user:password@`` in a URL, also where the password has slashes, which it should not.
_USERINFO: Final = re.compile(
    r"(?<=://)(?:[^\s\"'<>/?#]{0,300}|[^\s\"'<>/?#@:]{0,100}:(?!\d{1,5}[/?#])[^\s\"'<>]{0,300})@"
)
#: Addresses that let in anyone who knows them: what comes after the host, or after what says that it is one.
_WEBHOOK: Final = re.compile(
    r"(?i)((?:\bhooks\.(?:slack|zapier)\.com|\bdiscord(?:app)?\.com\\?/api(?:\\?/v\d{1,3})?\\?/webhooks|webhook\.office\.com"
    r"|\boutlook\.office(?:365)?\.com\\?/webhook|\.logic\.azure\.com(?::443)?|\bchat\.googleapis\.com|\bapi\.telegram\.org"
    r"|\bmaker\.ifttt\.com|\bevents\.pagerduty\.com\\?/integration|:\\?/\\?/[^\s\"'<>/?#]{1,255}\\?/hooks)\\?/)[^\s\"'<>]+"
)
#: Of the address of an action all that comes after the host: ids and tokens of webhooks stand in paths, and look like words.
_AFTER_HOST: Final = re.compile(r"(://[^/?#]*|^\$\{[^}]*\}[^/?#]*)([/?#]).+", re.DOTALL)
#: ``curl -u me:pw``; numbers are ids of a user and a group.
_USER_OPTION: Final = re.compile(r"(?<![\w-])(?:-[a-zA-Z]{0,8}[uU]|--(?:proxy-)?user)[ =]{0,3}")
_IDS: Final = re.compile(r"\d{1,10}:\d{1,10}")
_USER: Final = re.compile(r"[^\s:\"'\\]{1,100}:.+", re.DOTALL)
_SCHEME: Final = re.compile(
    r"\b((?i:bearer) +(?!(?i:tokens?)\b)|(?i:basic|digest|negotiate|apikey|token) +(?=[^\s\"',;]*[\d=+/_A-Z]))[^\s\"',;]{4,}"
)
#: The beginning of ``name=value``, ``name: value``, ``"name": "value"``; which names is decided for each.
_ASSIGNED: Final = re.compile(r"""(?<![\w.-])([\w.-]{2,80})\\?["']?[ \t]{0,3}[:=][ \t]{0,3}""")
_VALUE: Final = re.compile(r"""\\"(?:[^"\\]|\\[^"])*\\"|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\S+""")
_LIST: Final = re.compile(r".+")
#: The rest of the line belongs to it, whatever it is: a header, or a field of YAML.
_TO_THE_END: Final = re.compile(
    r"""(?i)((?<![\w.-])(?:(?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]*(?:token|key|signature))\\?["']?\s*[:=]\s*).+"""
)
_YAML_FIELD: Final = re.compile(r"(?P<before>\s*(?:- )*[\"']?(?P<name>[\w.-]+)[\"']?:(?:[ \t]+|$))(?P<value>.*)")
#: What stands where the value itself is on the next lines.
_BLOCK: Final = re.compile(r"(?:[|>][+\-\d]*|\[|\{)?\s*")
_OPTION: Final = re.compile(r"--?([A-Za-z][\w.-]*)")
_RANDOM: Final = re.compile(r"[A-Za-z0-9+/_=-]{24,}")


@lru_cache(maxsize=4096)
def names_a_secret(name: str) -> bool:
    """Whether a field, variable or header of that name may hold a secret."""
    if name.endswith(("Error", "Exception", "Warning")):  # what comes after it is its message
        return False
    words = _CAMEL.sub("-", name)
    return _STRONG.search(words) is not None or _WORD.search(words) is not None


class Masker:
    """Hides secrets.

    Args:
        known: values that are known to be secret, such as the caller's own tokens. They are hidden in each usual form.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        forms = {form for value in known for form in _forms(value)}
        self._known = sorted(forms, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without secrets. Lines that are JSON objects stay JSON."""
        if text.lstrip().startswith(("{", "[")) and "\n" in text.strip():
            with contextlib.suppress(ValueError, RecursionError):
                return json.dumps(self.value(json.loads(text)), indent=1, ensure_ascii=False)
        lines: list[str] = []
        hidden_below: int | None = None  # the indent of a YAML field whose text follows on the next lines
        for line in _PEM.sub(MASK, self._hide_known(text)).split("\n"):
            indent = len(line) - len(line.lstrip())
            item = line.lstrip().startswith("- ") and indent == hidden_below
            if hidden_below is not None and (not line.strip() or indent > hidden_below or item):
                continue
            hidden_below = None
            field = _YAML_FIELD.fullmatch(line)
            if (
                field is not None
                and names_a_secret(field["name"])
                and not _about(field["name"], field["value"].strip())
            ):
                lines.append(field["before"] + MASK)
                hidden_below = indent if _BLOCK.fullmatch(field["value"]) else None
            else:
                lines.append(self._line(line))
        return "\n".join(lines)

    def value(self, value: Any, *, name: str = "", under_secret: bool = False) -> Any:
        """A value as JSON knows it, without secrets.

        Args:
            value: anything of dicts, lists, texts and numbers.
            name: of the field that holds it.
            under_secret: whether a field around it is named like a secret.
        """
        match value:
            case str():
                return self._string(value, name, under_secret=under_secret)
            case Mapping():
                return self._mapping(value, name, under_secret=under_secret)
            case Sequence():
                return self._list(value, name, under_secret=under_secret)
            case bool() | None:
                return value
            case _:
                return MASK if names_a_secret(name) and not _about(name, str(value)) else value

    def _hide_known(self, text: str) -> str:
        for form in self._known:
            text = text.replace(form, MASK)
        return text

    def _line(self, line: str) -> str:
        if line.startswith("{") and line.rstrip().endswith("}"):
            with contextlib.suppress(ValueError, RecursionError):
                return json.dumps(self.value(json.loads(line)), ensure_ascii=False)
        return self._patterns(line)

    def _plain(self, text: str) -> str:
        return self._patterns(_PEM.sub(MASK, self._hide_known(text)))

    def _patterns(self, text: str) -> str:
        """Of a line without known values and keys, what looks like a secret or is named like one."""
        if len(text) > _LONGEST_LINE:
            text = f"{text[:_LONGEST_LINE]}… ({len(text) - _LONGEST_LINE} more characters)"
        for form in _FORMS:
            text = form.sub(MASK, text)
        text = _USERINFO.sub(f"{MASK}@", text)
        text = _WEBHOOK.sub(rf"\1{MASK}", text)
        text = _without_users(text)
        text = _TO_THE_END.sub(rf"\1{MASK}", text)
        text = _SCHEME.sub(rf"\1{MASK}", text)
        return _without_assigned(text)

    def _mapping(self, value: Mapping[str, Any], name: str, *, under_secret: bool) -> dict[str, Any]:
        if value.get("kind") == "Secret":
            value = {key: _keys_only(part) if key in ("data", "stringData") else part for key, part in value.items()}
        named = value.get("name")
        made: dict[str, Any] = {}
        for key, part in value.items():
            shown = self._hide_known(str(key))
            if key in _WHOLLY_HIDDEN:
                made[shown] = _keys_only(part)
            elif key == "value" and isinstance(named, str):  # a variable of a container, a header
                made[shown] = self._named(named, part)
            elif key == "url" and name == "http" and isinstance(part, str):  # of an action
                made[shown] = _AFTER_HOST.sub(rf"\1\2{MASK}", self._string(part, key, under_secret=under_secret))
            elif key == "query" and name == "http":
                made[shown] = _keys_only(part)
            elif key == "key" and name in _KEY_OWNERS and isinstance(part, str):
                made[shown] = self._plain(part)
            else:
                below = under_secret or (not isinstance(part, str) and _STRONG.search(key) is not None)
                made[shown] = self.value(part, name=str(key), under_secret=below)
        return made

    def _named(self, name: str, value: Any) -> Any:
        if not isinstance(value, str):
            return self.value(value, name=name, under_secret=names_a_secret(name))
        if not _PLAIN_VARIABLES.fullmatch(name):
            return MASK if value else ""
        return MASK if _looks_random(value) else self._string(value, name, under_secret=False)

    def _string(self, value: str, name: str, *, under_secret: bool) -> str:
        if (under_secret or names_a_secret(name)) and not _about(name, value):
            return MASK if value else ""
        return self.text(value) if "\n" in value or value.startswith("{") else self._plain(value)

    def _list(self, values: Sequence[Any], name: str, *, under_secret: bool) -> list[Any]:
        made: list[Any] = []
        follows = users = False
        for value in values:
            if isinstance(value, str) and (follows or (users and _names_and_password(value))):
                made.append(MASK)
            else:
                made.append(self.value(value, name=name, under_secret=under_secret))
            option = _OPTION.fullmatch(value) if isinstance(value, str) else None
            follows = option is not None and names_a_secret(option[1])
            users = isinstance(value, str) and _USER_OPTION.fullmatch(value) is not None
        return made


def _about(name: str, value: str) -> bool:
    """Whether the field only speaks of a secret, and its value can be none."""
    return _ABOUT.search(_CAMEL.sub("-", name)) is not None and _HARMLESS.fullmatch(value) is not None


def _names_and_password(value: str) -> bool:
    """Whether an option's value is ``user:password``."""
    return _USER.fullmatch(value.strip("\\\"'")) is not None and _IDS.fullmatch(value) is None


def _without_users(text: str) -> str:
    made, at = [], 0
    while (match := _USER_OPTION.search(text, at)) is not None:
        value = _VALUE.match(text, match.end())
        hidden = value is not None and _names_and_password(value[0])
        made.append(text[at : match.end()] + (MASK if hidden else ""))
        at = value.end() if value is not None and hidden else match.end()
    return "".join(made) + text[at:]


def _without_assigned(text: str) -> str:
    made, at = [], 0
    while (match := _ASSIGNED.search(text, at)) is not None:
        made.append(text[at : match.end()])
        at = match.end()
        value = (
            (_LIST if text[at : at + 1] in ("[", "{") else _VALUE).match(text, at) if names_a_secret(match[1]) else None
        )
        if value is not None and not _about(match[1], bare := value[0].strip("\\\"'")) and bare:
            quote = value[0][: len(value[0]) - len(value[0].lstrip("\\\"'"))]
            made.append(f"{quote}{MASK}{quote}")
            at = value.end()
    return "".join(made) + text[at:]


def _keys_only(part: Any) -> Any:
    return dict.fromkeys(part, MASK) if isinstance(part, Mapping) else MASK


def _looks_random(value: str) -> bool:
    """Whether a value may be a key: long, of one piece, and of upper case, lower case and digits."""
    if not _RANDOM.fullmatch(value):
        return False
    return all(re.search(kind, value) for kind in ("[A-Z]", "[a-z]", "[0-9]"))


def _forms(value: str) -> set[str]:
    stripped = value.strip()
    if len(stripped) < _SHORTEST:
        return set()
    raw = stripped.encode()
    return {
        stripped,
        json.dumps(stripped)[1:-1],
        json.dumps(stripped, ensure_ascii=False)[1:-1],
        base64.b64encode(raw).decode().rstrip("="),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
    }
