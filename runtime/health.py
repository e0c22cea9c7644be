"""What every service answers about itself: liveness, readiness, metrics."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response


def install(app: Starlette, service: str, ready: Callable[[], bool] = lambda: True) -> None:
    """Add `/health/live`, `/health/ready` and `/metrics`; `ready()` must be cheap and must not raise."""

    async def live(_request: Request) -> Response:
        return JSONResponse({"service": service, "status": "live"})

    async def readiness(_request: Request) -> Response:
        good = ready()
        return JSONResponse({"service": service, "status": "ready" if good else "not ready"}, 200 if good else 503)

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    app.add_route("/health/live", live, include_in_schema=False)
    app.add_route("/health/ready", readiness, include_in_schema=False)
    app.add_route("/metrics", metrics, include_in_schema=False)
