"""What a Rule in a file would do, without a cluster: by the functions that the runner uses."""

import asyncio
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog
from pydantic import ValidationError

from attune_cli.errors import CliError, ExitCode, NotFoundError, UsageError
from attune_cli.files import read_manifest
from attune_contract.actions import RuleActions
from attune_contract.events import Event, scheduled
from attune_contract.resources.actions import Action
from attune_kit.actions.plan import Plan
from attune_kit.cel.evaluator import Evaluator
from attune_kit.cel.library import EvaluationError
from attune_local.admission import check_text

#: Where a Rule in a file has no uid.
_NO_UID = "00000000-0000-0000-0000-000000000000"


def read_payload(path: Path) -> dict[str, Any]:
    """A payload of one's own.

    Raises:
        UsageError: the file cannot be read, or is no JSON object.
    """
    try:
        found = json.loads(read_manifest(path))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} is not a JSON object.")
    return found


def read_rule(paths: Sequence[Path], *, name: str | None, namespace: str) -> Mapping[str, Any]:
    """A Rule in files: the one with this name, or the only one.

    Raises:
        UsageError: a file cannot be read, or several Rules are in the files and none is named.
        NotFoundError: there is no such Rule.
        CliError: a file has mistakes.
    """
    rules: list[Mapping[str, Any]] = []
    for path in paths:
        result = check_text(read_manifest(path), source=str(path), namespace=namespace)
        if result.problems:
            raise CliError("\n".join(str(problem) for problem in result.problems), code=ExitCode.PROBLEM)
        rules += [checked.object for checked in result.objects if checked.object["kind"] == "Rule"]
    wanted = (name or "").rpartition("/")
    fitting = [
        body
        for body in rules
        if name is None
        or (body["metadata"]["name"] == wanted[2] and (not wanted[0] or body["metadata"]["namespace"] == wanted[0]))
    ]
    if not fitting:
        raise NotFoundError(f"There is no Rule {name} in these files." if name else "There is no Rule in these files.")
    if len(fitting) > 1:
        names = ", ".join(f"{body['metadata']['namespace']}/{body['metadata']['name']}" for body in fitting)
        raise UsageError(f"There are several Rules in these files; name one of {names}.")
    return fitting[0]


def actions_of(body: Mapping[str, Any]) -> RuleActions:
    """A Rule as the runner gets it.

    Raises:
        CliError: an action cannot be read.
    """
    metadata, spec = body["metadata"], body["spec"]
    try:
        actions = tuple(Action.model_validate(each).as_message() for each in spec.get("actions") or ())
    except ValidationError as error:
        raise CliError(f"An action cannot be read: {error}.", code=ExitCode.PROBLEM) from None
    return RuleActions(
        uid=metadata.get("uid") or _NO_UID,
        namespace=metadata.get("namespace") or "default",
        name=metadata["name"],
        generation=metadata.get("generation") or 1,
        enabled=spec.get("enabled", True),
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        data=spec.get("data") or {},
        when=spec.get("when"),
        service_account_name=spec.get("serviceAccountName"),
        order=spec.get("order") or "Concurrent",
        actions=actions,
    )


def try_rule(body: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    """What a Rule would do for an event with this payload, as the API answers it.

    Raises:
        CliError: the Rule cannot be tried.
    """
    rule = actions_of(body)
    now = scheduled(datetime.now(UTC))
    event = Event(
        id=uuid.uuid4(),
        seq=0,
        trigger_type=body["spec"]["trigger"]["type"],
        rule_uid=rule.uid,
        rule_namespace=rule.namespace,
        rule_name=rule.name,
        sensor_ref="",
        occurred_at=now,
        received_at=now,
        payload=msgspec.Raw(msgspec.json.encode(payload)),
    )
    plan = Plan(rule)
    results = asyncio.run(_results(plan, event))
    steps = [
        {
            "action": step.name,
            "kind": step.kind.value,
            "fate": step.fate,
            "reason": step.reason.value,
            "message": step.message,
            "request": step.request,
        }
        for step in plan.steps(results, event)
    ]
    trial = {"event_id": str(event.id), "event_seq": None, "occurred_at": now, "steps": steps}
    return {"generation": rule.generation, "enabled": rule.enabled, "data": [trial]}


async def _results(plan: Plan, event: Event) -> list[Any]:
    if plan.program is None:
        return []
    evaluator = Evaluator(log=structlog.get_logger(__name__))
    try:
        return await evaluator.evaluate(plan.rule.uid, plan.program, plan.variables(event))
    except EvaluationError as error:
        return [error] * len(plan.program.expressions)
    finally:
        await evaluator.close()
