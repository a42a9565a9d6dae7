"""The table of ways not to fire, before any cluster: what each way says of itself, and the page that is made of it."""

import re

import pytest
from ways import in_pods, in_programs, in_rules, in_the_system, table
from ways.way import PLACES, REGISTRY, Found, Way

assert in_pods
assert in_programs
assert in_rules
assert in_the_system


def test_there_are_enough() -> None:
    assert len(REGISTRY) >= 66


@pytest.mark.parametrize("way", REGISTRY.values(), ids=REGISTRY)
def test_a_way_has_a_name_for_a_namespace_and_expressions_that_do_not_match_it(way: Way) -> None:
    namespace = f"way-{way.name}"
    assert re.fullmatch(r"[a-z0-9-]{1,57}", namespace)
    for expression in (way.cause, *way.wrong):
        assert not re.search(expression, f"Rule {namespace}/r Sensor {namespace}/program", re.IGNORECASE)
    re.compile(way.kubelet)
    assert set(way.places) <= set(PLACES)
    assert way.places == PLACES or way.but, "where it cannot be told, the table says why"


def _way(name: str) -> Way:
    return Way(name=name, what=f"it is {name}", cause="x", breaks=lambda stage: None)


def test_what_kubernetes_needs_is_not_ours() -> None:
    found = Found(name="a", seconds={"get": 12.0, "describe": 12.5, "status": 14.0}, kubelet=11.0)
    assert found.slowest(_way("a")) == 3.0
    assert Found(name="a", seconds={"get": 1.0, "describe": 1.0}).slowest(_way("a")) is None


def test_the_verdict_counts_what_was_told_where_and_how_soon() -> None:
    good = {"get": 1.0, "describe": 1.0, "status": 2.0}
    found = [
        Found(name="a", seconds=good),
        Found(name="b", seconds={**good, "status": 15.0}),
        Found(name="c", seconds={"get": 1.0}, wrong=["all is well"]),
        Found(name="d", error="no cluster"),
    ]
    summary = table.verdict([_way(name) for name in "abcd"], found)
    assert summary["told everywhere"] == 2
    assert summary["within 10 s"] == 1
    assert summary["within 20 s"] == 2
    assert summary["not told somewhere"] == ["c"]
    assert summary["wrong"] == ["c"]
    assert summary["could not be made to happen"] == ["d"]


def test_the_page_gets_the_table_in_place_of_the_old_one() -> None:
    found = Found(name="a", seconds={"get": 1.0, "describe": 2.0}, lines={"describe": "Rule r: Ready=False Bad: a | b"})
    lines = table.rows([_way("a")], [found])
    page = "head\n<!-- table: made by `make ways` -->\nold\n<!-- end of the table -->\ntail\n"
    made = table.into(page, lines, "1 way.")
    assert "| it is a | Rule Ready=False Bad: a \\| b | 1.0 | 2.0 | never |  |" in made
    assert "old" not in made
    assert table.into(made, lines, "1 way.") == made
