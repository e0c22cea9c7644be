"""A lean route answers and refuses, byte for byte, as FastAPI does of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel, ConfigDict, Field

from ca.lean_route import LeanRoute
from runtime import problems
from runtime.identity import ANONYMOUS, SCOPE_KEY, Caller, require
from runtime.problems import Problem

JSON: Final = {"content-type": "application/json"}
RA: Final = Caller("service", "ra")


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: int = Field(ge=0)
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    names: tuple[str, ...] = ()


class Told(BaseModel):
    asked: Asked
    said: str | None = None


def app_with(route_class: type[Any]) -> FastAPI:
    app, routes = FastAPI(), APIRouter(route_class=route_class)
    problems.install(app)

    @routes.post("/threaded", status_code=201, dependencies=[Depends(require("service:ra"))])
    def threaded(asked: Asked) -> Told:
        if asked.number == 13:
            raise Problem(409, "unlucky", "thirteen")
        return Told(asked=asked, said="سلام")

    @routes.post("/waiting", dependencies=[Depends(require("service:ra"))])
    async def waiting(asked: Asked) -> Told:
        return Told(asked=asked)

    app.include_router(routes)
    return app


def post(app: FastAPI, path: str, body: bytes, headers: dict[str, str], caller: Caller) -> httpx.Response:
    async def named(scope: Any, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        await app({**scope, SCOPE_KEY: caller}, receive, send)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(named)
        async with httpx.AsyncClient(transport=transport, base_url="http://ca") as client:
            return await client.post(path, content=body, headers=headers)

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def lean() -> FastAPI:
    return app_with(LeanRoute)


@pytest.fixture(scope="module")
def plain() -> FastAPI:
    return app_with(APIRouter().route_class)


@pytest.mark.parametrize("path", ["/threaded", "/waiting"])
@pytest.mark.parametrize(
    ("status", "body", "headers", "caller"),
    [
        (200, b'{"number": 7, "at": "2026-03-01T10:00:00+03:30", "names": ["a", "\\u0633"]}', JSON, RA),
        (200, b'{"number": 7}', {"content-type": "application/json; charset=utf-8"}, RA),
        (422, b'{"number": 7}', {"content-type": "text/plain"}, RA),
        (422, b'{"number": 7}', {}, RA),
        (422, b"", JSON, RA),
        (422, b'{"number": 7', JSON, RA),
        (422, b'{"number": -1, "names": "all", "more": 1}', JSON, RA),
        (403, b'{"number": 7}', JSON, Caller("merchant", "M-1")),
        (403, b'{"number": -1}', JSON, Caller("merchant", "M-1")),
        (401, b'{"number": 7}', JSON, ANONYMOUS),
    ],
)
def test_whatever_is_asked_is_answered_as_fastapi_answers_it(
    lean: FastAPI, plain: FastAPI, path: str, status: int, body: bytes, headers: dict[str, str], caller: Caller
) -> None:
    found, expected = (post(app, path, body, headers, caller) for app in (lean, plain))

    assert found.status_code == expected.status_code == (201 if status == 200 and path == "/threaded" else status)
    assert found.content == expected.content
    assert found.headers == expected.headers


def test_what_the_work_itself_refuses_is_its_problem(lean: FastAPI) -> None:
    assert post(lean, "/threaded", b'{"number": 13}', JSON, RA).json()["detail"] == "thirteen"


def test_it_is_described_as_every_other_route(lean: FastAPI, plain: FastAPI) -> None:
    assert lean.openapi() == plain.openapi()


def test_a_route_that_is_guarded_otherwise_is_not_made() -> None:
    routes = APIRouter(route_class=LeanRoute)

    def anybody(asked: Asked) -> Told:
        return Told(asked=asked)

    with pytest.raises(TypeError, match="guarded by `require`"):
        routes.post("/open", dependencies=[Depends(lambda: None)])(anybody)
    with pytest.raises(TypeError, match="guarded by `require`"):
        routes.post("/open")(anybody)


def test_a_route_without_a_model_as_its_body_is_not_made() -> None:
    routes = APIRouter(route_class=LeanRoute)

    def many(asked: list[Asked]) -> Told:
        return Told(asked=asked[0])

    with pytest.raises(TypeError, match="one model"):
        routes.post("/many", dependencies=[Depends(require("service:ra"))])(many)
