"""The certificate authority over HTTP: mutual TLS, the client certificate says who asks.

| route                                    | for                                        | stands in           |
| ---------------------------------------- | ------------------------------------------ | ------------------- |
| POST /v1/certificates                    | service:ra                                 | certificate_routes  |
| POST /v1/certificates:batch              | service:ra                                 | certificate_routes  |
| GET /v1/certificates?serial=&identity=…  | service:ra, service:operator, officers     | certificate_routes  |
| GET /v1/certificates/{issuer}/{serial}   | service:ra, service:operator, officers     | certificate_routes  |
| GET /v1/certificates:export?…            | service:operator, officers                 | certificate_routes  |
| POST /v1/revocations                     | service:ra, service:operator, officers     | status_routes       |
| GET /v1/revocations?state=due|overdue    | service:ra, service:operator, officers     | status_routes       |
| POST /v1/denylist                        | service:ra, service:operator, officers     | status_routes       |
| GET /v1/denylist?after=                  | service:ra, service:operator, officers     | status_routes       |
| GET /v1/crls                             | service:operator, officers                 | crl_routes          |
| GET /v1/crls/{issuer}/{scope}            | service:operator, officers                 | crl_routes          |
| POST /v1/crls/{issuer}                   | service:operator, officers                 | crl_routes          |
| POST /v1/self-audits                     | service:operator, officers                 | self_audit_routes   |
| GET /v1/self-audits                      | service:operator, officers                 | self_audit_routes   |
| GET /v1/self-audits/{sha256}             | service:operator, officers                 | self_audit_routes   |
| GET /v1/self-audits/{sha256}/signature   | service:operator, officers                 | self_audit_routes   |

Who asks decides who may ask; whether it is done is decided by the officers' signatures inside what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI, Response
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.requests import Request

from audit import JournalFailedError
from ca.authority import CertificateAuthority
from ca.certificate_routes import MANY, certificate_routes
from ca.crl_routes import crl_routes
from ca.database_faults import unavailable
from ca.errors import CaError
from ca.refusals import problem_of
from ca.self_audit_routes import self_audit_routes
from ca.status_routes import status_routes
from runtime import health, openapi, problems
from runtime.durable import Durable

LARGEST_BATCH: Final = 8 * 1024 * 1024
"""Bytes of a request with many cases."""


def create_app(
    authority: CertificateAuthority,
    *,
    schedules: Durable | None = None,
    statement: Callable[[], Mapping[str, object]] | None = None,
) -> FastAPI:
    """The application of a started authority, whose `schedules` (`ca.schedules`) run as long as it does.

    `statement` tells of the published versions of the CPS (`statements.published`), for its health page.
    """

    def details() -> dict[str, object]:
        return authority.details() | ({} if statement is None else {"statement": statement()})

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if schedules is None:
            yield
            return
        await asyncio.to_thread(schedules.__enter__)
        try:
            yield
        finally:
            await asyncio.to_thread(schedules.__exit__, None, None, None)

    app = FastAPI(title="KWBP certificate authority", version="1", lifespan=lifespan)
    problems.install(app)
    health.install(app, "ca", authority.is_ready, details)
    app.add_exception_handler(CaError, _refused)
    for fault in (PoolTimeoutError, JournalFailedError):
        app.add_exception_handler(fault, _unavailable)

    for routes in (certificate_routes, status_routes, crl_routes, self_audit_routes):
        app.include_router(routes(authority))
    openapi.complete(app)
    return app


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, CaError)
    return problem_of(error).response()


async def _unavailable(request: Request, error: Exception) -> Response:
    """No connection to the database is free, or the disk of the audit journal is full: nobody's mistake."""
    return await _refused(request, unavailable(error))


def largest_body(scope: Any) -> int | None:
    """Bytes that a request may have where it is more than others may (`runtime.server`)."""
    return LARGEST_BATCH if scope["path"] == MANY else None
