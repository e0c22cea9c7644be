"""The second look at what one person ordered alone: a revocation in an emergency is reviewed by another (CPS 4.9.3).

    ReviewTBS ::= SEQUENCE {
      version      INTEGER (1),
      orderSha256  OCTET STRING (SIZE(32)),       -- SHA-256 of the signed order (CMS SignedData, DER)
      finding      INTEGER { justified(0), unjustified(1) },
      reason       UTF8String (SIZE(1..500)),
      date         GeneralizedTime }

It is the content of a CMS SignedData (CT_REVIEW) by an officer's key. A revocation is for good whatever the review
finds; what it finds is on record, and an unjustified order is a matter for those who appointed the officer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Annotated

from cryptography.hazmat import asn1

from cps.decision import MAX_SIZE, VERSION, instant_of, parse_revocation, time_of
from cps.errors import StatementError, fault
from cps.model import Pack
from cps.revocation import in_time, may_act
from cps.rules import Rule
from cps.signatory import NO_CLASS, Signatory, identify, open_signed
from cps.verdict import Finding, Findings, Objection
from pki.der import decode, encode, sha256
from pki.errors import DerError, PkiError
from pki.oids import CT_REVIEW, CT_REVOCATION
from pki.path import Trust
from runtime.language import Message, terms


class Judgement(IntEnum):
    """What a review finds."""

    JUSTIFIED = 0
    UNJUSTIFIED = 1


@asn1.sequence
class ReviewTBS:
    """DER form of a review."""

    version: int
    order_sha256: Annotated[bytes, asn1.Size(min=32, max=32)]
    finding: int
    reason: Annotated[str, asn1.Size(min=1, max=500)]
    date: asn1.GeneralizedTime


@dataclass(frozen=True, slots=True)
class Review:
    """What an officer finds of the order with this SHA-256 (32 bytes of digest); `date` is aware UTC."""

    order_sha256: bytes
    judgement: Judgement
    reason: str
    date: datetime


@dataclass(frozen=True, slots=True)
class ReviewVerdict:
    """The judgement of a review: it counts, and `person` is who signed it, unless there are findings."""

    review: Review | None
    person: str
    findings: tuple[Finding, ...]

    @property
    def counts(self) -> bool:
        return not self.findings


def build_review(review: Review) -> bytes:
    """DER of ReviewTBS. Raises ValueError if the time is not aware or not a whole second, StatementError on sizes."""
    tbs = ReviewTBS(
        version=VERSION,
        order_sha256=review.order_sha256,
        finding=review.judgement.value,
        reason=review.reason,
        date=time_of(review.date),
    )
    try:
        return encode(tbs)
    except ValueError:
        raise StatementError("a field is longer or shorter than the statement allows") from None


def parse_review(der: bytes) -> Review:
    """Read ReviewTBS. Raises StatementError unless it is exactly one, of version 1."""
    try:
        tbs = decode(ReviewTBS, der, limit=MAX_SIZE)
    except DerError:
        raise StatementError("not a {kind} in DER", kind="ReviewTBS") from None
    if tbs.version != VERSION:
        raise StatementError(
            "{kind} of version {found}, not {expected}", kind="ReviewTBS", found=tbs.version, expected=VERSION
        )
    if tbs.finding not in Judgement.__members__.values():
        raise StatementError("a review finds an order justified or unjustified")
    return Review(tbs.order_sha256, Judgement(tbs.finding), tbs.reason, instant_of(tbs.date))


def decide_review(statement: bytes, order: bytes, pack: Pack, *, trust: Trust, now: datetime) -> ReviewVerdict:
    """Judge a review (CMS, DER) of a signed order (CMS, DER) at `now` (aware). Never raises for what is in either."""
    found = Findings(pack)
    try:
        signed = open_signed(statement, CT_REVIEW)
        review = parse_review(signed.content)
        signatory = identify(signed, pack=pack, trust=trust, now=now)
        ordered = open_signed(order, CT_REVOCATION)
        parse_revocation(ordered.content)
        orderer = identify(ordered, pack=pack, trust=trust, now=now)
    except (PkiError, StatementError) as error:
        found.add(
            Rule.REV_REVIEW, "not a review of an officer's order signed by an officer: {fault}", fault=fault(error)
        )
        return ReviewVerdict(None, "", found.all())
    objection = (
        _of_this_order(review, order)
        or in_time(review.date, signed.signing_time, pack, now)
        or _by_right(signatory, orderer, pack, now)
    )
    if objection is not None:
        found.object(*objection)
    return ReviewVerdict(review, signatory.person, found.all())


def _of_this_order(review: Review, order: bytes) -> Objection | None:
    return (
        None if review.order_sha256 == sha256(order) else (Rule.REV_REVIEW, Message("the review is of another order"))
    )


def _by_right(signatory: Signatory, orderer: Signatory, pack: Pack, now: datetime) -> Objection | None:
    lapsed = signatory.objection()
    if lapsed is not None:
        return Rule.DEC_CREDENTIAL, lapsed
    by = pack.review.steps[0].by
    if not signatory.holds(by, NO_CLASS, now):
        told = Message(
            "an order is reviewed by {roles}, not by {person}", roles=terms("role", by, "or"), person=signatory.person
        )
        return Rule.REV_ROLE, signatory.refusal(told, by, NO_CLASS, now)
    return may_act(signatory, [orderer.person], pack, now)
