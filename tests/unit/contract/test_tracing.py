"""Which traces are taken over, and what of them (W3C Trace Context)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune_contract.tracing import MOST_STATE, NO_TRACE, Trace, is_sampled, read_state, read_trace, trace_id_of

ID = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
GOOD = f"00-{ID}-{SPAN}-01"


@pytest.mark.parametrize(
    ("given_", "taken"),
    [
        (GOOD, GOOD),
        (f" {GOOD}\t", GOOD),
        (f"00-{ID}-{SPAN}-00", f"00-{ID}-{SPAN}-00"),
        (f"00-{ID}-{SPAN}-03", f"00-{ID}-{SPAN}-03"),
        # Flags without a meaning are not passed on (section 3.2.2.5).
        (f"00-{ID}-{SPAN}-ff", f"00-{ID}-{SPAN}-03"),
        # A version that we do not know is read as far as we know it (section 4.3).
        (f"cc-{ID}-{SPAN}-01", GOOD),
        (f"cc-{ID}-{SPAN}-01-what-the-future-will-be-like", GOOD),
    ],
)
def test_a_valid_header_is_taken(given_: str, taken: str) -> None:
    assert read_trace(given_) == Trace(taken)
    assert read_trace(given_).trace_id == trace_id_of(taken) == ID


@pytest.mark.parametrize(
    "given_",
    [
        "",
        "garbage",
        f"ff-{ID}-{SPAN}-01",
        f"00-{ID}-{SPAN}-01-more",
        f"cc-{ID}-{SPAN}-01.what",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID.upper()}-{SPAN}-01",
        f"00-{ID[:-1]}-{SPAN}-01",
        f"00-{ID}-{SPAN}-1",
        f"00-{ID}-{SPAN}-01\n",
        f"00-{ID[:-1]}\N{ARABIC-INDIC DIGIT ONE}-{SPAN}-01",
        f"{GOOD}, {GOOD}",  # twice in one request
        f"cc-{ID}-{SPAN}-01-{'x' * 1000}",
    ],
)
def test_what_is_not_valid_is_as_if_it_were_not_there(given_: str) -> None:
    assert read_trace(given_, "a=1") == NO_TRACE
    assert NO_TRACE.trace_id == ""


@pytest.mark.parametrize(
    ("given_", "taken"),
    [
        ("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
        (" a=1 ,\t, b=2,", "a=1,b=2"),
        ("fw529a3039@dt=FfAB", "fw529a3039@dt=FfAB"),
        ("a=x y", "a=x y"),
        ("a", ""),
        ("A=1", ""),
        ("a=1,a=2", ""),
        ("a=1,b=\x00", ""),
        ("a=1=2", ""),
        ("a=é", ""),
        (",".join(f"k{n}=1" for n in range(32)), ",".join(f"k{n}=1" for n in range(32))),
        (",".join(f"k{n}=1" for n in range(33)), ""),
        ("a=1" + " " * 100_000, ""),
    ],
)
def test_what_is_taken_of_the_state(given_: str, taken: str) -> None:
    assert read_state(given_) == taken
    assert read_trace(GOOD, given_) == Trace(GOOD, taken), "the trace itself is taken in any case"


def test_a_long_state_loses_its_long_members_and_then_its_last() -> None:
    long, short = "long=" + "x" * 200, [f"k{n}={'y' * 40}" for n in range(20)]
    kept = read_state(",".join([short[0], long, *short[1:]]))
    assert len(kept) <= MOST_STATE
    assert kept == ",".join(short[:11])


@given(st.text(), st.text())
def test_whatever_is_sent_what_is_taken_is_short_and_can_be_sent_on(traceparent: str, tracestate: str) -> None:
    found = read_trace(traceparent, tracestate)
    assert len(found.traceparent) in (0, 55)
    assert len(found.tracestate) <= MOST_STATE
    assert read_trace(*found) == found


def test_whether_a_trace_is_recorded() -> None:
    assert is_sampled(GOOD)
    assert is_sampled(f"00-{ID}-{SPAN}-03")
    assert not is_sampled(f"00-{ID}-{SPAN}-02")
    assert not is_sampled("")
