"""SelfAudit: what is signed about the report of a self-audit (id-kwbp-ct-selfAudit; CPS 8).

    SelfAudit ::= SEQUENCE {
      version       INTEGER (1),
      madeAt        GeneralizedTime,
      since         GeneralizedTime,            -- the period whose certificates were looked at
      until         GeneralizedTime,
      issued        INTEGER (0..MAX),           -- how many were issued in it
      sampled       INTEGER (0..issued),        -- how many of them were looked at
      findings      INTEGER (0..MAX),
      sampleSha256  OCTET STRING (SIZE(32)),    -- which ones (`ca.self_audit.sample_digest`)
      reportSha256  OCTET STRING (SIZE(32)) }   -- of the report, which is JSON

The report is signed by reference: so it stays a file for people, of any length, and the key still says what it found.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Self

from cryptography.hazmat import asn1

from pki.der import decode, encode
from pki.errors import DerError

VERSION: Final = 1
SIGNER: Final = "urn:kwbp:service:self-audit"
"""Identity of the key that signs it."""
_LIMIT: Final = 512


@asn1.sequence
class _SelfAudit:
    version: int
    made_at: asn1.GeneralizedTime
    since: asn1.GeneralizedTime
    until: asn1.GeneralizedTime
    issued: int
    sampled: int
    findings: int
    sample_sha256: Annotated[bytes, asn1.Size.exact(32)]
    report_sha256: Annotated[bytes, asn1.Size.exact(32)]


@dataclass(frozen=True, slots=True)
class SelfAudit:
    """A report in short. Times are aware UTC in whole seconds, digests 32 bytes."""

    made_at: datetime
    since: datetime
    until: datetime
    issued: int
    sampled: int
    findings: int
    sample_sha256: bytes
    report_sha256: bytes

    def to_der(self) -> bytes:
        """The content to sign, DER."""
        return encode(
            _SelfAudit(
                version=VERSION,
                made_at=_time(self.made_at),
                since=_time(self.since),
                until=_time(self.until),
                issued=self.issued,
                sampled=self.sampled,
                findings=self.findings,
                sample_sha256=self.sample_sha256,
                report_sha256=self.report_sha256,
            )
        )

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read the content; DerError if it is malformed, of another version, or its numbers and times do not fit."""
        data = decode(_SelfAudit, der, limit=_LIMIT)
        if data.version != VERSION:
            raise DerError("bad_version", f"a self-audit is of version {VERSION}")
        made_at, since, until = (
            each.as_datetime().replace(tzinfo=UTC) for each in (data.made_at, data.since, data.until)
        )
        if not since <= until <= made_at:
            raise DerError("bad_validity", "a period ends after it began, and is looked at afterwards")
        if not 0 <= data.sampled <= data.issued or data.findings < 0:
            raise DerError("bad_count", "no more is looked at than was issued, and nothing less than nothing found")
        return cls(
            made_at, since, until, data.issued, data.sampled, data.findings, data.sample_sha256, data.report_sha256
        )


def _time(moment: datetime) -> asn1.GeneralizedTime:
    return asn1.GeneralizedTime(moment.astimezone(UTC).replace(microsecond=0))
