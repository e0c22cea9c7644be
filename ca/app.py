"""The certificate authority over HTTP: mutual TLS, the client certificate says who asks.

| route                                    | for                                        |
| ---------------------------------------- | ------------------------------------------ |
| POST /v1/certificates                    | service:ra                                 |
| GET /v1/certificates?serial=&identity=…  | service:ra, service:operator, officers     |
| GET /v1/certificates/{issuer}/{serial}   | service:ra, service:operator, officers     |

Orders about certificates and the denylist: `ca.status_routes`.
Who asks decides who may ask; whether it is done is decided by the officers' signatures inside what is asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import Depends, FastAPI, Path, Query, Response
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.requests import Request

from audit import JournalFailedError
from ca.api import (
    CertificateAnswer,
    CertificateList,
    IntentAnswer,
    IssueRequest,
    StoryAnswer,
)
from ca.authority import CertificateAuthority
from ca.database_faults import unavailable
from ca.errors import (
    CaError,
    ClockError,
    CompareError,
    Finding,
    InProgressError,
    KeyRefusedError,
    LintError,
    NotApprovedError,
    RequestError,
    RevocationRefusedError,
    SigningRefusedError,
    StoreError,
    StoreUnavailableError,
    TokenUnavailableError,
    UnknownCertificateError,
)
from ca.status_routes import READERS, change_answer, revocation_answer, status_routes
from ca.store import CertificateRecord, Intent
from runtime import health, problems
from runtime.durable import Durable
from runtime.identity import require
from runtime.problems import Problem

STATUS: Final[dict[type[CaError], int]] = {
    NotApprovedError: 403,
    RevocationRefusedError: 403,
    UnknownCertificateError: 404,
    KeyRefusedError: 409,
    StoreError: 409,
    LintError: 422,
    RequestError: 422,
    CompareError: 500,
    SigningRefusedError: 502,
    TokenUnavailableError: 503,
    InProgressError: 503,
    StoreUnavailableError: 503,
    ClockError: 503,
}
"""HTTP status of each refusal; a class that is not listed is a fault of ours, 500."""

_RETRY_AFTER: Final = "5"  # seconds

IssuerName = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,64}$")]
Serial = Annotated[str, Path(pattern=r"^[0-9A-Fa-f]{1,40}$")]
SerialQuery = Annotated[str | None, Query(pattern=r"^[0-9A-Fa-f]{1,40}$")]
DigestQuery = Annotated[str | None, Query(pattern=r"^[0-9A-Fa-f]{64}$")]
IdentityQuery = Annotated[str | None, Query(max_length=128)]


def create_app(authority: CertificateAuthority, *, schedules: Durable | None = None) -> FastAPI:
    """The application of a started authority, whose `schedules` (`ca.schedules`) run as long as it does."""

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
    health.install(app, "ca", authority.is_ready, lambda: {"overdue": authority.deadlines.overdue})
    app.add_exception_handler(CaError, _refused)
    for fault in (PoolTimeoutError, JournalFailedError):
        app.add_exception_handler(fault, _unavailable)

    # Plain functions run in the thread pool: each waits for the database, the disk and the token.

    @app.post("/v1/certificates", status_code=201, dependencies=[Depends(require("service:ra"))])
    def issue(request: IssueRequest) -> CertificateList:
        """Certificates for an approved case, one for each of its requests. Asked again, the same ones."""
        issued = authority.issuance.issue(request.dossier)
        return CertificateList(
            certificates=tuple(_certificate(authority, record, purpose) for purpose, record in issued.items())
        )

    @app.get("/v1/certificates", dependencies=[Depends(require(*READERS))])
    def search(
        serial: SerialQuery = None,
        identity: IdentityQuery = None,
        sha256: DigestQuery = None,
        spki_sha256: DigestQuery = None,
    ) -> CertificateList:
        """Certificates with all the given properties, newest first, at most 100."""
        found = authority.store.search(
            serial=serial and _serial(serial),
            identity=identity,
            sha256=sha256 and sha256.lower(),
            spki_sha256=spki_sha256 and spki_sha256.lower(),
        )
        return CertificateList(certificates=tuple(_certificate(authority, record) for record in found))

    @app.get("/v1/certificates/{issuer}/{serial}", dependencies=[Depends(require(*READERS))])
    def look_up(issuer: IssuerName, serial: Serial) -> StoryAnswer:
        """Everything about one certificate: the case, the decisions, the lints, its status, the log."""
        story = authority.story(issuer, _serial(serial))
        revocation, intent, dossier = story.revocation, story.intent, story.dossier
        return StoryAnswer(
            certificate=_certificate(authority, story.certificate, None if intent is None else intent.purpose),
            status="good" if revocation is None or revocation.state == "released" else revocation.state,
            revocation=None if revocation is None else revocation_answer(revocation, story.crl),
            history=tuple(map(change_answer, story.history)),
            intent=None if intent is None else _intent(intent),
            dossier=None if dossier is None else json.loads(dossier.dossier),
            cps_digest=None if dossier is None else dossier.cps_digest,
            log=story.log,
        )

    app.include_router(status_routes(authority))
    return app


def _serial(text: str) -> str:
    return text.lower().lstrip("0") or "0"


def _certificate(
    authority: CertificateAuthority, record: CertificateRecord, purpose: str | None = None
) -> CertificateAnswer:
    chain = authority.hierarchy.chain(record.issuer)
    return CertificateAnswer(
        issuer=record.issuer,
        serial=record.serial,
        profile=record.profile,
        subject=record.subject,
        identity=record.identity,
        sha256=record.sha256,
        not_before=record.not_before,
        not_after=record.not_after,
        certificate=record.der,
        chain=tuple(above.public_bytes(Encoding.DER) for above in chain),
        purpose=purpose,
    )


def _intent(intent: Intent) -> IntentAnswer:
    return IntentAnswer(
        id=intent.id,
        state=intent.state,
        tbs_sha256=intent.tbs_sha256,
        lints=intent.lints,
        approvals=intent.approvals,
        intended_at=intent.intended_at,
        ended_at=intent.ended_at,
    )


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, CaError)
    status = STATUS.get(type(error), 500)
    findings: tuple[Finding, ...] = getattr(error, "findings", ())
    headers = {"Retry-After": _RETRY_AFTER} if status == 503 else None
    problem = Problem(status, error.reason, str(error), clause=error.clause, headers=headers)
    if findings:
        problem.extra["findings"] = [_finding(each) for each in findings]
    return problem.response()


async def _unavailable(request: Request, error: Exception) -> Response:
    """No connection to the database is free, or the disk of the audit journal is full: nobody's mistake."""
    return await _refused(request, unavailable(error))


def _finding(finding: Finding) -> dict[str, str]:
    return {"code": finding.code, "clause": finding.clause, "message": finding.message}
