"""What a namespace may use of an installation (docs/tenancy.md, "Quotas"); an administrator sets it, for API and operator."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

_Limit = Annotated[int, Field(ge=0)]
_CONFIG = ConfigDict(
    frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
)


class NamespaceQuotas(BaseModel):
    """Limits of one namespace that differ from those of all; None where they do not. 0 is no limit."""

    model_config = _CONFIG

    events_per_second: _Limit | None = None
    stored_events: _Limit | None = None
    rules_per_sensor: _Limit | None = None


class Quotas(BaseModel):
    """Limits; 0 is none."""

    model_config = _CONFIG

    events_per_second: _Limit = 0
    """Events that a namespace may report in a second, at each replica of the API, on average."""
    stored_events: _Limit = 0
    """Events that are kept of a namespace; above it, its oldest ones are deleted."""
    rules_per_sensor: _Limit = 0
    """Rules of one namespace that a Sensor serves."""
    rules_per_sensor_total: _Limit = 0
    """Rules of all namespaces together that a Sensor serves."""
    processes_per_sensor: _Limit = 0
    """Rules that a Sensor serves that runs a process for each of them (``runner: Stdio`` with ``stdio.mode: perRule``)."""
    namespaces: dict[str, NamespaceQuotas] = Field(default_factory=dict)
    """What is different for single namespaces."""

    def events_per_second_of(self, namespace: str) -> int:
        """Events that this namespace may report in a second; 0 for any number."""
        return _own(self.namespaces.get(namespace), "events_per_second", self.events_per_second)

    def stored_events_of(self, namespace: str) -> int:
        """Events that are kept of this namespace; 0 for all."""
        return _own(self.namespaces.get(namespace), "stored_events", self.stored_events)

    @property
    def limits_stored_events(self) -> bool:
        """Whether any namespace may keep a number of events only."""
        return self.stored_events > 0 or any(each.stored_events for each in self.namespaces.values())

    @property
    def limits_rules(self) -> bool:
        """Whether any Sensor serves a number of Rules only."""
        return (
            self.rules_per_sensor > 0
            or self.rules_per_sensor_total > 0
            or self.processes_per_sensor > 0
            or any(each.rules_per_sensor for each in self.namespaces.values())
        )

    def rules_per_sensor_of(self, namespace: str) -> int:
        """Rules of this namespace that a Sensor serves; 0 for any number."""
        return _own(self.namespaces.get(namespace), "rules_per_sensor", self.rules_per_sensor)


def _own(found: NamespaceQuotas | None, name: str, default: int) -> int:
    own: int | None = None if found is None else getattr(found, name)
    return default if own is None else own
