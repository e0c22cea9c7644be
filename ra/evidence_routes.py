"""Evidence as it is, over HTTP: the body is the document, read in pieces up to the size that the CPS allows.

    POST /v1/applications/{id}/evidence/{kind}?source=…
    Content-Type: application/pdf
    Content-Digest: sha-256=:…:            (RFC 9530)

Whoever may not add evidence is told so before a byte of the body is read, and so is whoever announces more than the CPS
allows; one who announces nothing (chunked) is cut off at the limit. The body is compared with the digest that came with
it: what was hashed before it was sent is what is on file. Everything else is `Workflow.add_evidence`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Annotated, Any, Final

from fastapi import FastAPI, Path, Query
from pydantic import AwareDatetime, BeforeValidator
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from cps.model import Pack
from cps.rules import Rule
from ra import text_input, views
from ra.acting import Acting, acting_still, compares_content_digest
from ra.errors import InvalidSubmissionError
from ra.evidence_files import check_form, check_size
from ra.wire import ApplicationView
from ra.workflow import NewEvidence, Workflow

PATH: Final = "/v1/applications/{application_id}/evidence/{kind}"
_HERE: Final = re.compile(r"/v1/applications/[^/]+/evidence/[^/]+")
_MEMBER: Final = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):\s*")
_UNBOUNDED: Final = 1 << 40  # bytes; the route itself stops much earlier, with the clause

ApplicationId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
Kind = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,29}$")]
Source = Annotated[str, Query(min_length=1, max_length=128)]
ExpiresAt = Annotated[AwareDatetime | None, BeforeValidator(text_input.moment), Query()]

_BODY: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "Content-Digest",
            "in": "header",
            "required": True,
            "description": "SHA-256 of the body, as RFC 9530 has it",
            "schema": {"type": "string", "pattern": "^sha-256=:[A-Za-z0-9+/]{43}=:$"},
        }
    ],
    "requestBody": {
        "required": True,
        "description": "the document, byte for byte",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
}


def larger(scope: Any) -> int | None:
    """For `runtime.server`: bodies of this route are read in pieces, and this module limits them."""
    return _UNBOUNDED if scope["method"] == "POST" and _HERE.fullmatch(scope["path"]) else None


def install(app: FastAPI, workflow: Workflow) -> None:
    """Add the route to the application of a registration authority."""

    @app.post(PATH, status_code=201, openapi_extra=_BODY)
    @compares_content_digest
    async def put_document_on_file(
        application_id: ApplicationId,
        kind: Kind,
        request: Request,
        actor: Acting,
        source: Source,
        expires_at: ExpiresAt = None,
    ) -> ApplicationView:
        """Put a document on file, byte for byte; `source` is where it comes from."""
        form = await run_in_threadpool(workflow.expect_evidence, actor, application_id, kind)
        body = await _read(request, workflow.pack, form=form)
        actor = await run_in_threadpool(acting_still, request)  # it may have come slowly
        new = NewEvidence(kind, body, source, expires_at, _media_type(request))
        return await run_in_threadpool(_add, workflow, actor, application_id, new)


def _add(workflow: Workflow, actor: Any, application_id: str, new: NewEvidence) -> ApplicationView:
    return views.show(workflow, workflow.add_evidence(actor, application_id, new))


async def _read(request: Request, pack: Pack, *, form: bool) -> bytes:
    """The body, not larger than the CPS allows and with the digest that came with it. Raises InvalidSubmissionError.

    A signed form, which anybody may hand in for their own case, is small: no more of it is held in memory.
    """
    rule, clause = pack.evidence_files, pack.clause(Rule.EVID_FILE)
    expected = _digest(request, clause)

    def check(size: int) -> None:
        if form:
            check_form(size)
        check_size(size, rule, clause)

    announced = request.headers.get("content-length", "0")
    check(int(announced) if announced.isdecimal() else 0)
    body = bytearray()
    async for piece in request.stream():
        check(len(body) + len(piece))
        body += piece
    if hashlib.sha256(body).digest() != expected:
        raise InvalidSubmissionError("the document is not the one that Content-Digest is of", clause=clause)
    return bytes(body)


def _digest(request: Request, clause: str) -> bytes:
    """SHA-256 of Content-Digest; other algorithms beside it are left unread (RFC 9530 2)."""
    members = [
        _MEMBER.fullmatch(each) for line in request.headers.getlist("content-digest") for each in line.split(",")
    ]
    found = {each[1]: each[2] for each in members if each is not None}
    try:
        digest = base64.b64decode(found.get("sha-256", ""), validate=True)
    except binascii.Error:
        digest = b""
    if None in members or len(digest) != hashlib.sha256().digest_size:
        raise InvalidSubmissionError(
            "a document comes with Content-Digest: sha-256=:…:, as RFC 9530 has it", clause=clause
        )
    return digest


def _media_type(request: Request) -> str | None:
    """What the body is said to be; `application/octet-stream` says nothing (RFC 9110 8.3)."""
    named = request.headers.get("content-type", "").split(";")[0].strip().lower()
    return None if named in {"", "application/octet-stream"} else named
