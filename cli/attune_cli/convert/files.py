"""Whole files: which document is whose, and what comes of all of them together."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from attune_cli.convert import argo, knative, stackstorm
from attune_cli.convert.source import Note, Notes, Section, read_text


@dataclass(frozen=True, slots=True)
class Converted:
    """Objects of ours, and what is not translated."""

    objects: list[dict[str, Any]]
    notes: list[Note]


def convert(texts: Iterable[tuple[str, str]]) -> Converted:
    """Convert files together: a Sensor may be in another one than its EventSource.

    Args:
        texts: each file's name and text.
    """
    notes = Notes()
    of_argo: list[Section] = []
    of_knative: list[Section] = []
    of_stackstorm: list[Section] = []
    order: dict[str, int] = {}
    for file, text in texts:
        order.setdefault(file, len(order))
        for section in read_text(text, file=file, notes=notes):
            version, kind = str(section.value.get("apiVersion") or ""), section.value.get("kind")
            if version.startswith(argo.GROUP) and kind in argo.KINDS:
                of_argo.append(section)
            elif version.startswith(knative.GROUPS) and kind in knative.KINDS:
                of_knative.append(section)
            elif stackstorm.is_rule(section.value):
                of_stackstorm.append(section)
            else:
                what = f"{kind} of {version}" if version or kind else "a document of an unknown kind"
                section.note(f"{what} is not translated")
    objects = [*argo.convert(of_argo), *knative.convert(of_knative), *stackstorm.convert(of_stackstorm)]
    unique = dict.fromkeys(notes)
    return Converted(objects, sorted(unique, key=lambda note: (order.get(note.file, 0), note.line)))
