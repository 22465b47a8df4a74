"""Routes for the page and its files."""

from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from api.problems import RequestRefused

STATIC = Path(__file__).parent / "static"


class StaticRoutes:
    """The routes `/` and `/page/...`."""

    def __init__(self) -> None:
        self._static = StaticFiles(directory=STATIC)

    def add_routes(self, app: FastAPI) -> None:
        app.get("/")(self.page)
        app.get("/page/{path:path}")(self.file)

    async def page(self, request: Request) -> Response:
        return await self.file("index.html", request)

    async def file(self, path: str, request: Request) -> Response:
        if "\0" in path:
            raise RequestRefused(HTTPStatus.NOT_FOUND, "not_found", "there is no such file")
        response = await self._static.get_response(path, request.scope)
        response.headers["Cache-Control"] = "no-cache"
        return response
