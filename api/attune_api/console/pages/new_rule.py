"""A new Rule, from the schema of a trigger type: a form, its YAML, and applying it with the visitor's own rights."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi.responses import Response

from attune_api.console.answers import redirect
from attune_api.console.cluster import path_of
from attune_api.console.views.as_yaml import as_yaml
from attune_api.console.views.new_rule import manifest, naming_problems, refusal
from attune_api.console.views.parameters import OTHERS, entered, given
from attune_api.console.views.schema_fields import Fields, fields_of
from attune_api.console.views.sensor import type_named, usual_namespace
from attune_api.console.visit import Visit, link, root_of, said_by
from attune_api.web.problems import ProblemError
from attune_contract.names import RULES, SENSORS
from attune_kit.kubernetes.client import KubernetesError

_UNPROCESSABLE: Final = 422
#: Refusals that the person at the form can do something about.
_TOLD: Final = (400, 403, 404, 409, _UNPROCESSABLE)


async def show(visit: Visit, namespace: str, name: str, type: str) -> Response:  # noqa: A002 - as the path has it
    """``GET /console/sensors/{namespace}/{name}/types/{type}/new-rule``: the empty form."""
    sensor, declared = await _declared(visit, namespace, name, type)
    fields = fields_of(declared.get("parametersSchema"))
    form = {**given(fields), "namespace": usual_namespace(sensor, await visit.namespace())}
    return _page(visit, namespace, name, declared, fields, form)


async def write(visit: Visit, namespace: str, name: str, type: str) -> Response:  # noqa: A002 - as the path has it
    """``POST …/new-rule``: show what the form makes, or apply it (``do=apply``)."""
    _, declared = await _declared(visit, namespace, name, type)
    schema = declared.get("parametersSchema")
    fields, form = fields_of(schema), visit.form
    found = entered(form, fields, schema=schema)
    problems = {**naming_problems(form), **found.problems}
    made = manifest(form, kind=str(declared["name"]), parameters=found.parameters)
    if problems or found.general:
        return _page(
            visit, namespace, name, declared, fields, form,
            status=_UNPROCESSABLE, problems=problems, general=found.general,
        )  # fmt: skip
    if form.get("do") != "apply":
        return _page(visit, namespace, name, declared, fields, form, text=as_yaml(made))
    try:
        await visit.console.cluster.create(visit.bearer, path_of(RULES, form["namespace"]), made)
    except KubernetesError as error:
        if error.status not in _TOLD:
            raise
        return _page(
            visit, namespace, name, declared, fields, form,
            status=error.status, general=(refusal(error.status, said_by(error), form),), text=as_yaml(made),
        )  # fmt: skip
    return redirect(link(f"/rules/{form['namespace']}/{form['name']}", said="created"), root=root_of(visit.request))


async def _declared(visit: Visit, namespace: str, name: str, kind: str) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The Sensor, and its trigger type.

    Raises:
        ProblemError: 403, the visitor may not read the Sensor; 404, it has no such type.
    """
    await visit.require("get", namespace, name, resource=SENSORS)
    sensor = await visit.console.cluster.get(visit.bearer, path_of(SENSORS, namespace, name))
    declared = type_named(sensor, kind)
    if declared is None:
        raise ProblemError(404, f"The Sensor {namespace}/{name} has no trigger type {kind[:80]}.")
    return sensor, declared


def _page(
    visit: Visit,
    namespace: str,
    name: str,
    declared: Mapping[str, Any],
    fields: Fields,
    form: Mapping[str, str],
    *,
    status: int = 200,
    problems: Mapping[str, str] | None = None,
    general: tuple[str, ...] = (),
    text: str = "",
) -> Response:
    return visit.page(
        "new_rule.html",
        status=status,
        namespace=namespace,
        name=name,
        kind=str(declared["name"]),
        fields=fields,
        form=form,
        others=OTHERS,
        problems=problems or {},
        general=general,
        text=text,
    )
