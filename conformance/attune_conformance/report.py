"""Results for people and for programs: lines, JSON, JUnit's XML."""

import json
from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree  # only written here, never read

from attune_conformance.runner import Outcome, Result

_MARKS = {Outcome.PASSED: "✓", Outcome.FAILED: "✗", Outcome.NOT_APPLICABLE: "–", Outcome.BROKEN: "!"}


def line(result: Result) -> str:
    """One result in a line or two."""
    text = f"{_MARKS[result.outcome]} {result.check.name:<24} {result.check.title}"
    if result.outcome is Outcome.FAILED:
        text += f"\n    {result.check.level}: {result.message}"
    elif result.message:
        text += f"\n    {result.message}"
    if result.log is not None:
        text += f"\n    its output: {result.log}"
    return text


def summary(results: Sequence[Result]) -> str:
    """What came of all, in a sentence."""
    counts = Counter(result.outcome for result in results)
    parts = [f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]]
    against = sum(result.counts for result in results)
    verdict = "The sensor conforms." if against == 0 else "The sensor does not conform."
    return f"{', '.join(parts)}. {verdict}"


def as_json(results: Sequence[Result]) -> str:
    """All results as one JSON document."""
    return json.dumps(
        {
            "conforms": not any(result.counts for result in results),
            "checks": [
                {
                    "name": result.check.name,
                    "level": result.check.level,
                    "title": result.check.title,
                    "outcome": result.outcome,
                    "message": result.message,
                    "seconds": round(result.seconds, 3),
                    "log": None if result.log is None else str(result.log),
                }
                for result in results
            ],
        },
        indent=2,
        ensure_ascii=False,
    )


def as_junit(results: Sequence[Result]) -> str:
    """All results as JUnit's XML, which CI systems show. A SHOULD that failed is shown as skipped."""
    suite = ElementTree.Element(
        "testsuite",
        name="attune conformance",
        tests=str(len(results)),
        failures=str(sum(result.counts and result.outcome is Outcome.FAILED for result in results)),
        errors=str(sum(result.outcome is Outcome.BROKEN for result in results)),
        skipped=str(sum(not result.counts and result.outcome is not Outcome.PASSED for result in results)),
        time=f"{sum(result.seconds for result in results):.3f}",
    )
    for result in results:
        case = ElementTree.SubElement(
            suite, "testcase", classname="conformance", name=result.check.name, time=f"{result.seconds:.3f}"
        )
        if result.outcome is Outcome.PASSED:
            continue
        kind = "skipped"
        if result.counts:
            kind = "error" if result.outcome is Outcome.BROKEN else "failure"
        ElementTree.SubElement(case, kind, message=result.message)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
