"""CheckStatement: what a register was asked about a case and what it answered, as the registration authority signs it.

Registers of this world answer, but do not sign. So the RA's own key signs, as `id-kwbp-ct-checkAnswer`, what it asked
(as a digest: whoever knows the question can recompute it), whom, when, and what the answer was (in a word, and as the
digest of the answer's bytes). The CA and the HSM service verify it like all signed evidence, so a row in the RA's
database alone confirms nothing. The question is digested with the case's id: the answer counts for the case it was
asked for, and for the account and names that the case still has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from cryptography.hazmat import asn1

from cps import canonical
from cps.check_model import CheckKind
from cps.dossier import MerchantSubject, Revision
from pki import der
from pki.errors import DerError

VERSION: Final = 1
_ANSWERS: Final = ("confirmed", "contradicted")


@asn1.sequence
class CheckStatementTBS:
    """CheckStatementTBS ::= SEQUENCE {

    version         INTEGER (1),
    applicationId   UTF8String (SIZE(1..64)),
    kind            UTF8String (SIZE(1..30)),   -- of the CPS's checks
    questionSha256  OCTET STRING (SIZE(32)),    -- see question_digest
    answer          UTF8String,                 -- confirmed | contradicted
    reason          UTF8String (SIZE(0..40)),   -- the register's code for a contradiction
    source          UTF8String (SIZE(1..128)),  -- who was asked
    answerSha256    OCTET STRING (SIZE(32)),    -- of the answer's bytes as they came
    date            GeneralizedTime }           -- when it came
    """

    version: int
    application_id: Annotated[str, asn1.Size(min=1, max=64)]
    kind: Annotated[str, asn1.Size(min=1, max=30)]
    question_sha256: Annotated[bytes, asn1.Size(min=32, max=32)]
    answer: str
    reason: Annotated[str, asn1.Size(min=0, max=40)]
    source: Annotated[str, asn1.Size(min=1, max=128)]
    answer_sha256: Annotated[bytes, asn1.Size(min=32, max=32)]
    date: asn1.GeneralizedTime


@dataclass(frozen=True, slots=True)
class CheckStatement:
    """A statement that was read; digests are 32 bytes, `date` is aware UTC in whole seconds."""

    application_id: str
    kind: str
    question_sha256: bytes
    answer: Literal["confirmed", "contradicted"]
    reason: str
    source: str
    answer_sha256: bytes
    date: datetime

    def to_der(self) -> bytes:
        """The content to sign. ValueError if a size is wrong."""
        return der.encode(
            CheckStatementTBS(
                version=VERSION,
                application_id=self.application_id,
                kind=self.kind,
                question_sha256=self.question_sha256,
                answer=self.answer,
                reason=self.reason,
                source=self.source,
                answer_sha256=self.answer_sha256,
                date=asn1.GeneralizedTime(self.date.astimezone(UTC).replace(microsecond=0)),
            )
        )

    @classmethod
    def from_der(cls, content: bytes) -> CheckStatement:
        """Read the content. Raises DerError: `malformed`, `not_canonical`, `version`, `answer`."""
        read = der.decode(CheckStatementTBS, content, limit=4096)
        if read.version != VERSION:
            raise DerError("version", f"version {read.version}, expected {VERSION}", clause="CPS 4.2.1")
        if read.answer not in _ANSWERS:
            raise DerError("answer", "an answer is confirmed or contradicted", clause="CPS 4.2.1")
        return cls(
            application_id=read.application_id,
            kind=read.kind,
            question_sha256=read.question_sha256,
            answer="confirmed" if read.answer == "confirmed" else "contradicted",
            reason=read.reason,
            source=read.source,
            answer_sha256=read.answer_sha256,
            date=read.date.as_datetime().replace(tzinfo=UTC),
        )


def question_digest(application_id: str, kind: CheckKind, fields: Mapping[str, str], *, salt: str = "") -> bytes:
    """SHA-256 (32 bytes) of the canonical form of a question; with `salt` where the fields could be guessed from it."""
    question = {"application": application_id, "kind": kind, "fields": dict(fields)}
    return canonical.digest({**question, "salt": salt} if salt else question)


def question_about(revision: Revision, kind: CheckKind) -> dict[str, str] | None:
    """What is asked for a check whose question the revision holds; None if it does not hold one."""
    subject = revision.subject
    if not isinstance(subject, MerchantSubject):
        return None
    company = {} if subject.company_id is None else {"company_id": subject.company_id}
    if kind == "company_register":
        return {"name": subject.organisation, **company}
    if kind == "iban_owner":
        return {"iban": subject.iban, "name": subject.organisation, **company}
    return None
