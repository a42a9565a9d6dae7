"""100,000 forged requests over all schemes and odd secrets, 10,000 valid ones; the time of a refusal. Figures: docs/soak.md."""

import hashlib
import random
import statistics
import time
from collections.abc import Callable

import pytest
from support.webhook_forgery import NOW, run
from support.webhook_requests import Sender, request
from support.webhook_senders import hex_hmac


@pytest.mark.timeout(1800)
def test_a_hundred_thousand_forged_requests_and_ten_thousand_valid_ones() -> None:
    began = time.monotonic()
    seed = random.SystemRandom().getrandbits(32)
    kinds, valid = run(seed, forged=100_000, valid=10_000)
    took = time.monotonic() - began
    print(f"\nseed {seed}: {kinds.total()} forged, 0 accepted {dict(kinds)}; {valid} valid, 0 refused; {took:.0f} s")


SECRET = hashlib.sha256(b"a secret of this test").hexdigest().encode()
BODY = b'{"a": 1}'
RIGHT = hex_hmac(SECRET, BODY)


def signature(position: int) -> Callable[[], bool]:
    """A check of a signature whose first wrong digit is at this position; -1 for none right."""
    given = RIGHT[:position] + ("0" if RIGHT[position] != "0" else "1") + RIGHT[position + 1 :]
    sender = Sender({"type": "github"}, [SECRET])
    wrong = request({"X-Hub-Signature-256": f"sha256={given}"}, BODY)
    return lambda: sender.accepts(wrong, now=NOW)


def token(position: int) -> Callable[[], bool]:
    """The same of a bearer token."""
    text = SECRET.decode()
    given = text[:position] + ("0" if text[position] != "0" else "1") + text[position + 1 :]
    sender = Sender({"type": "bearer"}, [SECRET])
    wrong = request({"Authorization": f"Bearer {given}"}, BODY)
    return lambda: sender.accepts(wrong, now=NOW)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [signature, token])
def test_a_refusal_takes_as_long_wherever_the_difference_is(kind: Callable[[int], Callable[[], bool]]) -> None:
    """Medians of many short runs, in random order. What is allowed is far below what a network adds."""
    checks = {"first": kind(0), "middle": kind(31), "last": kind(62), "first again": kind(0)}
    took: dict[str, list[float]] = {name: [] for name in checks}
    for _ in range(4_000):
        for name in random.sample(list(checks), len(checks)):
            check = checks[name]
            began = time.perf_counter_ns()
            for _ in range(10):
                assert not check()
            took[name].append((time.perf_counter_ns() - began) / 10)
    medians = {name: statistics.median(times) for name, times in took.items()}
    print(f"\n{kind.__name__}: " + ", ".join(f"{name} {median / 1000:.3f} µs" for name, median in medians.items()))
    spread = (max(medians.values()) - min(medians.values())) / medians["first"]
    print(f"spread {spread:.2%}")
    assert spread < 0.03
