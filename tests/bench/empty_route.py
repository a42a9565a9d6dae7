"""A FastAPI app with one route that reads the body and says nothing, served as the API is: ``python empty_route.py PORT``."""

import sys

import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response

app = FastAPI()


@app.post("/empty", status_code=201, response_class=Response)
async def empty(request: Request) -> Response:
    """Nothing."""
    await request.body()
    return Response(status_code=201)


if __name__ == "__main__":
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=2048,
        timeout_keep_alive=75,
    )
    uvloop.run(uvicorn.Server(config).serve())
