"""``spec.actions`` of a Rule: what is done for each of its events (docs/actions.md).

All lists and texts have bounds: the API server estimates what our CEL rules cost at worst, and refuses what could cost much.
"""

from datetime import timedelta
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import ConfigDict, Field

from attune_contract.actions import ActionKind
from attune_contract.resources.common import FreeForm, Model, cel
from attune_contract.resources.durations import duration_field, parse_duration

#: The longest expression, as :data:`attune_kit.cel.library.LONGEST`.
_EXPRESSION: Final = 4096
#: The longest text with expressions in it.
_TEXT: Final = 65_536
_NAME: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

Expression: TypeAlias = Annotated[str, Field(min_length=1, max_length=_EXPRESSION)]
ObjectName: TypeAlias = Annotated[str, Field(min_length=1, max_length=253, pattern=_NAME)]
#: A name that may have ``${…}`` in it.
NameTemplate: TypeAlias = Annotated[str, Field(min_length=1, max_length=1024)]
#: Any JSON: an object, a list, a text, a number.
Json: TypeAlias = Annotated[Any, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
Texts: TypeAlias = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)]


class SecretKey(Model):
    """A key of a Secret in the Rule's namespace. It is read as the Rule's ServiceAccount, at the time of the attempt."""

    name: ObjectName
    """The Secret's name."""
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
    """The key in the Secret."""


class ValueFrom(Model):
    """Where a value comes from."""

    secret_key_ref: SecretKey
    """A key of a Secret."""


class Header(Model):
    """One header of an HTTP request."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel("has(self.value) != has(self.valueFrom)", "a header has either value or valueFrom"),
                cel(
                    "!self.name.matches('(?i)^(host|content-length|transfer-encoding|connection|te|upgrade|trailer"
                    "|keep-alive|proxy-.*|idempotency-key)$')",
                    "this header is set by Attune or by HTTP itself; choose another name",
                ),
            ]
        }
    )

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[-!#$%&'*+.^_`|~0-9A-Za-z]+$")]
    """The header's name. Host, Content-Length, Idempotency-Key and those about the connection are not allowed."""
    value: Annotated[str, Field(max_length=4096)] | None = None
    """Its value, with ${…} where an expression's result is put. A line break in it fails the run."""
    value_from: ValueFrom | None = None
    """Where its value comes from. What comes from a Secret is taken as it is: ${…} has no meaning in it."""


class Http(Model):
    """One HTTP request. Without body, form, text and cloudEvent it has no body."""

    model_config = ConfigDict(
        json_schema_extra={
            # The API server's rules cannot see a field of any type, such as body: hence a schema.
            "not": {"anyOf": [{"required": ["body", other]} for other in ("form", "text", "cloudEvent")]},
            "x-kubernetes-validations": [
                cel(
                    "!(has(self.form) && has(self.text)) && !(has(self.form) && has(self.cloudEvent)) && "
                    "!(has(self.text) && has(self.cloudEvent))",
                    "body, form, text and cloudEvent exclude each other",
                ),
                cel(
                    "self.url.matches('^(https?://[^/?#]|[$][{])')",
                    "a url begins with https:// or http:// and a host, or is an expression: ${…}",
                ),
                cel(
                    "!has(self.cloudEvent) || !has(self.method) || self.method in ['POST', 'PUT', 'PATCH']",
                    "a CloudEvent is sent with POST, PUT or PATCH",
                ),
            ],
        }
    )

    url: Annotated[str, Field(min_length=1, max_length=2048)]
    """Where to, with ${…} where an expression's result is put. An expression in the path or in the query is percent-encoded,
    and cannot change the host; a url that is one ${…} is taken whole."""
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    """The method."""
    headers: Annotated[
        list[Header],
        Field(
            max_length=32,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = Field(default_factory=list)
    """Headers beside Content-Type, which is that of the body unless it is named here, and Idempotency-Key, the run's id."""
    query: Texts | None = None
    """Parameters that are added to the url's query, percent-encoded."""
    body: Json = None
    """The body as JSON: any value, with ${…} in its texts. A text that is one ${…} keeps the value's type."""
    form: Texts | None = None
    """The body as a form (application/x-www-form-urlencoded)."""
    text: Annotated[str, Field(max_length=_TEXT)] | None = None
    """The body as plain text."""
    cloud_event: Literal["Binary", "Structured"] | None = None
    """The body is the event as a CloudEvent 1.0, in HTTP's binary or structured mode."""


class JobTemplate(Model):
    """What the Job is like, as a CronJob's jobTemplate."""

    metadata: FreeForm | None = None
    """Labels and annotations of the Job. Its name and namespace are given by Attune."""
    spec: FreeForm
    """The Job's spec, as in batch/v1."""


class Job(Model):
    """Creates a Job."""

    template: JobTemplate
    """What the Job is like, with ${…} in its texts."""


class ObjectAction(Model):
    """Creates, applies, patches or deletes an object of the Rule's namespace."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "!(self.operation in ['Create', 'Apply']) || (has(self.manifest) && !has(self.apiVersion) && "
                    "!has(self.kind) && !has(self.name) && !has(self.patch))",
                    "Create and Apply need manifest, and no apiVersion, kind, name and patch",
                ),
                cel(
                    "self.operation in ['Create', 'Apply'] || (has(self.apiVersion) && has(self.kind) && "
                    "has(self.name) && !has(self.manifest))",
                    "Patch and Delete need apiVersion, kind and name, and no manifest",
                ),
                cel("(self.operation == 'Patch') == has(self.patch)", "operation: Patch and patch go together"),
                cel("!has(self.patchType) || self.operation == 'Patch'", "patchType goes with operation: Patch"),
            ]
        }
    )

    operation: Literal["Create", "Apply", "Patch", "Delete"]
    """Create: a new object; without metadata.name it gets a name of its own for each event. Apply: server-side apply.
    Patch: changes an object that is there. Delete: deletes it; one that is gone already is a success."""
    manifest: FreeForm | None = None
    """With Create and Apply, the object, with ${…} in its texts. Its namespace is the Rule's."""
    api_version: Annotated[str, Field(min_length=1, max_length=317)] | None = None
    """With Patch and Delete, the object's apiVersion, like apps/v1."""
    kind: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """With Patch and Delete, the object's kind."""
    name: NameTemplate | None = None
    """With Patch and Delete, the object's name, with ${…} where an expression's result is put."""
    patch: FreeForm | None = None
    """With Patch, what is to be changed, with ${…} in its texts."""
    patch_type: Literal["Merge", "Strategic"] | None = None
    """With Patch, how lists are merged. Merge (the default): RFC 7386, lists are replaced. Strategic: by their keys, for
    Kubernetes' own kinds."""


class NatsConnection(Model):
    """A NATS server."""

    url: Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^(nats|tls)://[^/?#@]+$")]
    """Where it is, like nats://nats.example.org:4222, or tls:// for TLS."""
    credentials_secret: SecretKey | None = None
    """A key of a Secret with a credentials file, as `nsc` writes it."""


class Nats(Model):
    """Publishes a message."""

    connection: NatsConnection
    """On which server."""
    subject: Annotated[str, Field(min_length=1, max_length=1024)]
    """The subject, with ${…} where an expression's result is put; a result with blanks, * or > in it fails the run."""
    body: Json = None
    """The message as JSON: any value, with ${…} in its texts. Without it the message is the event."""
    headers: Texts | None = None
    """Headers beside Nats-Msg-Id, which is the run's id."""
    jet_stream: bool = False
    """Whether a stream must take the message: the run has succeeded when the stream says so. Otherwise when it is sent."""


class RuleSwitch(Model):
    """Switches a Rule of the same namespace on or off."""

    name: NameTemplate
    """The Rule's name, with ${…} where an expression's result is put."""
    enabled: bool
    """What its spec.enabled becomes."""


class Emit(Model):
    """Makes an event for the Rules of this namespace with trigger type core.event. At most 8 emits may follow one another."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """The event's name, which those Rules name in their parameters, with ${…} where an expression's result is put."""
    payload: Json = None
    """The event's payload, an object of at most 256 KiB, with ${…} in its texts. Without it, that of the event at hand. Its
    field emitted is always ours: it says where the event comes from."""


class Retry(Model):
    """How often and when a failed run is tried again."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "duration(has(self.maxBackoff) ? self.maxBackoff : '5m') >= "
                    "duration(has(self.backoff) ? self.backoff : '2s')",
                    "maxBackoff is at least backoff",
                )
            ]
        }
    )

    attempts: Annotated[int, Field(ge=1, le=100)] = 5
    """How many attempts a run has at most."""
    backoff: duration_field(least="10ms", most="1h") = "2s"  # type: ignore[valid-type]
    """The wait before the second attempt, from 10ms to 1h. It doubles with each attempt, and is spread by chance."""
    max_backoff: duration_field(least="10ms", most="24h") = "5m"  # type: ignore[valid-type]
    """The longest wait, also where the target asks for a longer one (Retry-After)."""
    timeout: duration_field(least="100ms", most="10m") = "30s"  # type: ignore[valid-type]
    """How long one attempt may take, from 100ms to 10m."""

    def first_wait(self) -> timedelta:
        """The wait before the second attempt."""
        return parse_duration(self.backoff)

    def longest_wait(self) -> timedelta:
        """The longest wait between attempts."""
        return parse_duration(self.max_backoff)

    def time_limit(self) -> timedelta:
        """How long one attempt may take."""
        return parse_duration(self.timeout)


class RateLimit(Model):
    """How often attempts are made at most, in each replica of attune-actions."""

    # The API server rounds the bounds of schemas for whole numbers: hence a rule.
    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel("self.perSecond >= 0.001 && self.perSecond <= 10000.0", "perSecond is from 0.001 to 10000")
            ]
        }
    )

    per_second: float
    """Attempts a second, such as 0.1 for one in ten seconds."""
    burst: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many attempts may be made at once after a pause."""


class Action(Model):
    """One thing that is done for each event of the Rule: exactly one of http, job, object, nats, rule and emit."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "[has(self.http), has(self.job), has(self.object), has(self.nats), has(self.rule), has(self.emit)]"
                    ".exists_one(there, there)",
                    "an action has exactly one of http, job, object, nats, rule and emit",
                ),
                cel("!has(self.success) || has(self.http)", "success is only for http"),
                cel(
                    "!has(self.await) || has(self.object) || (has(self.job) && self.await == 'Completed')",
                    "await is only for job, as await: Completed, and for object, as an expression",
                ),
            ]
        }
    )

    name: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    """The action's name, unique in its Rule. A run's id is made from it: an action with a new name is a new action."""
    when: Expression | None = None
    """A CEL expression on event. The action is skipped for events for which it is false."""
    http: Http | None = None
    """Sends an HTTP request."""
    job: Job | None = None
    """Creates a Job."""
    object: ObjectAction | None = None
    """Creates, applies, patches or deletes an object."""
    nats: Nats | None = None
    """Publishes a message on NATS."""
    rule: RuleSwitch | None = None
    """Switches a Rule on or off."""
    emit: Emit | None = None
    """Makes an event for other Rules."""
    retry: Retry = Field(default_factory=Retry)
    """How often and when a failed run is tried again."""
    concurrency: Literal["Allow", "Forbid", "Replace"] = "Allow"
    """What happens while a run of this action is under way, as in a CronJob. Allow: the next one runs beside it. Forbid: it is
    skipped. Replace: it takes the place of the first."""
    rate_limit: RateLimit | None = None
    """How often attempts are made at most."""
    success: Expression | None = None
    """With http, a CEL expression on response (status, headers, body) and event: whether the request succeeded. Without it,
    when the status is 2xx."""
    await_: Annotated[Expression | None, Field(alias="await")] = None
    """Until when the run goes on after the object was made. With job: Completed, and the run fails when the Job does. With
    object: a CEL expression on object and event that becomes true."""

    @property
    def kind(self) -> ActionKind:
        """What the action does."""
        return next(kind for kind in ActionKind if getattr(self, kind.value) is not None)

    def as_message(self) -> dict[str, Any]:
        """The action as in a Rule, with its defaults, for :class:`attune_contract.actions.RuleActions`."""
        return self.model_dump(by_alias=True, mode="json", exclude_none=True)


#: A Rule's actions.
Actions: TypeAlias = Annotated[
    list[Action],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    ),
]

#: On ``spec``: who acts in the namespace must be named.
ACCOUNT_NEEDED: Final = cel(
    "has(self.serviceAccountName) || !has(self.actions) || self.actions.all(a, !has(a.job) && !has(a.object) && "
    "!has(a.rule) && (!has(a.nats) || !has(a.nats.connection.credentialsSecret)) && "
    "(!has(a.http) || !has(a.http.headers) || a.http.headers.all(h, !has(h.valueFrom))))",
    "serviceAccountName is required: job, object, rule and values from Secrets act as a ServiceAccount of the namespace",
)
