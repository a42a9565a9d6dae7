"""A renewed certificate is served without a restart."""

import asyncio
import ssl
from pathlib import Path

import pytest
from support.certificates import Authority
from support.eventually import until

from attune_api.tls import renew_certificate
from attune_kit.tls import client_context


async def serial_number(port: int, client: ssl.SSLContext) -> int:
    """Of the certificate that the server shows now."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="attune-api")
    try:
        tunnel = writer.get_extra_info("ssl_object")
        return int(tunnel.getpeercert()["serialNumber"], 16)
    finally:
        writer.close()
        await reader.read()


def put(certificate: Path, key: Path, pems: tuple[str, str]) -> None:
    for path, pem in zip((certificate, key), pems, strict=True):
        new = path.with_suffix(".new")
        new.write_text(pem)
        new.replace(path)


async def test_a_renewed_certificate_is_shown_to_new_connections(tmp_path: Path) -> None:
    authority = Authority()
    (tmp_path / "ca.crt").write_text(authority.pem)
    client = client_context(tmp_path / "ca.crt")
    assert client is not None
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    put(certificate, key, authority.issue("attune-api"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    task = asyncio.create_task(renew_certificate(context, certificate=certificate, key=key, every=0.02))
    try:
        first = await serial_number(port, client)
        # A certificate that does not fit its key is not taken; the old one stays.
        put(certificate, key, (authority.issue("attune-api")[0], authority.issue("attune-api")[1]))
        assert await serial_number(port, client) == first
        put(certificate, key, authority.issue("attune-api"))

        async def changed() -> bool:
            return await serial_number(port, client) != first

        await until(changed)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.close()
        await server.wait_closed()


def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert client_context(None) is None
    with pytest.raises(ValueError, match=r"no-such\.crt"):
        client_context(tmp_path / "no-such.crt")
