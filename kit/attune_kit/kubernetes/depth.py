"""JSON that is nested deeper than it can be decoded.

kube-apiserver stores what is nested thousands of levels deep. Decoders give up at about a thousand, and with one such object a
whole page of a list could not be read. So what is too deep is cut out, and the object that holds it is passed over. Pure.
"""

import re
import secrets
from typing import Final

#: Levels that are left. A page of a list needs a few around its objects.
LEVELS: Final = 200
#: What stands in place of what was cut out. It cannot be guessed, so nobody can have an object passed over by writing it.
MARK: Final = b'"' + secrets.token_hex(16).encode() + b'"'

_TOKENS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def cut(text: bytes, *, levels: int = LEVELS, mark: bytes = MARK) -> bytes:
    """Put ``mark`` in place of every object and array of valid JSON that is deeper than ``levels``."""
    kept, depth, copied = [], 0, 0
    for token in _TOKENS.finditer(text):
        match text[token.start()]:
            case 0x5B | 0x7B:  # [ {
                depth += 1
                if depth == levels + 1:
                    kept += [text[copied : token.start()], mark]
            case 0x5D | 0x7D:  # ] }
                if depth == levels + 1:
                    copied = token.end()
                depth -= 1
            case _:
                pass
    kept.append(text[copied:])
    return b"".join(kept)
