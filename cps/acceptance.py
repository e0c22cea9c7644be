"""Acceptance: whoever applied says that the certificates are right (RFC 3647 4.4.1, CPS 4.4.1).

    AcceptanceTBS ::= SEQUENCE {
      version        INTEGER (1),
      applicationId  UTF8String (SIZE(1..64)),
      certificates   SEQUENCE SIZE(1..8) OF OCTET STRING (SIZE(32)),  -- SHA-256 of each certificate (DER)
      date           GeneralizedTime }

It is the content of a CMS SignedData (CT_ACCEPTANCE) by the key of one of the certificates that it names: who can sign
so has the certificate and the key, and can later deny neither.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes

from cps.errors import StatementError, fault
from cps.signatory import open_signed
from pki.der import decode, encode
from pki.errors import PkiError
from pki.oids import CT_ACCEPTANCE

VERSION: Final = 1
_MAX_SIZE: Final = 2048
_MAX_CERTIFICATES: Final = 8


@asn1.sequence
class AcceptanceTBS:
    """DER form of an acceptance."""

    version: int
    application_id: Annotated[str, asn1.Size(min=1, max=64)]
    certificates: list[bytes]
    date: asn1.GeneralizedTime


@dataclass(frozen=True, slots=True)
class Acceptance:
    """An acceptance: the certificates of a case by their SHA-256 (32 bytes each), and the time (aware UTC)."""

    application_id: str
    certificates: frozenset[bytes]
    date: datetime


def build_acceptance(application_id: str, certificates: Collection[x509.Certificate], date: datetime) -> bytes:
    """DER of AcceptanceTBS for the certificates of a case; `date` is aware, cut to whole seconds of UTC."""
    return encode(
        AcceptanceTBS(
            version=VERSION,
            application_id=application_id,
            certificates=sorted(each.fingerprint(hashes.SHA256()) for each in certificates),
            date=asn1.GeneralizedTime(date.astimezone(UTC).replace(microsecond=0)),
        )
    )


def parse_acceptance(der: bytes) -> Acceptance:
    """Read AcceptanceTBS. Raises StatementError unless it is exactly one, of version 1."""
    try:
        tbs = decode(AcceptanceTBS, der, limit=_MAX_SIZE)
    except PkiError:
        raise StatementError("not an {kind} in DER", kind="AcceptanceTBS") from None
    if tbs.version != VERSION:
        raise StatementError(
            "{kind} of version {found}, not {expected}", kind="AcceptanceTBS", found=tbs.version, expected=VERSION
        )
    named = tbs.certificates
    if not 1 <= len(named) <= _MAX_CERTIFICATES or any(len(each) != hashes.SHA256.digest_size for each in named):
        raise StatementError(
            "an acceptance names {least} to {most} certificates by their SHA-256", least=1, most=_MAX_CERTIFICATES
        )
    return Acceptance(tbs.application_id, frozenset(named), tbs.date.as_datetime())


def check_acceptance(signed: bytes, application_id: str, certificates: Collection[x509.Certificate]) -> Acceptance:
    """Check a signed acceptance (CMS SignedData, DER) of the case with these certificates.

    Raises StatementError if it is of another case or other certificates, or not signed by the key of one of them.
    """
    try:
        opened = open_signed(signed, CT_ACCEPTANCE)
    except PkiError as error:
        raise StatementError("not an acceptance with a verified signature: {fault}", fault=fault(error)) from None
    accepted = parse_acceptance(opened.content)
    if opened.signer not in certificates:
        raise StatementError("the acceptance is not signed by a key that was certified in the case")
    issued = {each.fingerprint(hashes.SHA256()) for each in certificates}
    if accepted.application_id != application_id or accepted.certificates != issued:
        raise StatementError("the acceptance is of other certificates than those of the case")
    return accepted
