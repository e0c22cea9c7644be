"""EST over HTTP (RFC 7030 3.2.2): paths, media types, who is calling.

| route                                              | who                                                     |
| -------------------------------------------------- | ------------------------------------------------------- |
| POST /v1/applications/{id}/est                     | who opened it, service:operator                         |
| GET /.well-known/est/cacerts, …/{label}/cacerts    | anybody                                                 |
| GET /.well-known/est/{label}/csrattrs              | anybody                                                 |
| POST /.well-known/est/{label}/simpleenroll         | HTTP Basic: application and one-time code               |
| POST /.well-known/est/{label}/simplereenroll       | TLS: the certificate that is replaced                   |
| POST /.well-known/est/{label}/fullcmc, serverkeygen| nobody: 501                                             |

`label` is the class of members: merchant, officer or cardholder. A call by a certificate that was issued here accepts
it (CPS 4.4.1). Refusals are problem details in the caller's language. What comes is base64 in its one spelling whatever
Content-Transfer-Encoding says, and no such header is sent (RFC 8951 3.1).
"""

from __future__ import annotations

import base64
import re
from typing import Annotated, Final, get_args

from cryptography import x509
from fastapi import FastAPI, Path, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from cps.model import MemberClass
from pki.csr import LIMIT
from ra.acting import Acting
from ra.errors import IdentityNeededError, InvalidSubmissionError, UnknownError
from ra.est import EstDesk, unauthorised
from ra.est_answer import Given, Waiting
from ra.est_encoding import from_base64, to_base64
from ra.est_requests import by_est
from ra.est_wire import CodeView, PrepareEst
from ra.workflow import Workflow
from runtime.language import Message
from runtime.problems import Problem
from runtime.reader import reader

PREFIX: Final = "/.well-known/est"
ApplicationId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
_APPLICATION: Final = re.compile(r"[0-9a-f]{32}")
_REQUEST: Final = "application/pkcs10"
_CERTIFICATES: Final = "application/pkcs7-mime"
_LARGEST: Final = 2 * LIMIT  # bytes of base64 with its white space
_CREDENTIALS: Final = 256  # characters of Authorization


def install(app: FastAPI, workflow: Workflow) -> None:
    """Add the routes to the application of a registration authority."""
    desk = EstDesk(workflow)

    @app.post("/v1/applications/{application_id}/est", status_code=201)
    def prepare_est(application_id: ApplicationId, body: PrepareEst, actor: Acting, response: Response) -> CodeView:
        """Prepare a case for the applicant's machine: keep its subject, give out the one-time code for EST."""
        made = desk.prepare(actor, application_id, body.subject, body.national_code)
        response.headers["Cache-Control"] = "no-store"
        path = f"{PREFIX}/{made.member_class}/simpleenroll"
        return CodeView(application=made.application_id, code=made.code, good_until=made.good_until, path=path)

    # RFC 7030 is the description of these; the OpenAPI document has none of them.

    @app.get(f"{PREFIX}/cacerts", include_in_schema=False)
    @app.get(f"{PREFIX}/{{label}}/cacerts", include_in_schema=False)
    def authorities(request: Request, label: str | None = None) -> Response:
        if label is not None:
            _class(label)
        _note_use(desk, request)
        return _certificates(desk.authorities())

    @app.get(f"{PREFIX}/{{label}}/csrattrs", include_in_schema=False)
    def attributes(request: Request, label: str) -> Response:
        member_class = _class(label)
        _note_use(desk, request)
        return Response(to_base64(desk.attributes(member_class)), media_type="application/csrattrs")

    @app.post(f"{PREFIX}/{{label}}/simpleenroll", include_in_schema=False)
    async def enrol(request: Request, label: str) -> Response:
        member_class = _class(label)
        application_id, code = _basic(request)
        body = await _request(request)
        return _answer(await run_in_threadpool(desk.enrol, member_class, application_id, code, body))

    @app.post(f"{PREFIX}/{{label}}/simplereenroll", include_in_schema=False)
    async def reenrol(request: Request, label: str) -> Response:
        member_class = _class(label)
        certificate = _client_certificate(request)
        if certificate is None:
            raise IdentityNeededError("without the certificate that is replaced, in TLS, there is no re-enrolment")
        body = await _request(request)
        return _answer(await run_in_threadpool(desk.reenrol, member_class, certificate, body))

    @app.post(f"{PREFIX}/{{label}}/fullcmc", include_in_schema=False)
    def full_cmc(label: str) -> Response:
        _class(label)
        raise Problem(
            501,
            "not-offered",
            Message("full CMC is not offered: use simpleenroll or simplereenroll"),
            clause="RFC 7030 4.3",
        )

    @app.post(f"{PREFIX}/{{label}}/serverkeygen", include_in_schema=False)
    def server_key_generation(label: str) -> Response:
        _class(label)
        raise Problem(
            501,
            "not-offered",
            Message("nobody makes members' keys but they themselves (CPS 6.1.1)"),
            clause="RFC 7030 4.4",
        )


def _class(label: str) -> MemberClass:
    found: MemberClass | None = next((each for each in get_args(MemberClass) if each == label), None)
    if found is None:
        raise UnknownError("no class of members has this label")
    by_est(found)
    return found


def _client_certificate(request: Request) -> x509.Certificate | None:
    """The certificate whose key the caller proved in TLS, also one that names no caller."""
    der = request.scope.get("extensions", {}).get("tls", {}).get("client_cert")
    return None if der is None else x509.load_der_x509_certificate(der)


def _note_use(desk: EstDesk, request: Request) -> None:
    certificate = _client_certificate(request)
    if certificate is not None:
        desk.note_use(certificate)


def _basic(request: Request) -> tuple[str, str]:
    """Application and code of HTTP Basic (RFC 7617); raises the one Problem for whoever has none."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic" or len(credentials) > _CREDENTIALS:
        raise unauthorised()
    try:
        user, separator, code = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")
    except ValueError:  # not base64, not ASCII, not UTF-8
        raise unauthorised() from None
    if not separator or _APPLICATION.fullmatch(user) is None:
        raise unauthorised()
    return user, code


async def _request(request: Request) -> bytes:
    """The PKCS#10 request (DER) in the body."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _REQUEST:
        raise Problem(415, "no-request", Message("expected {expected}", expected=_REQUEST), clause="RFC 7030 4.2.1")
    body = await request.body()
    if len(body) > _LARGEST:
        raise Problem(
            413, "message-too-big", Message("the body is over {limit} bytes", limit=_LARGEST), clause="RFC 7030 4.2.1"
        )
    try:
        return from_base64(body)
    except ValueError:
        raise InvalidSubmissionError("the body is not base64 of a request in DER", clause="RFC 8951 3.1") from None


def _certificates(message: bytes) -> Response:
    return Response(to_base64(message), media_type=_CERTIFICATES)


def _answer(found: Given | Waiting) -> Response:
    if isinstance(found, Given):
        answer = _certificates(found.message)
        answer.headers["Content-Type"] = f"{_CERTIFICATES}; smime-type=certs-only"
        return answer
    language = found.told.spoken(reader())
    headers = {"Retry-After": str(found.retry_after), "Content-Language": language}
    return Response(found.told.text(language), 202, headers, "text/plain")
