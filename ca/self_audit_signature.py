"""The signature of a self-audit's report: by a key of its own in the token, judged offline from public files alone.

    SelfAuditReport (JSON) ─ SHA-256 ─► SelfAudit (`pki.self_audit`) ─► SignedData by urn:kwbp:service:self-audit

Whoever runs the database can write another report, and another digest into a journal; this key they do not have. A
report that was made while the token was away is on record unsigned, and signed when the token is there again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import ValidationError

from ca.errors import SelfAuditError, StatusError, StoreError
from ca.hierarchy import load_hierarchy
from ca.offline_status import read_lists, require_unrevoked
from ca.self_audit_report import SelfAuditReport
from ca.signing import sign_statement
from hsm_service.service import SigningService
from pki.cms_signed import parse_signed_data, verify_signature
from pki.errors import PkiError
from pki.extensions import extensions_of
from pki.names import identity_uris
from pki.oids import CT_SELF_AUDIT
from pki.path import Trust, validate_path
from pki.roles import Role
from pki.self_audit import SIGNER, SelfAudit

KEY: Final = "self-audit"
_CLAUSE: Final = "CPS 8"
_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class SignedReport:
    """A report whose signature holds: when it was signed by the signer's word, by which certificate (SHA-256, hex)."""

    report: SelfAuditReport
    sha256: str
    signed_at: datetime
    signer: str


def statement_of(body: bytes) -> SelfAudit:
    """What is signed about a report (JSON); SelfAuditError if it is not one."""
    try:
        report = SelfAuditReport.model_validate_json(body)
        sample = bytes.fromhex(report.sample_sha256)
    except (ValidationError, ValueError):
        raise SelfAuditError("this is not the report of a self-audit", clause=_CLAUSE) from None
    return SelfAudit(
        made_at=report.made_at.replace(microsecond=0),
        since=report.since.replace(microsecond=0),
        until=report.until.replace(microsecond=0),
        issued=report.issued,
        sampled=report.sampled,
        findings=report.broken,
        sample_sha256=sample,
        report_sha256=hashlib.sha256(body).digest(),
    )


def sign_report(signer: SigningService, body: bytes) -> bytes:
    """SignedData (DER) over what a report says; raises as `ca.signing.sign_crl`."""
    return sign_statement(signer, KEY, CT_SELF_AUDIT, statement_of(body).to_der())


def verify_report(body: bytes, signed: bytes, folder: Path) -> SignedReport:
    """Judge a report (JSON) and its SignedData (DER) by the published hierarchy in `folder`; nothing is asked.

    The signer's certificate is judged at the moment of signing, for which there is the signer's word alone: so one that
    was revoked at any time signed nothing. Raises SelfAuditError.
    """
    expected = statement_of(body)
    try:
        hierarchy = load_hierarchy(folder)
        found = parse_signed_data(signed, content_type=CT_SELF_AUDIT)
        verify_signature(found)
        if SelfAudit.from_der(found.content) != expected:
            raise SelfAuditError("what was signed is another report", clause=_CLAUSE)
        trust = Trust(hierarchy.anchors, hierarchy.intermediates)
        path = validate_path(
            found.signer,
            found.certificates,
            trust=trust,
            now=found.signing_time,
            roles=[Role.SERVICE],
            check_revocation=False,
        )
        require_unrevoked(path.certificates, hierarchy, read_lists(folder, hierarchy), None)
    except (PkiError, StatusError, StoreError) as error:
        raise SelfAuditError(f"the signature of the report does not hold: {error}", clause=_CLAUSE) from None
    if SIGNER not in identity_uris(found.signer) or _is_tls(found.signer):
        raise SelfAuditError(f"the report is not signed by {SIGNER}", clause=_CLAUSE)
    if found.signing_time < expected.made_at - _SKEW:
        raise SelfAuditError("it says that it was signed before it was made", clause=_CLAUSE)
    return SignedReport(
        SelfAuditReport.model_validate_json(body),
        expected.report_sha256.hex(),
        found.signing_time,
        found.signer.fingerprint(SHA256()).hex(),
    )


def _is_tls(certificate: x509.Certificate) -> bool:
    """A service's TLS certificate bears its name, too; its key is in a file."""
    usages = (each.value for each in extensions_of(certificate) if isinstance(each.value, x509.ExtendedKeyUsage))
    return any(ExtendedKeyUsageOID.SERVER_AUTH in each for each in usages)
