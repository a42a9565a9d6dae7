"""The sensor and the senders' own JavaScript libraries agree on which requests are genuine."""

import random
import time

import pytest
from support import webhook_sns
from support.webhook_cases import CASES
from support.webhook_forgery import changed, sender_of
from support.webhook_oracles import Question, ask, install
from support.webhook_senders import Case, Delivery

_DELIVERIES = 8
#: Installing the libraries takes 20 s on an idle machine, once.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    install()


@pytest.mark.parametrize("case", [case for case in CASES if case.node], ids=lambda case: case.sender)
def test_the_sensor_accepts_what_the_senders_library_accepts(case: Case) -> None:
    rng = random.Random(5)
    now = int(time.time())
    questions, ours = [], []
    for number in range(_DELIVERIES):
        secret, another = case.secret(rng), case.secret(rng)
        sender = sender_of(case, secret)
        delivery = Delivery(f"d-{number}", now)
        valid, other = case.sign(secret, delivery), case.sign(another, delivery)
        for _, signed in [("valid", valid), *changed(rng, case, valid, other)]:
            questions.append(Question(case.node, secret, signed, webhook_sns.certificate()))
            ours.append(sender.accepts(signed.request(parse_json=sender.hook().parse_json), now=now))
    theirs = ask(questions)
    assert sum(theirs) >= _DELIVERIES, "the library knows the valid ones"
    differing = [
        question.signed for question, one, other in zip(questions, theirs, ours, strict=True) if one is not other
    ]
    assert differing == []
