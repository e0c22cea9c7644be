"""What every service answers about itself: liveness, readiness, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.shut_down import is_stopping


def install(
    app: Starlette,
    service: str,
    ready: Callable[[], bool] = lambda: True,
    details: Callable[[], Mapping[str, object]] = dict,
) -> None:
    """Add `/health/live`, `/health/ready` and `/metrics`.

    `ready()` and `details()`, members that the answer of `/health/ready` has beside its own, must be cheap and must not
    raise. A server that was told to end is not ready (`runtime.shut_down`).
    """

    async def live(_request: Request) -> Response:
        return JSONResponse({"service": service, "status": "live"})

    async def readiness(request: Request) -> Response:
        if is_stopping(request.scope):
            return JSONResponse({"service": service, "status": "stopping"}, 503)
        good = ready()
        status = "ready" if good else "not ready"
        return JSONResponse({"service": service, "status": status, **details()}, 200 if good else 503)

    async def metrics(_request: Request) -> Response:
        # In a thread: a service with many keys has many lines, and the event loop has other work meanwhile.
        text = await asyncio.to_thread(generate_latest, REGISTRY)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    app.add_route("/health/live", live, include_in_schema=False)
    app.add_route("/health/ready", readiness, include_in_schema=False)
    app.add_route("/metrics", metrics, include_in_schema=False)
