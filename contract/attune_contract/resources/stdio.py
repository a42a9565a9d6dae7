"""``spec.stdio`` of a Sensor: how a program is run, and how its output is read (docs/runners.md)."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from attune_contract.resources.common import Model, cel


class StdioOptions(Model):
    """How a program that prints JSON lines is run."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "self.mode == 'perRule' || !has(self.onExit)",
                    "onExit is only for mode: perRule; a perSensor program is always restarted",
                ),
                cel(
                    "(has(self.format) && self.format == 'regex') == has(self.pattern)",
                    "pattern and format: regex go together",
                ),
                cel("!has(self.columns) || (has(self.format) && self.format == 'csv')", "columns go with format: csv"),
                cel(
                    "(has(self.format) && self.format != 'events') || "
                    "!(has(self.when) || has(self.payload) || has(self.occurrence) || has(self.occurredAt))",
                    "when, payload, occurrence and occurredAt need a format other than events",
                ),
            ]
        }
    )

    mode: Literal["perRule", "perSensor"] = "perRule"
    """perRule: one process for each active rule, with the rule's parameters in its environment. perSensor: one process for
    all rules, which reads them from its standard input."""
    on_exit: Literal["Complete", "Restart"] | None = None
    """What happens when a rule's program ends with status 0. Restart (the default): the program is restarted. Complete: the
    rule is completed. Any other status is a failure, after which the program is always restarted."""
    max_restart_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """The longest wait before a program that failed is restarted; the wait begins at one second and doubles. Programs that
    miss what happens while they are away want a short one."""
    format: Literal["events", "json", "jsonlines", "text", "regex", "csv"] | None = None
    """What the program prints. events (the default): one JSON object per line with payload, occurrence, occurred_at. json:
    JSON values, also over several lines. jsonlines: a JSON value per line. text: lines. regex: lines of which those count that
    match pattern. csv: records with quotes as in RFC 4180."""
    pattern: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """With format: regex, a regular expression (Python's re) that is searched in each line. Its named groups, written
    (?P<name>...), are the printed value."""
    columns: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=63)]], Field(min_length=1, max_length=64)] | None
    ) = None
    """With format: csv, the names of the columns. Without them the printed value is a list."""
    when: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """A CEL expression on line (the printed value) and params (the rule's parameters). Only what it is true for is an event."""
    payload: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """A CEL expression for the event's payload, an object. Without it the payload is the printed value if that is an object,
    else {"text": ...} or {"value": ...}."""
    occurrence: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """A CEL expression for a text or number that distinguishes this occurrence from others of the rule."""
    occurred_at: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """A CEL expression for the time: a text like 2026-11-23T12:00:00Z, or an epoch in seconds, milliseconds or microseconds."""
    lines_per_second: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """How many lines per second are read from each process. A faster process has to wait."""
    stop_seconds: Annotated[int, Field(ge=0, le=20)] = 5
    """How long a process has from SIGTERM to SIGKILL."""
    supervisor: Literal["Copied", "Image"] | None = None
    """Where the supervisor comes from when spec.image is set. Copied (the default): it is copied into the pod, and the image
    needs python3 (3.11 or later). Image: the image is built on attune/sensor-stdio and contains it."""
