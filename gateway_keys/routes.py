"""Routes of the gateway's operations, all for the gateway service alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hsm_service.openapi_route import ApiRoute
from hsm_service.steps import Steps
from hsm_service.templates import Operation
from hsm_service.wire import read
from runtime.identity import caller_of, check
from runtime.problems import Problem

CALLER: Final = "service:gateway"

In = TypeVar("In", bound=msgspec.Struct)
Out = TypeVar("Out", bound=msgspec.Struct)


def route_in_thread(
    path: str,
    name: str,
    summary: str,
    body: type[In],
    answer: type[msgspec.Struct],
    work: Callable[[str, In], msgspec.Struct],
    keys: Mapping[str, Operation],
) -> ApiRoute:
    """For what is done seldom."""
    decoder = msgspec.json.Decoder(body)

    async def endpoint(request: Request) -> Response:
        caller = str(check(caller_of(request.scope), CALLER))
        parsed = read(decoder, await request.body())
        done = await request.app.state.workers.run(work, caller, parsed)
        return Response(msgspec.json.encode(done), media_type="application/json")

    return ApiRoute("POST", path, endpoint, name, summary, (), answer, body, callers=(CALLER,), keys=keys)


def route_in_steps(
    path: str,
    name: str,
    summary: str,
    body: type[In],
    answer: type[Out],
    work: Callable[[str, In], Steps[Out]],
    keys: Mapping[str, Operation],
) -> ApiRoute:
    """For what is done for every payment."""
    decoder = msgspec.json.Decoder(body)

    def steps(caller: str, content: bytes) -> Steps[msgspec.Struct]:
        return work(caller, read(decoder, content))

    async def endpoint(_request: Request) -> Response:
        # Answered by `hsm_service.hot_path`: what comes as far as this has a path that is almost this one.
        raise Problem(404, "not-found", "there is no such route")

    return ApiRoute("POST", path, endpoint, name, summary, (), answer, body, callers=(CALLER,), keys=keys, steps=steps)
