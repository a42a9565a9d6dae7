"""The Sensor resource."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from attune_contract.identity import MAX_SENSOR_NAME_LENGTH, SensorRef
from attune_contract.resources.common import NOT_OBSERVED, Conditions, FreeForm, Metadata, Model, TriggerTypeName, cel
from attune_contract.resources.durations import parse_duration
from attune_contract.resources.pods import POD_RULES, PodOptions
from attune_contract.resources.stdio import StdioOptions


class TriggerType(Model):
    """A named kind of occurrence that this sensor can report."""

    name: TriggerTypeName
    """The canonical name, pack.name, like core.intervaltimer."""
    aliases: Annotated[
        list[TriggerTypeName], Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = Field(default_factory=list)
    """Other names that Rules may use for it."""
    parameters_schema: FreeForm | None = None
    """JSON Schema (2020-12) for a Rule's trigger.parameters. Without it, any parameters are accepted."""
    payload_schema: FreeForm | None = None
    """JSON Schema (2020-12) for the payload of the events."""


class RuleNamespaces(Model):
    """The namespaces from which this sensor admits Rules."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "self.from == 'Selector' ? has(self.selector) : !has(self.selector)",
                    "selector is required with from: Selector, and not allowed otherwise",
                )
            ]
        }
    )

    from_: Annotated[Literal["Same", "All", "Selector"], Field(alias="from")] = "Same"
    """Same: the sensor's own namespace. All: every one. Selector: those whose labels match the selector."""
    selector: FreeForm | None = None
    """A label selector (matchLabels, matchExpressions) on namespaces."""


class AllowedRules(Model):
    """Which Rules this sensor admits."""

    namespaces: RuleNamespaces = Field(default_factory=RuleNamespaces)
    """The namespaces from which it admits Rules."""


class TokenPolicy(Model):
    """How the sensor's credentials are issued and renewed."""

    ttl: Annotated[
        str,
        Field(
            max_length=20,
            pattern=r"^([0-9]{1,6}(h|m|s)){1,3}$",
            json_schema_extra={
                "x-kubernetes-validations": [
                    cel("duration(self) <= duration('72h')", "a token's ttl is at most 72h"),
                    cel(
                        "duration(self) >= duration('1s')",
                        "a token's ttl must be positive; write it like 24h",
                    ),
                ]
            },
        ),
    ] = "24h"
    """How long a token is valid, from 10m to 72h. It is renewed after two thirds of that time."""
    on_rotate: Literal["Reload", "Restart"] = "Reload"
    """Reload: the sensor reads the renewed file, and nothing is restarted. Restart: the pods are restarted one after the
    other, for programs that read their credentials only once."""

    def lifetime(self) -> timedelta:
        """The ttl as a duration."""
        return parse_duration(self.ttl)


class EnvironmentVariable(Model):
    """An environment variable, as in a container of a pod."""

    name: Annotated[str, Field(min_length=1, max_length=1024)]
    """The variable's name. Names that begin with ATTUNE_ are reserved for the operator."""
    value: str | None = None
    """Its value."""
    value_from: FreeForm | None = None
    """Where its value comes from, as in a container: secretKeyRef, configMapKeyRef, fieldRef or resourceFieldRef."""


class SensorPort(Model):
    """A port on which the sensor's program listens."""

    name: Annotated[str, Field(max_length=15, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
    """The port's name, like http. The variable ATTUNE_PORT_<NAME> has its number."""
    port: Annotated[int, Field(ge=1024, le=65535)]
    """The number of the port that the program listens on."""
    service_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port number of the Sensor's Service; the same by default."""


class MountedSecret(Model):
    """A Secret of the Sensor's namespace that the program may read as files."""

    name: Annotated[
        str, Field(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    ]
    """The Secret's name. It may be created later."""


class SensorSpec(PodOptions):
    """The desired state."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel("has(self.image) || self.runner == 'Stdio'", "spec.image is required, unless runner is Stdio"),
                cel(
                    "self.runner != 'Stdio' || (has(self.command) && size(self.command) > 0)",
                    "runner: Stdio needs spec.command: the program whose lines are events",
                ),
                cel("self.runner == 'Stdio' || !has(self.stdio)", "spec.stdio is only for runner: Stdio"),
                cel("self.runner == 'Stdio' || !has(self.scripts)", "spec.scripts is only for runner: Stdio"),
                cel(
                    "!has(self.image) || !has(self.stdio) || "
                    "(has(self.stdio.supervisor) && self.stdio.supervisor == 'Image') || "
                    "!(has(self.stdio.when) || has(self.stdio.payload) || has(self.stdio.occurrence) || "
                    "has(self.stdio.occurredAt))",
                    "CEL in spec.stdio needs an image that is built on attune/sensor-stdio: set supervisor: Image",
                ),
                cel(
                    "has(self.image) || !has(self.stdio) || !has(self.stdio.supervisor)",
                    "spec.stdio.supervisor is only for an image of your own (spec.image)",
                ),
                *POD_RULES,
            ]
        }
    )

    image: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """The container image of the sensor. With runner: Stdio it is optional; the default image has sh and python3."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """As in a container."""
    command: list[str] | None = None
    """As in a container: the command to run instead of the image's entrypoint."""
    args: list[str] | None = None
    """As in a container: arguments instead of the image's."""
    env: Annotated[
        list[EnvironmentVariable],
        Field(
            max_length=256,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "x-kubernetes-validations": [
                    cel(
                        "self.all(e, !e.name.startsWith('ATTUNE_'))",
                        "variables that begin with ATTUNE_ are set by the operator; choose another name",
                    )
                ],
            },
        ),
    ] = Field(default_factory=list)
    """Environment variables, as in a container."""
    env_from: list[FreeForm] = Field(default_factory=list)
    """Sources of environment variables, as in a container."""
    secrets: Annotated[
        list[MountedSecret],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(default_factory=list)
    """Secrets whose keys are files in ATTUNE_SECRETS_DIR/<name>/, updated when they change."""
    ports: Annotated[
        list[SensorPort],
        Field(
            max_length=8,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "x-kubernetes-validations": [
                    cel(
                        "self.all(p, p.name != 'metrics' && p.port != 8080)",
                        "the name metrics and the port 8080 are reserved for health and metrics; choose others",
                    ),
                    cel(
                        "self.all(p, self.exists_one(q, q.port == p.port))",
                        "two ports have the same number; the program can listen on it once",
                    ),
                ],
            },
        ),
    ] = Field(default_factory=list)
    """Ports that the program listens on. If there are any, the Sensor gets a Service, and its pods accept connections on
    them."""
    service_account_name: (
        Annotated[
            str, Field(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
        ]
        | None
    ) = None
    """A ServiceAccount of the Sensor's namespace whose rights the program has: its token is mounted in the pods. Without it,
    the pods run as their own account, which has no rights, and no token is mounted."""
    runner: Literal["Standalone", "Stdio"] = "Standalone"
    """Standalone: the program speaks the sensor protocol itself. Stdio: it prints JSON lines, and our supervisor
    speaks the protocol for it."""
    stdio: StdioOptions | None = None
    """With runner: Stdio, how the program is run."""
    scripts: (
        Annotated[
            dict[str, Annotated[str, Field(max_length=262_144)]],
            Field(
                min_length=1,
                max_length=32,
                json_schema_extra={
                    "x-kubernetes-validations": [
                        cel(
                            "self.all(name, name.matches('^[-_a-zA-Z0-9][-._a-zA-Z0-9]*$'))",
                            "a script's name consists of letters, digits, '-', '_' and '.', and does not begin with '.'",
                        )
                    ]
                },
            ),
        ]
        | None
    ) = None
    """With runner: Stdio, executable files in the directory that the program runs in: a whole sensor in one manifest. A
    change restarts the pods."""
    trigger_types: Annotated[
        list[TriggerType],
        Field(
            min_length=1,
            max_length=32,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "x-kubernetes-validations": [
                    cel(
                        "self.all(t, !has(t.aliases) || t.aliases.all(a, self.all(u, u.name != a)))",
                        "an alias must differ from the names of the sensor's trigger types",
                    ),
                    cel(
                        "self.all(t, !has(t.aliases) || t.aliases.all(a, self.exists_one(u, "
                        "has(u.aliases) && u.aliases.exists(b, b == a))))",
                        "an alias may stand for one trigger type only",
                    ),
                ],
            },
        ),
    ]
    """What this sensor can report. Its token allows exactly these."""
    rules: AllowedRules = Field(default_factory=AllowedRules)
    """Which Rules this sensor admits."""
    paused: bool = False
    """Stops the sensor and keeps its state: no pods run, and its rules have the reason SensorPaused."""
    replicas: Annotated[int, Field(ge=1, le=16)] = 1
    """How many pods run at the same time. Each reports the same occurrences, and each occurrence is stored once."""
    token: TokenPolicy = Field(default_factory=TokenPolicy)
    """How the sensor's credentials are issued and renewed."""
    config: FreeForm | None = None
    """Free-form configuration, handed to the sensor as a JSON file."""
    resources: FreeForm | None = None
    """Compute resources, as in a container."""
    node_selector: dict[str, str] | None = None
    """As in a pod."""
    tolerations: list[FreeForm] = Field(default_factory=list)
    """As in a pod."""
    affinity: FreeForm | None = None
    """As in a pod."""
    priority_class_name: str | None = None
    """As in a pod."""
    image_pull_secrets: list[FreeForm] = Field(default_factory=list)
    """As in a pod."""
    termination_grace_period_seconds: Annotated[int, Field(ge=0, le=3600)] | None = None
    """As in a pod: how long the sensor may take to deliver its remaining events when it is stopped."""

    def canonical(self, trigger_type: str) -> TriggerType | None:
        """The trigger type with this name or alias; None when this sensor has none."""
        for declared in self.trigger_types:
            if trigger_type == declared.name or trigger_type in declared.aliases:
                return declared
        return None


class TokenStatus(Model):
    """The token in the Secret."""

    issued_at: datetime | None = None
    """When it was issued."""
    expires_at: datetime | None = None
    """When it expires."""
    rotates_at: datetime | None = None
    """When the operator plans to renew it."""
    key_id: str | None = None
    """The id of the key that signed it (kid)."""


class RuleCounts(Model):
    """How many Rules this sensor serves."""

    bound: Annotated[int, Field(ge=0)] = 0
    """Rules bound to this sensor."""
    active: Annotated[int, Field(ge=0)] = 0
    """Rules that the sensor confirmed it runs."""
    rejected: Annotated[int, Field(ge=0)] = 0
    """Rules that the sensor rejected."""


class SensorStatus(Model):
    """The observed state. Only the operator writes it."""

    observed_generation: int | None = None
    """The metadata.generation that this status was computed from; -1 before the operator has written a status."""
    conditions: Conditions = Field(default_factory=list)
    """Ready: its pods run and answer, or it is paused. CredentialsValid: its token is valid and will be renewed in
    time. RulesSynced: the rule stream holds exactly the Rules bound to it. Healthy: it reports that it reaches the API
    and NATS, and serves its Rules. Stalled, only while True: it does not become ready before somebody changes
    something."""
    token: TokenStatus | None = None
    """About the token in the Secret; never the token itself."""
    replicas: int | None = None
    """How many pods there are, old ones among them; for kubectl scale and HorizontalPodAutoscalers."""
    selector: str | None = None
    """The label selector of its pods, for HorizontalPodAutoscalers."""
    rules: RuleCounts | None = None
    """How many Rules this sensor serves."""
    last_event_time: datetime | None = None
    """When the latest stored event of this sensor occurred; updated at a bounded rate."""


class Sensor(Model):
    """A Sensor is a program that watches something and reports events. The operator runs it as pods, gives it a scoped
    credential and renews it, and sends it the Rules that it serves.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    f"self.metadata.name.size() <= {MAX_SENSOR_NAME_LENGTH}",
                    f"a Sensor's name has at most {MAX_SENSOR_NAME_LENGTH} characters",
                )
            ]
        }
    )

    api_version: Literal["attune.dev/v1alpha1"] = "attune.dev/v1alpha1"
    kind: Literal["Sensor"] = "Sensor"
    metadata: Metadata
    spec: SensorSpec
    status: SensorStatus = Field(default_factory=SensorStatus, json_schema_extra=NOT_OBSERVED)

    @classmethod
    def from_object(cls, body: Any) -> "Sensor":
        """Read an object as the Kubernetes API gives it.

        Raises:
            pydantic.ValidationError: the object is not a Sensor.
        """
        return cls.model_validate(body)

    @property
    def ref(self) -> SensorRef:
        """The Sensor's ref, ``namespace/name``."""
        return SensorRef(self.metadata.namespace, self.metadata.name)
