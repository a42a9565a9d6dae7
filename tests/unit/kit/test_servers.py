"""Servers that rules name and a Sensor knows."""

import msgspec
import pytest

from attune_kit.servers import DEFAULT_SERVER, Address, Reference, place_of, read_address, unknown_name


def test_a_server_that_the_sensor_does_not_know_is_named_with_those_that_it_knows() -> None:
    assert unknown_name("default", {"default": 1}) is None
    said = "parameters.server: the Sensor has no server 'x' in spec.config.servers; "
    assert unknown_name("x", ["b", "a"]) == said + "it has a, b"
    assert unknown_name("x", ()) == said + "it has none"
    assert unknown_name(DEFAULT_SERVER, ()) is not None


def test_a_place_is_said_as_it_is_written() -> None:
    assert place_of("default", "ca") == "spec.config.servers.default.ca of the Sensor"


@pytest.mark.parametrize("reference", ["orders-redis/password", "a.b/tls.crt", "a/_B"])
def test_references_name_a_secret_and_its_key(reference: str) -> None:
    assert msgspec.convert(reference, Reference) == reference


@pytest.mark.parametrize("reference", ["", "a", "a/", "/a", "A/b", "-a/b", "a/b/c", "a/b\n", "a/../b"])
def test_what_is_no_reference_is_refused(reference: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(reference, Reference)


PORTS = {"amqp": 5672, "amqps": 5671}


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("amqp://broker", Address("amqp", "broker", 5672, "")),
        ("amqps://broker/", Address("amqps", "broker", 5671, "")),
        ("amqp://[::1]:5673/my%2Fhost", Address("amqp", "::1", 5673, "my/host")),
    ],
)
def test_addresses_are_read(url: str, address: Address) -> None:
    assert read_address(url, ports=PORTS, like="amqp://host", path=True) == address


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://broker", "url is not like amqp://host"),
        ("broker:5672", "url is not like amqp://host"),
        ("amqp://", "url is not like amqp://host"),
        ("amqp://broker/path", "url is not like amqp://host"),
        ("amqp://broker?heartbeat=0", "url is not like amqp://host"),
        ("amqp://broker#x", "url is not like amqp://host"),
        ("amqp://user@broker", "url holds credentials"),
        ("amqp://broker:70000", "the port in url is no number from 1 to 65535"),
    ],
)
def test_what_is_no_address_says_why(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_address(url, ports=PORTS, like="amqp://host")


def test_an_authority_needs_tls_and_a_password_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="ca is never used; write amqps://"):
        read_address("amqp://broker", ports=PORTS, like="amqp://host", ca=True)
    assert read_address("amqps://broker", ports=PORTS, like="amqp://host", ca=True).port == 5671
    with pytest.raises(ValueError, match="holds credentials") as raised:
        read_address("amqp://user:hunter2@broker", ports=PORTS, like="amqp://host")
    assert "hunter2" not in str(raised.value)
