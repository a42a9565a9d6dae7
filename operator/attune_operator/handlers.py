"""Everything that the operator reacts to but Rules (``runtime.rule_watch``): every kopf handler, and nothing else.

All are ``on.event``: they need no finalizer and no annotation, so nothing is stuck in Terminating if the operator is gone,
and Rules carry nothing of ours (docs/decisions/0004, 0009). Handlers only pass on what was seen; what to do is decided
level-triggered, from the present state.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Any, cast

import kopf

from attune_contract import names
from attune_operator.observers import Observers
from attune_operator.resources.kinds import Kind
from attune_operator.runtime.client import Body, WatchEventType


def _seen(event: kopf.RawEvent) -> tuple[WatchEventType, Body]:
    """Return what was seen; bookmarks never reach handlers."""
    return cast("WatchEventType", event["type"]), cast("Body", event["object"])


def registry(
    observers: Observers,
    *,
    login: Callable[[], Awaitable[kopf.AiohttpSession]],
    ours: bool,
    namespaces: bool,
    children: Collection[Kind],
) -> kopf.OperatorRegistry:
    """Build the handlers.

    Args:
        observers: what they call.
        login: how kopf reaches the API server.
        ours: whether Sensors are watched.
        namespaces: whether namespaces may be watched (not if the operator is limited to some).
        children: the other kinds that are watched, where they have the operator's label.
    """
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        return await login()

    if ours:

        @kopf.on.event(names.GROUP, names.VERSION, names.SENSORS, registry=handlers)
        async def sensor(event: kopf.RawEvent, **_: Any) -> None:
            observers.observe_sensor(*_seen(event))

    if namespaces:

        @kopf.on.event("", "v1", "namespaces", registry=handlers)
        async def namespace(event: kopf.RawEvent, **_: Any) -> None:
            observers.observe_namespace(*_seen(event))

    for kind in children:

        @kopf.on.event(kind.group, kind.version, kind.plural, id=f"child-{kind.plural}", param=kind, registry=handlers)
        async def child(event: kopf.RawEvent, param: Any = None, **_: Any) -> None:
            observers.observe_child(param, *_seen(event))

    return handlers
