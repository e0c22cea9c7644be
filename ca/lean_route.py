"""Routes that are called for every certificate: FastAPI describes and guards them, pydantic alone reads and writes.

FastAPI takes a body apart with `json`, has pydantic judge the parts, judges the answer again, and turns it into parts
before it is written. Here a body is read once and an answer written once. Who may call is asked of the same guards, and
whatever cannot be read in this way is left to FastAPI, so that every refusal is its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from inspect import iscoroutinefunction
from typing import Any, Final

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

_JSON: Final = "application/json"
_UNGUARDED: Final = "a lean route is guarded by `require`, and by nothing else"


class LeanRoute(APIRoute):
    """A route with guards (`runtime.identity.require`), one pydantic model as its body, and one as its answer."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Who answers a request that came to this route."""
        by_fastapi = super().get_route_handler()
        guards = [_guard(dependency.call) for dependency in self.dependant.dependencies]
        if not guards:
            raise TypeError(_UNGUARDED)
        [asked] = self.dependant.body_params
        model, endpoint, status = asked.field_info.annotation, self.endpoint, self.status_code or 200
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError("a lean route has one model as its body")
        waits = iscoroutinefunction(endpoint)

        def answer(body: bytes) -> bytes | None:
            wanted = _read(model, body)
            return None if wanted is None else _written(endpoint(wanted))

        async def handle(request: Request) -> Response:
            body = await request.body()
            if request.headers.get("content-type") != _JSON:
                return await by_fastapi(request)
            for guard in guards:
                await guard(request)
            if waits:
                wanted = _read(model, body)
                content = None if wanted is None else _written(await endpoint(wanted))
            else:
                content = await run_in_threadpool(answer, body)
            if content is None:
                return await by_fastapi(request)
            return Response(content, status, media_type=_JSON)

        return handle


def _guard(call: Callable[..., Any] | None) -> Callable[[Request], Awaitable[object]]:
    if call is None or not hasattr(call, "patterns"):
        raise TypeError(_UNGUARDED)
    return call


def _read(model: type[BaseModel], body: bytes) -> BaseModel | None:
    try:
        return model.model_validate_json(body)
    except ValidationError:
        return None


def _written(answer: BaseModel) -> bytes:
    return answer.model_dump_json().encode()
