"""``/docs``: the OpenAPI document for people. All that the page needs comes from here: a cluster may have no way out."""

from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse

from attune_api.web.problems import ProblemError

_ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
_DIRECTORY: Final = Path(str(files("fastapi_offline"))) / "static"


def install(app: FastAPI) -> None:
    """Give ``app`` its ``/docs``."""

    async def page(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        return get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=f"{app.title} API",
            oauth2_redirect_url=None,
            swagger_js_url=f"{root}/docs/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/swagger-ui.css",
            swagger_favicon_url=f"{root}/docs/favicon.png",
        )

    async def asset(request: Request) -> FileResponse:
        name = request.path_params["name"]
        if name not in _ASSETS:
            raise ProblemError(404, f"/docs has no {name!r}.")
        return FileResponse(
            _DIRECTORY / name, media_type=_ASSETS[name], headers={"Cache-Control": "public, max-age=86400"}
        )

    app.add_route("/docs", page, include_in_schema=False)
    app.add_route("/docs/{name}", asset, include_in_schema=False)
