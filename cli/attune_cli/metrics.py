"""Metrics pages as values. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

_OURS: Final = ("attune_", "process_")


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of a page."""

    name: str
    labels: Mapping[str, str]
    value: float


def samples(page: str) -> list[Sample]:
    """The series of ours, and of the process, in Prometheus' text format. What is none of that is left out."""
    return list(_samples("\n".join(line for line in page.splitlines() if line.startswith(_OURS))))


def _samples(text: str) -> Iterator[Sample]:
    try:
        for family in text_string_to_metric_families(text):
            for found in family.samples:
                yield Sample(found.name, found.labels, found.value)
    except ValueError:  # the page was cut, or is none
        return


def total(found: list[Sample], name: str, **labels: str) -> float | None:
    """The sum of the series of that name and labels; None where there are none."""
    values = [
        sample.value
        for sample in found
        if sample.name == name and all(sample.labels.get(label) == wanted for label, wanted in labels.items())
    ]
    return sum(values) if values else None
