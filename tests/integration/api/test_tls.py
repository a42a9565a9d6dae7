"""HTTPS beside plain HTTP and alone; a renewed certificate is served without a restart."""

import asyncio
import json
import signal
import ssl
from pathlib import Path

import httpx
import pytest
from support.api_process import ApiProcess, report
from support.certificates import Authority
from support.eventually import until

from attune_api.tls import renew_certificate
from attune_kit.tls import client_context
from attune_local.ports import free_port


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


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    found = Authority()
    put(tmp_path / "tls.crt", tmp_path / "tls.key", found.issue("attune-api"))
    return found


def serving(tmp_path: Path, **settings: str) -> ApiProcess:
    certificate = {"tls_certificate_file": str(tmp_path / "tls.crt"), "tls_key_file": str(tmp_path / "tls.key")}
    return ApiProcess(tmp_path / "api", check_rules="false", **certificate, **settings)


def client(api: ApiProcess, url: str, authority: Authority | None) -> httpx.AsyncClient:
    """A sensor's, for whom the API is attune-api; without an authority it has no TLS."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {api.minter.token()}"},
        trust_env=False,
        verify=False if authority is None else ssl.create_default_context(cadata=authority.pem),
        timeout=60,
    )


AS_NAMED = {"sni_hostname": "attune-api"}


async def test_a_client_from_before_and_a_new_one_at_once(tmp_path: Path, authority: Authority) -> None:
    secure = free_port()
    with serving(tmp_path, tls_port=str(secure)) as api:
        [listening] = await until(lambda: api.events_logged("listening"))
        assert [port for _, port in listening["addresses"]] == [api.port, secure]
        async with (
            client(api, api.url, None) as old,
            client(api, f"https://127.0.0.1:{secure}", authority) as new,
        ):

            async def send(k: int) -> None:
                answer = await (new if k % 2 else old).post("/api/v1/events", json=report(k), extensions=AS_NAMED)
                assert answer.status_code == 201, answer.text

            await asyncio.gather(*(send(k) for k in range(40)))
            # What came the one way is known the other way.
            for k in (0, 1):
                assert (await old.post("/api/v1/events", json=report(k))).status_code == 200
                assert (await new.post("/api/v1/events", json=report(k), extensions=AS_NAMED)).status_code == 200
            # Neither port takes what is meant for the other one.
            for url, trusted in ((f"http://127.0.0.1:{secure}", None), (f"https://127.0.0.1:{api.port}", authority)):
                async with client(api, url, trusted) as wrong:
                    with pytest.raises(httpx.TransportError):
                        await wrong.get("/health", extensions=AS_NAMED)
        assert api.stop() == 0


async def test_without_plain_http_its_port_speaks_tls_alone(tmp_path: Path, authority: Authority) -> None:
    api = serving(tmp_path)
    api.url = f"https://127.0.0.1:{api.port}"
    with api:
        async with client(api, api.url, authority) as new:
            assert (await new.post("/api/v1/events", json=report(), extensions=AS_NAMED)).status_code == 201
        async with client(api, f"http://127.0.0.1:{api.port}", None) as old:
            with pytest.raises(httpx.TransportError):
                await old.get("/health")


async def begin(
    port: int, head: bytes, trusted: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request whose body the server asks for, and is still owed."""
    name = None if trusted is None else "attune-api"
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted, server_hostname=name)
    writer.write(head)
    assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
    return reader, writer


async def test_requests_of_both_ports_are_finished_before_the_end(tmp_path: Path, authority: Authority) -> None:
    secure = free_port()
    with serving(tmp_path, tls_port=str(secure)) as api:
        body = json.dumps(report()).encode()
        head = (
            "POST /api/v1/events HTTP/1.1\r\nHost: attune-api\r\nExpect: 100-continue\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {api.minter.token()}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        under_way = [
            await begin(api.port, head, None),
            await begin(secure, head, ssl.create_default_context(cadata=authority.pem)),
        ]
        api.process.send_signal(signal.SIGTERM)
        await until(lambda: bool(api.events_logged("stopping")))
        statuses = []
        for reader, writer in under_way:
            writer.write(body)
            statuses.append((await reader.read()).split(b"\r\n")[1].split()[1])
            writer.close()
        assert statuses == [b"201", b"200"]
        assert await asyncio.to_thread(api.process.wait, 60) == 0


async def test_a_second_port_needs_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 2"):
        ApiProcess(tmp_path / "api", tls_port="8443").start()
    assert "ATTUNE_API_TLS_PORT needs" in (tmp_path / "api" / "api.log").read_text()
