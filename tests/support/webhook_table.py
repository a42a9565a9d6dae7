"""The table of senders in docs/webhook.md, made by trying each sender: ``PYTHONPATH=tests python -m support.webhook_table``."""

import asyncio
import random
from pathlib import Path

from support import webhook_sns
from support.webhook_cases import CASES, answer_of, note_of
from support.webhook_requests import Sender
from support.webhook_senders import Case, Delivery, Signed

from attune_webhook import handshakes
from attune_webhook.identity import occurrence_of
from attune_webhook.server import items_of
from attune_webhook.sns import SnsMessages

PAGE = Path(__file__).parents[2] / "docs" / "webhook.md"
BEGIN, END = "<!-- begin: senders -->\n", "<!-- end: senders -->\n"
HEAD = (
    "| sender | `auth.type` | signed in tests by | works | one event per delivery | handshake | answer | its retries |\n"
    "|---|---|---|---|---|---|---|---|\n"
)
_NOW = 1_800_000_000


def row(case: Case) -> str:
    """One line of the table; every "yes" of it was tried just now."""
    secret = case.secret(random.Random(7))
    sender = Sender(
        {"type": case.type, **case.auth}, [secret] if secret else [], sns=SnsMessages(fetch=webhook_sns.fetch)
    )
    hook = sender.hook()

    def accepted(signed: Signed) -> bool:
        given = signed.request(parse_json=hook.parse_json)
        return asyncio.run(sender.refusal(given, now=_NOW)) is None

    def occurrence(delivery: Delivery) -> str:
        request = case.sign(secret, delivery).request(parse_json=hook.parse_json)
        return occurrence_of(hook, items_of(request, hook)[0])

    first = Delivery("d-1", _NOW)
    works = accepted(case.sign(secret, first)) and not accepted(Signed({}, b"{}"))
    one = occurrence(first) == occurrence(Delivery("d-1", _NOW + 60))
    cells = [
        case.sender,
        f"`{case.type}`",
        case.library or "as documented",
        "yes" if works else "**no**",
        "yes" if one else "no: it names none",
        _handshake(case, secret, hook.handshake),
        str(answer_of(case)),
        note_of(case) or "its own affair",
    ]
    return f"| {' | '.join(cells)} |\n"


def _handshake(case: Case, secret: bytes, name: str | None) -> str:
    if case.handshake is None:
        return "none"
    signed, expected = case.handshake(secret, _NOW)
    request = signed.request()
    if request.method == "HEAD":
        return "yes (HEAD)"
    if name == "sns":
        return "yes"  # it takes a server: tests/integration/webhook/test_senders.py
    assert name is not None, case
    answer = handshakes.before_body(name, request, verify_tokens=[secret]) or handshakes.with_body(
        name, request, keys=[secret]
    )
    return "yes" if answer is not None and answer.status == 200 and expected in answer.body else "**no**"


def table() -> str:
    """The whole table."""
    return HEAD + "".join(map(row, CASES))


def main() -> None:
    """Write it into the page."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + "\n" + table() + "\n" + END + after)


if __name__ == "__main__":
    main()
