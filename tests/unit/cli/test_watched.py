"""What ``attune status`` says about namespaces that the asked installation does not look after."""

from typing import Any

from attune_cli import watched


def pod(value: str | None) -> dict[str, Any]:
    env = [] if value is None else [{"name": "ATTUNE_OPERATOR_WATCH_NAMESPACES", "value": value}]
    labels = {"app.kubernetes.io/name": "attune-operator"}
    return {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "operator", "env": env}]}}


def said(**given: Any) -> list[tuple[str, str, str]]:
    options: dict[str, Any] = {"home": "attune-system", "watched": (), "marked": {}, "own": "shop"} | given
    used = options.pop("used", {"shop": 2})
    return [(check.name, check.state, check.message) for check in watched.namespaces(used, **options)]


def test_what_the_operator_watches_stands_in_its_pod() -> None:
    other = {"metadata": {"labels": {"app.kubernetes.io/name": "attune-api"}}, "spec": {"containers": []}}
    assert watched.watch_namespaces([other, pod("a, b")]) == ("a", "b")
    assert watched.watch_namespaces([pod("")]) == ()
    assert watched.watch_namespaces([pod(None)]) is None
    assert watched.watch_namespaces([other]) is None


def test_a_watched_namespace_costs_no_line() -> None:
    assert said() == []
    assert said(watched=("shop",), marked={"shop": "attune-system"}) == []
    assert said(watched=None, marked={"shop": "attune-system"}) == []


def test_one_outside_the_watched_ones_is_a_problem() -> None:
    [(name, state, message)] = said(watched=("a", "b"), used={"shop": 1})
    assert (name, state) == ("Namespace shop", "problem")
    assert message == (
        "the operator in attune-system does not watch it, so nothing happens for its Sensor or Rule; it watches a, b"
    )


def test_one_of_another_installation_is_a_problem() -> None:
    [(_, state, message)] = said(marked={"shop": "staging"})
    assert state == "problem"
    assert message == "the installation in namespace staging looks after it, and the one in attune-system keeps off"


def test_what_is_not_known_is_said_of_ones_own_namespace_only() -> None:
    [(name, state, message)] = said(watched=None, marked=None, used={"shop": 1, "other": 1})
    assert (name, state) == ("Namespace shop", "unknown")
    assert "not known" in message
    [(_, state, message)] = said(watched=None, marked={}, used={"shop": 1, "other": 1})
    assert state == "unknown"
    assert message.startswith("no operator has taken its Sensor or Rule yet")


def test_the_first_few_are_named_ones_own_first() -> None:
    lines = said(watched=("a",), used=dict.fromkeys(("b", "c", "d", "e", "f", "g", "shop"), 1))
    assert lines[0][0] == "Namespace shop"
    assert len(lines) == 6
    assert lines[-1][2] == "2 more that it does not look after"
