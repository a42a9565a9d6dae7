"""What has to be known of a sensor before it can be examined: what it provides, and what makes it fire."""

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from attune_contract.identity import SensorRef
from attune_contract.resources import Sensor


class ProfileError(ValueError):
    """The sensor is not described well enough to be examined. The text says what is missing and how to give it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One sensor under examination.

    Attributes:
        command: the program and its arguments.
        trigger_type: what its rules ask for.
        parameters: parameters with which a rule fires again and again. Strings in them may hold ``$rule``, the rule's name,
            which no other check has.
        bad_parameters: parameters that the sensor must reject; None when it takes any.
        every: a rule with ``parameters`` fires at least once in so many seconds.
        repeatable: whether two instances report the same occurrences, so that their ids can be compared.
        occurrence: name of the payload's field that tells one occurrence of a rule from another; None when ``occurred_at`` does.
        config: the Sensor's ``spec.config``.
        environment: variables beyond those of the protocol.
        stimulus: a program that makes occurrences, for a sensor that does not by itself; it runs beside the sensor.
        ports: names of the ports on which it listens (``spec.ports``); it is given a free one for each.
        grace: seconds that the sensor has after SIGTERM.
        slack: seconds that everything may take longer than expected, as machines are busy.
        sensor: by which name the sensor is examined.
    """

    command: tuple[str, ...]
    trigger_type: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    bad_parameters: Mapping[str, Any] | None = None
    every: float = 1.0
    repeatable: bool = True
    occurrence: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    stimulus: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    grace: float = 10.0
    slack: float = 20.0
    sensor: SensorRef = field(default_factory=lambda: SensorRef("conformance", "under.test"))

    def parameters_for(self, rule: str) -> dict[str, Any]:
        """The parameters of the rule of this name."""
        filled = _filled(dict(self.parameters), rule)
        assert isinstance(filled, dict)  # noqa: S101 - it was one before
        return filled

    @property
    def patience(self) -> float:
        """Seconds within which something must show that should show at once."""
        return self.slack + 3 * self.every

    @property
    def recovery(self) -> float:
        """Seconds within which a sensor must have got over a fault: noticed it, backed off, and tried again."""
        return self.patience + 30.0

    @property
    def silence(self) -> float:
        """Seconds without an event after which a rule that should not fire is taken not to."""
        return 1.0 + 3 * self.every


def _filled(value: Any, rule: str) -> Any:
    match value:
        case str():
            return string.Template(value).safe_substitute(rule=rule)
        case dict():
            return {key: _filled(item, rule) for key, item in value.items()}
        case list():
            return [_filled(item, rule) for item in value]
        case _:
            return value


def parse_object(text: str, *, what: str) -> dict[str, Any]:
    """Read a JSON object from the command line.

    Raises:
        ProfileError: it is none; the text names ``what``.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ProfileError(f"{what}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ProfileError(f'{what}: not a JSON object; write it like {{"interval": 1}}')
    return value


def read_manifest(path: Path) -> Sensor:
    """The Sensor in a manifest of one or more documents.

    Raises:
        ProfileError: the file cannot be read, or holds no Sensor.
    """
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ProfileError(f"{path}: {error}") from None
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "Sensor":
            try:
                return Sensor.model_validate(document)
            except ValueError as error:
                raise ProfileError(f"{path}: {error}") from None
    raise ProfileError(f"{path} holds no object of kind Sensor")
