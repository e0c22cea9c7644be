"""What the CA's refusals are over HTTP: one table, for answers that are refused and for cases of a batch."""

from __future__ import annotations

from typing import Final

from ca.errors import (
    CaError,
    ClockError,
    CompareError,
    Finding,
    InProgressError,
    KeyRefusedError,
    LintError,
    NotApprovedError,
    NotOnRecordError,
    RequestError,
    RevocationRefusedError,
    SigningRefusedError,
    StoreError,
    StoreUnavailableError,
    TokenUnavailableError,
    UnknownCertificateError,
)
from runtime.language import Text
from runtime.problems import Problem

STATUS: Final[dict[type[CaError], int]] = {
    NotApprovedError: 403,
    RevocationRefusedError: 403,
    UnknownCertificateError: 404,
    NotOnRecordError: 404,
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


def problem_of(error: CaError) -> Problem:
    """The refusal as callers are told it, with its findings."""
    status = STATUS.get(type(error), 500)
    findings: tuple[Finding, ...] = getattr(error, "findings", ())
    headers = {"Retry-After": _RETRY_AFTER} if status == 503 else None
    problem = Problem(status, error.reason, error.told, clause=error.clause, headers=headers)
    if findings:
        problem.extra["findings"] = [_finding(each) for each in findings]
    return problem


def _finding(finding: Finding) -> dict[str, Text]:
    return {"code": finding.code, "clause": finding.clause, "message": finding.told}
