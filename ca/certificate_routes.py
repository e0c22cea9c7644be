"""Certificates over HTTP: issue, search, look one up, export. Part of `ca.app`.

| route                                    | for                                        |
| ---------------------------------------- | ------------------------------------------ |
| POST /v1/certificates                    | service:ra                                 |
| POST /v1/certificates:batch              | service:ra                                 |
| GET /v1/certificates?serial=&identity=…  | service:ra, service:operator, officers     |
| GET /v1/certificates/{issuer}/{serial}   | service:ra, service:operator, officers     |
| GET /v1/certificates:export?…            | service:operator, officers                 |
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Final

from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import StreamingResponse

from ca.api import (
    CaseAnswer,
    CertificateAnswer,
    CertificateList,
    CertificateStatus,
    IntentAnswer,
    IssueManyAnswer,
    IssueManyRequest,
    IssueRequest,
    StoryAnswer,
)
from ca.authority import CertificateAuthority
from ca.cases import Issued
from ca.certificate_store import Filters
from ca.crl_routes import OPERATORS
from ca.errors import CaError
from ca.gathering import Gathering
from ca.lean_route import LeanRoute
from ca.refusals import problem_of
from ca.status_routes import READERS, change_answer, revocation_answer
from ca.store import CertificateRecord, Intent
from cps.dossier import Instant
from runtime.identity import require

MANY: Final = "/v1/certificates:batch"
COUNT: Final = "X-Total-Count"
"""Header of an export: how many certificates there were when it began."""
LINES: Final = "application/x-ndjson"
_AT_ONCE: Final = 500  # rows of an export read together

IssuerName = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,64}$")]
Serial = Annotated[str, Path(pattern=r"^[0-9A-Fa-f]{1,40}$")]
SerialQuery = Annotated[str | None, Query(pattern=r"^[0-9A-Fa-f]{1,40}$", description="hexadecimal")]
DigestQuery = Annotated[str | None, Query(pattern=r"^[0-9A-Fa-f]{64}$", description="SHA-256, hexadecimal")]
NameQuery = Annotated[str | None, Query(pattern=r"^[a-z0-9-]{1,64}$")]
TextQuery = Annotated[str | None, Query(max_length=128)]
Moment = Annotated[Instant | None, Query(description="RFC 3339 with its offset from UTC")]
After = Annotated[str | None, Query(max_length=160, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=1000)]


def filters(
    serial: SerialQuery = None,
    identity: TextQuery = None,
    sha256: DigestQuery = None,
    spki_sha256: DigestQuery = None,
    issuer: NameQuery = None,
    profile: NameQuery = None,
    subject: TextQuery = None,
    status: CertificateStatus | None = None,
    expires_from: Moment = None,
    expires_before: Moment = None,
) -> Filters:
    """What is searched for or exported: certificates that have all the given properties."""
    return Filters(
        serial=serial and plain_serial(serial),
        identity=identity,
        sha256=sha256 and sha256.lower(),
        spki_sha256=spki_sha256 and spki_sha256.lower(),
        issuer=issuer,
        profile=profile,
        subject=subject,
        status=status,
        expires_from=expires_from,
        expires_before=expires_before,
    )


Wanted = Annotated[Filters, Depends(filters)]


def certificate_routes(authority: CertificateAuthority) -> APIRouter:
    """The routes of a started authority. Plain functions: each waits for the database, the disk and the token."""
    routes, lean = APIRouter(), APIRouter(route_class=LeanRoute)
    store, gathering = authority.store, Gathering(authority.issuance.issue_many)

    def with_status(found: list[CertificateRecord], now: datetime, *, chain: bool) -> Iterator[CertificateAnswer]:
        for record, status in zip(found, store.statuses(found, now), strict=True):
            yield certificate_answer(authority, record, status=status, chain=chain)

    @lean.post("/v1/certificates", status_code=201, dependencies=[Depends(require("service:ra"))])
    async def issue(request: IssueRequest) -> CertificateList:
        """Certificates for an approved case, one for each of its requests. Asked again, the same ones."""
        return CertificateList(certificates=_certificates(authority, await gathering.issue(request.dossier)))

    @lean.post(MANY, dependencies=[Depends(require("service:ra"))])
    def issue_many(request: IssueManyRequest) -> IssueManyAnswer:
        """Certificates for many approved cases, each judged by itself: what is refused of one concerns no other."""
        answers = authority.issuance.issue_many(request.dossiers)
        return IssueManyAnswer(cases=tuple(_case(authority, answer) for answer in answers))

    @routes.get("/v1/certificates", dependencies=[Depends(require(*READERS))])
    def search(wanted: Wanted, after: After = None, limit: Limit = 100) -> CertificateList:
        """Certificates with all the given properties, newest first, with their status now.

        `subject` is a part of the name. The next page is `after` = `next` of this one, whatever is issued meanwhile.
        """
        now = authority.now()
        found = store.search(after=after, limit=limit, **wanted | {"now": now})
        return CertificateList(
            certificates=tuple(with_status(found, now, chain=True)),
            next=found[-1].cursor if len(found) == limit else None,
        )

    @routes.get(
        "/v1/certificates:export",
        dependencies=[Depends(require(*OPERATORS))],
        response_class=StreamingResponse,
        responses={
            200: {
                "content": {LINES: {"schema": {"type": "string"}}},
                "headers": {COUNT: {"description": "how many there were at the start", "schema": {"type": "integer"}}},
            }
        },
    )
    def export(wanted: Wanted) -> StreamingResponse:
        """All certificates with the given properties, newest first, one JSON object a line, without chains."""

        asked: Filters = wanted | {"now": authority.now()}

        def lines() -> Iterator[bytes]:
            after = None
            while found := store.search(after=after, limit=_AT_ONCE, **asked):
                answers = with_status(found, authority.now(), chain=False)
                yield b"".join(each.model_dump_json().encode() + b"\n" for each in answers)
                after = found[-1].cursor

        return StreamingResponse(lines(), media_type=LINES, headers={COUNT: str(store.matching(**asked))})

    @routes.get("/v1/certificates/{issuer}/{serial}", dependencies=[Depends(require(*READERS))])
    def look_up(issuer: IssuerName, serial: Serial) -> StoryAnswer:
        """Everything about one certificate: the case, the decisions, the lints, its status, the log."""
        story = authority.story(issuer, plain_serial(serial))
        revocation, intent, dossier = story.revocation, story.intent, story.dossier
        return StoryAnswer(
            certificate=certificate_answer(authority, story.certificate, None if intent is None else intent.purpose),
            status="good" if revocation is None or revocation.state == "released" else revocation.state,
            revocation=None if revocation is None else revocation_answer(revocation, story.crl),
            history=tuple(map(change_answer, story.history)),
            intent=None if intent is None else _intent(intent),
            dossier=None if dossier is None else json.loads(dossier.dossier),
            cps_digest=None if dossier is None else dossier.cps_digest,
            log=story.log,
        )

    routes.include_router(lean)
    return routes


def _certificates(
    authority: CertificateAuthority, issued: Mapping[str, CertificateRecord]
) -> tuple[CertificateAnswer, ...]:
    return tuple(certificate_answer(authority, record, purpose) for purpose, record in issued.items())


def _case(authority: CertificateAuthority, answer: Issued) -> CaseAnswer:
    if isinstance(answer, CaError):
        return CaseAnswer(problem=problem_of(answer).document())
    return CaseAnswer(certificates=_certificates(authority, answer))


def plain_serial(text: str) -> str:
    """A serial number as the database has it."""
    return text.lower().lstrip("0") or "0"


def certificate_answer(
    authority: CertificateAuthority,
    record: CertificateRecord,
    purpose: str | None = None,
    *,
    status: CertificateStatus | None = None,
    chain: bool = True,
) -> CertificateAnswer:
    """A certificate as callers get it."""
    above = authority.hierarchy.chain(record.issuer) if chain else ()
    return CertificateAnswer(
        issuer=record.issuer,
        serial=record.serial,
        profile=record.profile,
        subject=record.subject,
        identity=record.identity,
        sha256=record.sha256,
        spki_sha256=record.spki_sha256,
        not_before=record.not_before,
        not_after=record.not_after,
        certificate=record.der,
        chain=tuple(each.public_bytes(Encoding.DER) for each in above),
        purpose=purpose,
        status=status,
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
