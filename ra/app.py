"""The registration authority over HTTP: TLS for everybody, a client certificate for whoever has one.

| route                                            | for                                        |
| ------------------------------------------------ | ------------------------------------------ |
| POST /v1/applications                            | anybody                                    |
| GET /v1/applications, /v1/statistics             | officers, service:operator                 |
| GET /v1/applications/{id}                        | who opened it, officers, service:operator  |
| POST /v1/applications/{id}/submit, /amend        | who opened it, service:operator            |
| POST /v1/applications/{id}/withdraw, /accept     | who opened it, service:operator            |
| POST /v1/applications/{id}/hold, /release        | vetting, approving, security officers      |
| POST /v1/applications/{id}/return                | vetting and approving officers             |
| POST /v1/applications/{id}/evidence              | documents: vetting officers; forms that    |
|                                                  | prove themselves: also who opened it       |
| POST /v1/applications/{id}/evidence/{kind}       | the same, the document itself as the body  |
| GET /v1/applications/{id}/evidence/{sha256}      | officers, service:operator                 |
| GET /v1/applications/{id}/dossier                | officers, service:operator                 |
| POST /v1/applications/{id}/decisions             | officers, service:operator                 |
| POST /v1/applications/{id}/issue                 | officers, service:operator                 |
| POST /v1/revocations                             | officers, service:operator                 |
| GET /v1/certificates/{serial}/story              | officers, service:operator                 |
| GET /v1/applications/{id}/story                  | officers, service:operator                 |
| GET /v1/application-ids/{prefix}                 | officers, service:operator                 |
| GET /v1/officers, /v1/officers/{person}          | officers, service:operator                 |
| GET /v1/left-behind                              | officers, service:operator                 |
| POST /v1/left-behind/{replica}                   | service:operator                           |
| GET /v1/cps                                      | anybody                                    |
| POST /v1/registration                            | anybody (`ra.registration_routes`)         |
| /.well-known/est, POST /v1/applications/{id}/est | `ra.est_routes`                            |

An officer is known by the client certificate, or, over the operator's connection, by a signature over the request
(`ra.acting`, RFC 9421). The guards stand in `ra.access` and `ra.workflow`, not here: a route reads its input, calls the
workflow and shows what came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Path, Response
from starlette.requests import Request

from ca.errors import StatusError
from ra import (
    est_routes,
    evidence_routes,
    left_routes,
    officer_views,
    openapi,
    openers,
    queue_routes,
    registration_routes,
    review_routes,
    story_routes,
    views,
)
from ra.access import Act, Actor, require
from ra.acting import Acting, signed
from ra.checks import routes as check_routes
from ra.checks.driver import Checks
from ra.errors import (
    ConflictError,
    EvidenceChangedError,
    IdentityNeededError,
    InvalidSubmissionError,
    NotAllowedError,
    RaError,
    RefusedError,
    RequestSignatureError,
    TooLargeError,
    UnknownError,
    WrongStateError,
)
from ra.notices import routes as notice_routes
from ra.notices.contacts import Contact
from ra.notices.service import Notices
from ra.one_look import EachRequest
from ra.rate_limit import AddressLimits, limited, rate_limits
from ra.registration import RegistrationDesk
from ra.submission import Submission
from ra.wire import (
    Accept,
    AddEvidence,
    ApplicationView,
    DossierView,
    OfficerView,
    OpenApplication,
    OpenedView,
    PackView,
    PostDecision,
    Reason,
    Revoke,
    RevokedView,
    Submit,
    Withdraw,
)
from ra.workflow import NewEvidence, Workflow
from runtime import health, problems
from runtime.durable import Durable
from runtime.logging import get_logger
from runtime.problems import Problem, reader_of
from runtime.reader import ReadersLanguage, reader

STATUS: Final[dict[type[RaError], tuple[int, str]]] = {
    UnknownError: (404, "unknown"),
    NotAllowedError: (403, "not-allowed"),
    IdentityNeededError: (401, "client-certificate-required"),
    RequestSignatureError: (401, "request-signature"),
    InvalidSubmissionError: (422, "invalid-submission"),
    TooLargeError: (413, "too-large"),
    EvidenceChangedError: (409, "evidence-changed"),
    WrongStateError: (409, "wrong-state"),
    ConflictError: (409, "changed-meanwhile"),
    RefusedError: (403, "refused"),
}
"""HTTP status and problem type of each error."""

_log: Final = get_logger("ra.app")

ApplicationId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
PersonId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def create_app(
    workflow: Workflow,
    *,
    schedules: Durable | None = None,
    checks: Checks | None = None,
    notices: Notices | None = None,
    statement: Callable[[], Mapping[str, object]] | None = None,
    registration: RegistrationDesk | None = None,
    limits: AddressLimits | None = None,
) -> FastAPI:
    """The application of a registration authority, whose `schedules` (`ra.schedules`) run as long as it does.

    With `checks` it takes applicants' phones and shows what registers of others answered (`ra.checks.routes`),
    with `notices` it shows officers what was not delivered (`ra.notices.routes`).
    `registration` answers the protocol's own messages (`ra.registration_routes`); `limits` count anonymous callers on
    every route, the built-in ones if none are given.
    `statement` tells of the published versions of the CPS (`statements.published`), for the health page.

    What an earlier process left on the way to the CA is finished at the start, not at the first tick.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if schedules is None:
            yield
            return
        await asyncio.to_thread(schedules.__enter__)
        catching_up = asyncio.create_task(asyncio.to_thread(_catch_up, workflow))
        try:
            yield
        finally:
            await catching_up
            await asyncio.to_thread(schedules.__exit__, None, None, None)

    shared = [Depends(limited), Depends(signed)]
    app = FastAPI(title="KWBP registration authority", version="1", lifespan=lifespan, dependencies=shared)
    app.state.workflow = workflow
    app.state.limits = AddressLimits(rate_limits(), clock=lambda: workflow.now) if limits is None else limits
    problems.install(app)
    health.install(
        app,
        "ra",
        details=lambda: ({} if statement is None else {"statement": statement()}) | workflow.left_behind.details,
        degraded=lambda: workflow.left_behind.is_degraded,
        admit=lambda request: app.state.limits.admit(request),
    )
    app.add_middleware(ReadersLanguage)
    app.add_middleware(EachRequest)
    app.add_exception_handler(RaError, _refused)
    app.add_exception_handler(StatusError, _no_status)

    openapi.complete(app)
    evidence_routes.install(app, workflow)
    est_routes.install(app, workflow)
    story_routes.install(app, workflow)
    review_routes.install(app, workflow)
    left_routes.install(app, workflow)
    if checks is not None:
        check_routes.install(app, workflow, checks)
    if notices is not None:
        notice_routes.install(app, notices)
    if registration is not None:
        registration_routes.install(app, registration)

    # Plain functions run in the thread pool: each waits for the database, the disk, the CA and the token.

    def view(application: Any) -> ApplicationView:
        return views.show(workflow, application)

    @app.get("/v1/cps")
    def statement_in_force() -> PackView:
        """The Certification Practice Statement that new applications are made under."""
        header = workflow.pack.cps
        return PackView(
            id=header.id,
            version=header.version,
            digest=workflow.pack.digest,
            effective=header.effective,
            uri=header.uri,
        )

    @app.post("/v1/applications", status_code=201)
    def open_application(body: OpenApplication, actor: Acting) -> OpenedView:
        """Open a draft; a cardholder's carries the nonce for the commitment.

        Without a client certificate: with a secret that is shown this once, and is the bearer token of later calls.
        """
        contact = None if body.contact is None else Contact(body.contact, body.language or reader())
        secret = openers.written(workflow.desk.rng(openers.SIZE)) if actor.name == openers.NOBODY else None
        opener = actor if secret is None else Actor(openers.name_of(secret))
        opened = workflow.open(opener, body.member_class, contact=contact, replaces=body.replaces)
        return OpenedView(**dict(view(opened)), secret=secret)

    queue_routes.install(app, workflow)

    @app.get("/v1/applications/{application_id}")
    def show_application(application_id: ApplicationId, actor: Acting) -> ApplicationView:
        """An application with everything on its file, its certificates included."""
        return view(workflow.get(actor, application_id))

    @app.post("/v1/applications/{application_id}/submit")
    def submit(application_id: ApplicationId, body: Submit, actor: Acting) -> ApplicationView:
        """Submit a draft."""
        return view(workflow.submit(actor, application_id, _submission(body), version=body.version))

    @app.post("/v1/applications/{application_id}/amend")
    def amend(application_id: ApplicationId, body: Submit, actor: Acting) -> ApplicationView:
        """Write a new revision; decisions over the old one fall away."""
        return view(workflow.amend(actor, application_id, _submission(body), version=body.version))

    @app.post("/v1/applications/{application_id}/withdraw")
    def withdraw(application_id: ApplicationId, body: Withdraw, actor: Acting) -> ApplicationView:
        """End an open application."""
        return view(workflow.withdraw(actor, application_id, body.reason, version=body.version))

    @app.post("/v1/applications/{application_id}/evidence", status_code=201)
    def add_evidence(application_id: ApplicationId, body: AddEvidence, actor: Acting) -> ApplicationView:
        """Put evidence on file."""
        new = NewEvidence(kind=body.kind, body=body.body, source=body.source, expires_at=body.expires_at)
        return view(workflow.add_evidence(actor, application_id, new, version=body.version))

    @app.get("/v1/applications/{application_id}/evidence/{sha256}", response_class=Response)
    def read_evidence(application_id: ApplicationId, sha256: Digest, actor: Acting) -> Response:
        """A document on file, byte for byte."""
        require(actor, Act.REVIEW)
        body = workflow.store.evidence_body(application_id, bytes.fromhex(sha256))
        return Response(body, media_type="application/octet-stream")

    @app.get("/v1/applications/{application_id}/dossier")
    def dossier(application_id: ApplicationId, actor: Acting) -> DossierView:
        """The case as an officer judges and signs it."""
        require(actor, Act.REVIEW)
        return views.dossier(workflow, workflow.get(actor, application_id))

    @app.post("/v1/applications/{application_id}/decisions", status_code=201)
    def post_decision(application_id: ApplicationId, body: PostDecision, actor: Acting) -> ApplicationView:
        """Hand in an officer's signed decision; the last one that is needed brings the certificates."""
        return view(workflow.decide(actor, application_id, body.decision))

    @app.post("/v1/applications/{application_id}/hold")
    def hold(application_id: ApplicationId, body: Reason, actor: Acting) -> ApplicationView:
        """Stop a case for the time being; the clock of deciding stands still."""
        return view(workflow.hold(actor, application_id, body.reason, version=body.version))

    @app.post("/v1/applications/{application_id}/release")
    def release(application_id: ApplicationId, body: Reason, actor: Acting) -> ApplicationView:
        """Let a held case go on, judged anew."""
        return view(workflow.release(actor, application_id, body.reason, version=body.version))

    @app.post("/v1/applications/{application_id}/return")
    def send_back(application_id: ApplicationId, body: Reason, actor: Acting) -> ApplicationView:
        """Return a case to its applicant, who amends or withdraws it."""
        return view(workflow.send_back(actor, application_id, body.reason, version=body.version))

    @app.post("/v1/applications/{application_id}/accept")
    def accept(application_id: ApplicationId, body: Accept, actor: Acting) -> ApplicationView:
        """Accept the certificates; what nobody accepts in time is revoked."""
        return view(workflow.accept(actor, application_id, body.acceptance))

    @app.post("/v1/applications/{application_id}/issue")
    def issue(application_id: ApplicationId, actor: Acting) -> ApplicationView:
        """Ask the CA again for an approved case."""
        return view(workflow.issue(actor, application_id))

    @app.post("/v1/revocations", status_code=201)
    def revoke(body: Revoke, actor: Acting) -> RevokedView:
        """Hand in a signed order to revoke a certificate, to suspend it (certificateHold) or to release it."""
        revoked = workflow.revoke(actor, body.statement)
        assert revoked.verdict.publish_by is not None  # an approved order has a deadline
        return RevokedView(
            issuer=revoked.record.issuer,
            serial=revoked.record.serial,
            state=revoked.state,
            reason=revoked.record.reason,
            ordered_by=revoked.record.ordered_by,
            publish_by=revoked.verdict.publish_by,
            crl_number=revoked.crl_number,
        )

    @app.get("/v1/officers")
    def list_officers(actor: Acting) -> list[OfficerView]:
        """Everybody who is or was an officer, with what they may do now."""
        require(actor, Act.REVIEW)
        return officer_views.officers(workflow)

    @app.get("/v1/officers/{person}")
    def show_officer(person: PersonId, actor: Acting) -> OfficerView:
        """One officer. Who leaves is revoked, certificate by certificate: a signed order to /v1/revocations."""
        require(actor, Act.REVIEW)
        return officer_views.officer(workflow, person)

    return app


def _submission(body: Submit) -> Submission:
    return Submission(subject=body.subject, csrs=body.csrs, national_code=body.national_code)


def _catch_up(workflow: Workflow) -> None:
    try:
        workflow.sweep()
        workflow.resume()
    except Exception as error:  # such as a database that is away: the schedules try again
        _log.error("not-caught-up", error=type(error).__name__)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RaError)
    status, slug = STATUS[type(error)]
    problem = Problem(status, slug, error.told, clause=error.clause)
    if isinstance(error, RefusedError):
        problem.extra["findings"] = [
            {"code": str(each.code), "clause": each.clause, "message": each.told} for each in error.findings
        ]
    return problem.response(reader_of(request.scope))


async def _no_status(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StatusError)
    return Problem(503, "status-unavailable", str(error), clause=error.clause, headers={"Retry-After": "5"}).response()
