"""Servers that rules name and a Sensor knows."""

import msgspec
import pytest

from attune_kit.servers import DEFAULT_SERVER, Reference, place_of, unknown_server


def test_a_server_that_the_sensor_does_not_know_is_named_with_those_that_it_knows() -> None:
    assert unknown_server("default", {"default": 1}) is None
    said = "parameters.server: the Sensor has no server 'x' in spec.config.servers; "
    assert unknown_server("x", ["b", "a"]) == said + "it has a, b"
    assert unknown_server("x", ()) == said + "it has none"
    assert unknown_server(DEFAULT_SERVER, ()) is not None


def test_a_place_is_said_as_it_is_written() -> None:
    assert place_of("default", "ca") == "spec.config.servers.default.ca of the Sensor"


@pytest.mark.parametrize("reference", ["orders-redis/password", "a.b/tls.crt", "a/_B"])
def test_references_name_a_secret_and_its_key(reference: str) -> None:
    assert msgspec.convert(reference, Reference) == reference


@pytest.mark.parametrize("reference", ["", "a", "a/", "/a", "A/b", "-a/b", "a/b/c", "a/b\n", "a/../b"])
def test_what_is_no_reference_is_refused(reference: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(reference, Reference)
