"""Sockets of clients that call where users say."""

import socket

import pytest

from attune_kit.addresses import AddressRules
from attune_kit.guarded_socket import guarded


def info(address: str) -> tuple[object, ...]:
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 80))


def test_an_address_that_may_not_be_reached_gets_no_socket_and_is_noted() -> None:
    noted: list[str] = []
    make = guarded(AddressRules(), on_refused=noted.append)
    with pytest.raises(PermissionError, match=r"169\.254\.169\.254 is a link-local address"):
        make(info("169.254.169.254"))
    assert noted == ["169.254.169.254 is a link-local address, and not an allowed address"]


def test_another_gets_one() -> None:
    noted: list[str] = []
    with guarded(AddressRules(allowed=["127.0.0.1/32"]), on_refused=noted.append)(info("127.0.0.1")) as made:
        assert made.family == socket.AF_INET
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert noted == []
