"""Hides the values of Secrets in what is kept and logged. Pure."""

import base64
from collections.abc import Iterable
from urllib.parse import quote

import msgspec

MASK = "***"
#: A shorter value would hide parts of ordinary words; it is hidden only where it stands as a whole line or header.
_SHORTEST = 4


class Masks:
    """The values that must not be seen in one attempt, in each form in which a request or an answer may show them."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms: set[str] = set()
        for value in values:
            for form in (value, value.strip(), *_scheme_and_rest(value), *value.splitlines()):
                if len(form) >= _SHORTEST:
                    forms |= _forms(form)
        self._forms = sorted(forms, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """The text without them."""
        for form in self._forms:
            text = text.replace(form, MASK)
        return text


def _scheme_and_rest(value: str) -> tuple[str, ...]:
    """``Bearer abc``: the second part alone is a secret, too."""
    scheme, _, rest = value.strip().partition(" ")
    return (rest.strip(),) if rest and scheme.isalpha() else ()


def _forms(value: str) -> set[str]:
    raw = value.encode()
    return {
        value,
        quote(value, safe=""),
        quote(value),
        msgspec.json.encode(value)[1:-1].decode(),
        base64.b64encode(raw).decode(),
        base64.b64encode(raw).decode().rstrip("="),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
        raw.hex(),
    }
