"""What both resources share."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from attune_contract.names import TRIGGER_TYPE_PATTERN

#: A trigger type's name, ``pack.name``.
TriggerTypeName = Annotated[str, Field(max_length=253, pattern=TRIGGER_TYPE_PATTERN)]

#: An object whose fields are defined elsewhere: by another tool's schema, or by another API.
FreeForm = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]


def cel(rule: str, message: str, *, reason: str | None = None) -> JsonDict:
    """One validation rule in the Common Expression Language, for ``x-kubernetes-validations``."""
    validation: JsonDict = {"rule": rule, "message": message}
    if reason is not None:
        validation["reason"] = reason
    return validation


class Model(BaseModel):
    """A part of a resource: camelCase outside, snake_case inside; fields of newer versions are ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        use_attribute_docstrings=True,
    )


class Metadata(Model):
    """The part of ``metadata`` (Kubernetes API conventions) that Attune reads."""

    name: str
    namespace: str
    uid: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Condition(Model):
    """One aspect of the resource's state, with the reason for it and a sentence for people."""

    model_config = ConfigDict(json_schema_extra={})

    type: Annotated[str, Field(max_length=316)]
    """Which aspect this is about."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds: True, False or Unknown."""
    reason: Annotated[str, Field(max_length=1024)]
    """Why, as one CamelCase word that programs can rely on."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """Why, as a sentence for people, with what to do where something is wrong."""
    last_transition_time: datetime
    """When the status last changed."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The metadata.generation that this condition is about."""


#: What the API server fills in where the operator has not written a status yet: without it, tools that wait (kstatus:
#: Flux, Helm 4) take an object that nobody has looked at for one that is done (docs/gitops.md).
NOT_OBSERVED: Final[JsonDict] = {"default": {"observedGeneration": -1}}


Conditions = Annotated[
    list[Condition],
    Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]
