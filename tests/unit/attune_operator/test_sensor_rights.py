"""What a Sensor says where its operator lacks a right, and what is watched where."""

import pytest
from pydantic import ValidationError

from attune_operator.resources.kinds import CONFIG_MAP, SECRET, WATCHED
from attune_operator.runtime.client import ClusterError
from attune_operator.sensors import rights
from attune_operator.settings import Settings
from attune_operator.watching import scopes, settings

DENIED = (
    'GET /api/v1/namespaces/a/secrets/sensor-x: 403 secrets "sensor-x" is forbidden: User "system:serviceaccount:s:o" cannot get '
    'resource "secrets" in API group "" in the namespace "a"'
)
QUOTA = 'POST /x: 403 pods "p" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=4, limited: pods=4'


def test_sensors_run_everywhere_unless_namespaces_are_named() -> None:
    assert rights.outside("a", ()) is None
    assert rights.outside("a", ("b", "a")) is None
    found = rights.outside("c", ("b", "a"))
    assert found is not None
    assert (found.status, found.reason, found.warn) == ("False", "MissingRights", True)
    assert "Add c to the chart value sensorNamespaces" in found.message
    assert "one of: a, b." in found.message


def test_only_a_missing_right_is_called_one() -> None:
    found = rights.missing(ClusterError(DENIED, status=403), "a")
    assert found is not None
    assert found.message.startswith("The operator may not get secrets in namespace a;")
    assert DENIED in found.message
    for other in (ClusterError(QUOTA, status=403), ClusterError(DENIED, status=409), ValueError(DENIED)):
        assert rights.missing(other, "a") is None


def test_everything_is_watched_in_one_scope_unless_sensors_run_in_some_namespaces_only() -> None:
    [everything] = scopes(("a",), ())
    assert (everything.namespaces, everything.ours, everything.children) == (("a",), True, WATCHED)
    watched, where_sensors_run = scopes((), ("b",))
    assert (watched.namespaces, watched.ours, watched.children) == ((), True, (CONFIG_MAP,))
    assert (where_sensors_run.namespaces, where_sensors_run.ours) == (("b",), False)
    assert SECRET in where_sensors_run.children
    selected = settings(watched).watching.field_selectors
    assert list(selected.values()) == ["metadata.name=attune-installation"]
    assert not settings(everything).watching.field_selectors


def test_namespaces_of_sensors_must_be_watched() -> None:
    assert Settings(watch_namespaces=("a", "b"), sensor_namespaces=("b",)).sensor_namespaces == ("b",)
    assert Settings(sensor_namespaces=("b",)).watch_namespaces == ()
    with pytest.raises(ValidationError, match="ATTUNE_OPERATOR_SENSOR_NAMESPACES names c"):
        Settings(watch_namespaces=("a", "b"), sensor_namespaces=("b", "c"))
