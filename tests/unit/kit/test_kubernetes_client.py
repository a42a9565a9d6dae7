"""Requests to an API server, against a small HTTP server."""

import contextlib
import ssl
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from attune_kit.kubernetes.access import Access
from attune_kit.kubernetes.client import KubernetesClient, KubernetesError


@contextlib.asynccontextmanager
async def serving(handler: object, **options: object) -> AsyncIterator[KubernetesClient]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)  # type: ignore[arg-type]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    access = Access(
        server=f"http://127.0.0.1:{runner.addresses[0][1]}",
        verify=ssl.create_default_context(),
        bearer=lambda: "token",
        headers={"Impersonate-User": "somebody"},
    )
    client = KubernetesClient(access, user_agent="test", **options)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()


async def test_a_request_says_who_asks_and_what() -> None:
    async def handler(request: web.Request) -> web.Response:
        headers = {name: request.headers[name] for name in ("Authorization", "Content-Type", "Impersonate-User")}
        return web.json_response({**headers, "body": await request.json(), "query": dict(request.query)})

    answers: list[tuple[str, int]] = []
    async with serving(handler, on_answer=lambda method, status: answers.append((method, status))) as client:
        found = await client.request(
            "PATCH", "/x", query={"force": "true"}, body={"a": 1}, content_type="application/apply-patch+yaml"
        )
    assert found == (
        b'{"Authorization": "Bearer token", "Content-Type": "application/apply-patch+yaml", '
        b'"Impersonate-User": "somebody", "body": {"a": 1}, "query": {"force": "true"}}'
    )
    assert answers == [("PATCH", 200)]


async def test_a_refusal_has_its_status_and_the_message_of_the_api_server() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "message": "no rights"}, status=403)

    async with serving(handler) as client:
        with pytest.raises(KubernetesError, match="GET /x: 403 no rights") as refused:
            await client.request("GET", "/x")
    assert refused.value.status == 403


async def test_without_an_answer_the_status_is_0() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(handler) as client:
        with pytest.raises(KubernetesError) as failed:
            await client.request("GET", "/x")
    assert failed.value.status == 0


async def test_a_redirect_is_not_followed() -> None:
    async def handler(_: web.Request) -> web.Response:
        raise web.HTTPFound("http://127.0.0.1:1/elsewhere")

    async with serving(handler) as client:
        with pytest.raises(KubernetesError) as refused:
            await client.request("GET", "/x")
    assert refused.value.status == 302


async def test_a_list_is_read_page_by_page() -> None:
    asked: list[dict[str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        metadata = {"resourceVersion": "7"} | ({} if "continue" in request.query else {"continue": "more"})
        return web.json_response({"metadata": metadata, "items": [len(asked)]})

    async with serving(handler) as client:
        query = {"labelSelector": "a=b", "resourceVersion": "7", "resourceVersionMatch": "Exact"}
        pages = [page async for page in client.pages("/x", query)]
    assert [[bytes(item) for item in page.items or ()] for page in pages] == [[b"1"], [b"2"]]
    assert asked[1] == {"labelSelector": "a=b", "limit": "500", "continue": "more"}


async def test_a_stream_comes_line_by_line_and_silence_ends_it() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b'{"a":1}\n{"b"')
        await answer.write(b":2}\n\n")
        if request.query["then"] == "silence":
            await answer.write(b"x")
            import asyncio

            await asyncio.sleep(1)
        return answer

    async with serving(handler) as client:
        async with client.stream("/x", {"then": "the end"}, silence=5) as lines:
            assert [line async for line in lines] == [b'{"a":1}', b'{"b":2}']
        with pytest.raises(KubernetesError, match="watch /x"):
            async with client.stream("/x", {"then": "silence"}, silence=0.1) as lines:
                _ = [line async for line in lines]
