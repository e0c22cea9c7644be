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
    degraded: Callable[[], bool] = lambda: False,
    admit: Callable[[Request], None] = lambda _request: None,
) -> None:
    """Add `/health/live`, `/health/ready` and `/metrics`.

    `ready()`, `degraded()` and `details()`, members that the answer of `/health/ready` has beside its own, must be
    cheap and must not raise. What is ready and degraded serves as well as ever, and somebody should look: the answer
    says so, with 200. A server that was told to end is not ready (`runtime.shut_down`). `admit` raises for who asks too
    often.
    """

    async def live(request: Request) -> Response:
        admit(request)
        return JSONResponse({"service": service, "status": "live"})

    async def readiness(request: Request) -> Response:
        admit(request)
        if is_stopping(request.scope):
            return JSONResponse({"service": service, "status": "stopping"}, 503)
        good = ready()
        status = "not ready" if not good else "degraded" if degraded() else "ready"
        return JSONResponse({"service": service, "status": status, **details()}, 200 if good else 503)

    async def metrics(request: Request) -> Response:
        admit(request)
        # In a thread: a service with many keys has many lines, and the event loop has other work meanwhile.
        text = await asyncio.to_thread(generate_latest, REGISTRY)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    app.add_route("/health/live", live, include_in_schema=False)
    app.add_route("/health/ready", readiness, include_in_schema=False)
    app.add_route("/metrics", metrics, include_in_schema=False)
