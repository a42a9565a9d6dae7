"""A sample of the forged and valid requests of tests/soak/test_webhook_forgeries.py."""

from support.webhook_forgery import run


def test_no_forged_request_is_accepted_and_no_valid_one_refused() -> None:
    kinds, valid = run(1, forged=5_000, valid=500)
    assert kinds.total() >= 5_000
    assert valid >= 500
    assert {"header", "body", "query", "guessed key", "signed header"} <= set(kinds)
