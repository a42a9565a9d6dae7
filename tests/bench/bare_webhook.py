"""The reference: a bare aiohttp server that reads a JSON body and answers 202 with an id. It keeps nothing."""

import sys
import uuid

from aiohttp import web


async def answer(request: web.Request) -> web.Response:
    """Read the body and answer."""
    await request.json()
    return web.json_response({"id": str(uuid.uuid4()), "status": "stored"}, status=202)


def main() -> None:
    """Serve on the port given as the argument."""
    app = web.Application()
    app.router.add_post("/hooks/{number}", answer)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
