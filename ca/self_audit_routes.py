"""Self-audits over HTTP. Part of `ca.app`.

| route                                  | for                          |
| -------------------------------------- | ---------------------------- |
| POST /v1/self-audits                   | service:operator, officers   |
| GET /v1/self-audits                    | service:operator, officers   |
| GET /v1/self-audits/{sha256}           | service:operator, officers   |
| GET /v1/self-audits/{sha256}/signature | service:operator, officers |
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from ca.api import SelfAuditAnswer, SelfAuditList, SelfAuditRequest, SelfAuditSummary
from ca.authority import CertificateAuthority
from ca.crl_routes import OPERATORS
from ca.errors import NotOnRecordError
from ca.self_audit_report import SelfAuditReport
from runtime.identity import require
from runtime.language import Message

Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
Limit = Annotated[int, Query(ge=1, le=1000)]


def self_audit_routes(authority: CertificateAuthority) -> APIRouter:
    """The routes of a started authority. Plain functions: each waits for the database."""
    routes = APIRouter(dependencies=[Depends(require(*OPERATORS))])
    auditor = authority.self_audit

    @routes.post("/v1/self-audits", status_code=201)
    def audit(request: SelfAuditRequest) -> SelfAuditAnswer:
        """Look at a random sample of what was issued in a period again, now; 503 while another audit is going on."""
        kept = auditor.audit(
            since=request.since, until=request.until, share=request.share, least=request.least, seed=request.seed
        )
        return SelfAuditAnswer(sha256=kept.sha256, report=kept.parsed)

    @routes.get("/v1/self-audits")
    def reports(limit: Limit = 20) -> SelfAuditList:
        """The reports on record, that of the latest period first."""
        return SelfAuditList(
            reports=tuple(
                SelfAuditSummary(
                    sha256=each.sha256,
                    until=each.until,
                    sampled=each.sampled,
                    findings=each.findings,
                    signed=each.signed is not None,
                )
                for each in auditor.reports(limit=limit)
            )
        )

    @routes.get("/v1/self-audits/{sha256}", response_model=SelfAuditReport)
    def report(sha256: Digest) -> Response:
        """A report, byte for byte as its digest in the journal was taken."""
        return Response(auditor.report(sha256).report, media_type="application/json")

    @routes.get("/v1/self-audits/{sha256}/signature", response_class=Response)
    def signature(sha256: Digest) -> Response:
        """The SignedData (DER) about a report; 404 while it could not be signed."""
        signed = auditor.report(sha256).signed
        if signed is None:
            raise NotOnRecordError(Message("this self-audit is not signed yet"), clause="CPS 8")
        return Response(signed, media_type="application/cms")

    return routes
