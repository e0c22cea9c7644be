"""The certificate authority as its callers see it: `CaClient`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import BinaryIO, Final, Literal, Self, TypedDict, Unpack

import httpx
from pydantic import BaseModel

from ca.api import (
    CaseAnswer,
    CertificateAnswer,
    CertificateList,
    CertificateStatus,
    CrlAnswer,
    CrlList,
    DeniedKeyAnswer,
    DenylistAnswer,
    DenyRequest,
    IssueManyAnswer,
    IssueManyRequest,
    IssueRequest,
    RevocationAnswer,
    RevokeRequest,
    SelfAuditAnswer,
    SelfAuditList,
    SelfAuditRequest,
    SelfAuditSummary,
    StatusChangeAnswer,
    StatusChangeList,
    StoryAnswer,
)
from cps.dossier import Dossier
from runtime.client import TlsFiles, http_client, raise_problem
from runtime.language import Language
from runtime.problems import Problem

__all__ = ["CaClient", "CertificateAnswer", "RevocationAnswer", "StoryAnswer"]

_JSON: Final = {"content-type": "application/json"}


class Search(TypedDict, total=False):
    """What certificates are asked for. None, as absent: any.

    `subject` is a part of the name, `identity` a urn:kwbp: URI or a commitment; serials and digests are hexadecimal;
    notAfter is in [`expires_from`, `expires_before`), aware.
    """

    issuer: str | None
    serial: str | None
    subject: str | None
    identity: str | None
    profile: str | None
    sha256: str | None
    spki_sha256: str | None
    status: CertificateStatus | None
    expires_from: datetime | None
    expires_before: datetime | None


@dataclass(frozen=True, slots=True)
class Export:
    """Certificates as they come, without chains; `total` is how many there were at the start."""

    total: int
    certificates: Iterator[CertificateAnswer]


class CaClient:
    """Calls the CA over mutual TLS. Every method raises `runtime.problems.Problem` when the CA refuses or is away."""

    def __init__(self, url: str, tls: TlsFiles, *, timeout: float = 60.0, language: Language = Language.EN) -> None:
        """`timeout` in seconds a call: longer than the CA waits for its database, so that it can say so.

        `language` is that of whoever reads its refusals.
        """
        self._timeout = timeout
        self._http = http_client(tls, url, timeout=timeout, language=language)

    def issue(self, dossier: Dossier) -> dict[str, CertificateAnswer]:
        """Certificates for an approved case, by purpose; asked again, the same ones."""
        answer = CertificateList.model_validate_json(self._post("/v1/certificates", IssueRequest(dossier=dossier)))
        return {each.purpose: each for each in answer.certificates if each.purpose is not None}

    def issue_many(self, dossiers: Sequence[Dossier]) -> list[dict[str, CertificateAnswer] | Problem]:
        """As `issue` for at most `ca.api.MOST_CASES` cases: for each its certificates, or what is raised for one."""
        body = IssueManyRequest(dossiers=tuple(dossiers))
        answers = IssueManyAnswer.model_validate_json(self._post("/v1/certificates:batch", body)).cases
        return [_outcome(answer) for answer in answers]

    def revoke(self, order: bytes) -> RevocationAnswer:
        """Revoke, suspend or release by a signed order (CMS SignedData over RevocationTBS, DER)."""
        return RevocationAnswer.model_validate_json(self._post("/v1/revocations", RevokeRequest(order=order)))

    def to_publish(self, state: Literal["due", "overdue"] = "due") -> tuple[StatusChangeAnswer, ...]:
        """Changes of status that no list covers yet, or only those that are late; the most urgent first."""
        return StatusChangeList.model_validate_json(self._get("/v1/revocations", {"state": state})).changes

    def deny(self, orders: Sequence[bytes]) -> DeniedKeyAnswer:
        """Put a key on the denylist by orders of different officers (each CMS SignedData over KeyDenialTBS, DER)."""
        return DeniedKeyAnswer.model_validate_json(self._post("/v1/denylist", DenyRequest(orders=tuple(orders))))

    def denylist(self, *, after: str = "", limit: int = 100) -> tuple[DeniedKeyAnswer, ...]:
        """Denied keys in the order of their digests (hexadecimal), those greater than `after`."""
        query = {"after": after, "limit": str(limit)} if after else {"limit": str(limit)}
        return DenylistAnswer.model_validate_json(self._get("/v1/denylist", query)).keys

    def look_up(self, issuer: str, serial: str) -> StoryAnswer:
        """Everything about the certificate of this authority and serial (hexadecimal)."""
        return StoryAnswer.model_validate_json(self._get(f"/v1/certificates/{issuer}/{serial}", {}))

    def search(self, **wanted: Unpack[Search]) -> tuple[CertificateAnswer, ...]:
        """Certificates with all the given properties, newest first: the first page."""
        return self.page(**wanted).certificates

    def page(self, *, after: str | None = None, limit: int = 100, **wanted: Unpack[Search]) -> CertificateList:
        """One page of a search, at most 1000; `next` of the answer is `after` for the one that follows."""
        query = _query(wanted) | {"limit": str(limit)} | ({"after": after} if after else {})
        return CertificateList.model_validate_json(self._get("/v1/certificates", query))

    @contextmanager
    def export(self, **wanted: Unpack[Search]) -> Iterator[Export]:
        """Context: every certificate with the given properties, as they come; Problem if the stream breaks off."""
        try:
            with self._http.stream("GET", "/v1/certificates:export", params=_query(wanted)) as answer:
                if answer.is_error:
                    answer.read()
                    raise_problem(answer)
                lines = (CertificateAnswer.model_validate_json(line) for line in answer.iter_lines() if line)
                yield Export(int(answer.headers.get("x-total-count", "0")), lines)
        except httpx.TransportError as error:
            raise _away(error) from error

    def crls(self) -> tuple[CrlAnswer, ...]:
        """The revocation lists in force."""
        return CrlList.model_validate_json(self._get("/v1/crls", {})).crls

    def publish_crl(self, issuer: str) -> CrlAnswer:
        """Have the next list of an authority signed now."""
        return CrlAnswer.model_validate_json(self._post(f"/v1/crls/{issuer}", None))

    def download_crl(self, issuer: str, scope: str, out: BinaryIO) -> None:
        """Write a list in force (DER) to `out`, however long it is."""
        try:
            with self._http.stream("GET", f"/v1/crls/{issuer}/{scope}") as answer:
                if answer.is_error:
                    answer.read()
                    raise_problem(answer)
                for chunk in answer.iter_bytes():
                    out.write(chunk)
        except httpx.TransportError as error:
            raise _away(error) from error

    def self_audit(self, request: SelfAuditRequest) -> SelfAuditAnswer:
        """Have a sample of what was issued looked at again; waits for as long as that takes."""
        return SelfAuditAnswer.model_validate_json(self._post("/v1/self-audits", request, patient=True))

    def self_audits(self, *, limit: int = 20) -> tuple[SelfAuditSummary, ...]:
        """The latest reports on record."""
        return SelfAuditList.model_validate_json(self._get("/v1/self-audits", {"limit": str(limit)})).reports

    def self_audit_report(self, sha256: str) -> bytes:
        """A report (JSON), byte for byte; Problem if it is not the one of this digest (hexadecimal)."""
        body = self._get(f"/v1/self-audits/{sha256}", {})
        if hashlib.sha256(body).hexdigest() != sha256:
            raise Problem(502, "report-differs", "the report that came back is not the one of this digest")
        return body

    def self_audit_signature(self, sha256: str) -> bytes | None:
        """The SignedData (DER) about a report; None while it could not be signed. Who trusts it verifies it."""
        try:
            return self._get(f"/v1/self-audits/{sha256}/signature", {})
        except Problem as problem:
            if problem.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _post(self, path: str, body: BaseModel | None, *, patient: bool = False) -> bytes:
        content = b"" if body is None else body.model_dump_json(by_alias=True, exclude_none=True)
        try:
            answer = self._http.post(path, content=content, headers=_JSON, timeout=None if patient else self._timeout)
            return raise_problem(answer).content
        except httpx.TransportError as error:
            raise _away(error) from error

    def _get(self, path: str, query: dict[str, str]) -> bytes:
        try:
            return raise_problem(self._http.get(path, params=query)).content
        except httpx.TransportError as error:
            raise _away(error) from error


def _query(wanted: Search) -> dict[str, str]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else str(value)
        for name, value in wanted.items()
        if value is not None
    }


def _outcome(answer: CaseAnswer) -> dict[str, CertificateAnswer] | Problem:
    if answer.problem is not None:
        return Problem.from_document(int(answer.problem["status"]), answer.problem)
    return {each.purpose: each for each in answer.certificates if each.purpose is not None}


def _away(error: httpx.TransportError) -> Problem:
    return Problem(503, "ca-unreachable", f"the certificate authority does not answer: {type(error).__name__}")
