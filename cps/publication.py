"""What security officers sign about a new version of the statement, and whether it is published by that (CPS 1.5.4).

    PackPublicationTBS ::= SEQUENCE {
      version          INTEGER (1),
      packId           UTF8String (SIZE(1..64)),
      packVersion      UTF8String (SIZE(1..20)),
      packDigest       OCTET STRING (SIZE(32)),    -- SHA-256 of the pack's canonical form
      textsDigest      OCTET STRING (SIZE(32)),    -- the same of its texts
      supersedes       OCTET STRING (SIZE(32)),    -- packDigest of the version that it follows
      effective        GeneralizedTime,
      date             GeneralizedTime }

Each is the content of a CMS SignedData (`pki.cms_signed`, CT_PACK_PUBLICATION) by an officer's key. How many persons
must sign, in which role, says the version that is superseded: no version loosens the rules of its own publication.

A publication is read for years. A time-stamp (RFC 3161) over all signed statements proves when they were there, and
everybody judges the signers at that moment, by the newest lists: who is revoked afterwards had signed well; whoever has
the key of an officer who was revoked before cannot date anything back. Nobody can publish for the past, either: a
version comes into force after its stamp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

from cryptography.hazmat import asn1

from cps.annex import Annex
from cps.decision import VERSION, instant_of, time_of
from cps.document import Edition
from cps.document_check import problems
from cps.errors import PackError, StatementError, fault
from cps.model import Pack
from cps.register import follows
from cps.revocation import in_time, may_act
from cps.rules import Rule
from cps.signatory import Matter, Signatory, identify, open_signed
from cps.statement_text import StatementText
from cps.verdict import Approval, Finding, Findings, Objection, Status
from pki.der import decode, encode
from pki.errors import DerError, PkiError
from pki.oids import CT_PACK_PUBLICATION
from pki.past import validate_path_at
from pki.path import Trust
from pki.roles import Role
from pki.timestamp import verify_token
from runtime.language import Message, terms

MAX_SIZE: Final = 4096
MAX_STATEMENTS: Final = 16
"""Most signed statements of one publication."""
_IN_FULL: Final = Matter(in_full=True)
"""Who stands in for another for a time publishes no rules."""


@asn1.sequence
class PackPublicationTBS:
    """DER form of a publication."""

    version: int
    pack_id: Annotated[str, asn1.Size(min=1, max=64)]
    pack_version: Annotated[str, asn1.Size(min=1, max=20)]
    pack_digest: Annotated[bytes, asn1.Size(min=32, max=32)]
    texts_digest: Annotated[bytes, asn1.Size(min=32, max=32)]
    supersedes: Annotated[bytes, asn1.Size(min=32, max=32)]
    effective: asn1.GeneralizedTime
    date: asn1.GeneralizedTime


@dataclass(frozen=True, slots=True)
class Publication:
    """That this version is published; digests are SHA-256, times aware UTC, `date` is when the officer says so."""

    pack_id: str
    pack_version: str
    pack_digest: bytes
    texts_digest: bytes
    supersedes: bytes
    effective: datetime
    date: datetime

    @classmethod
    def of(cls, pack: Pack, texts: StatementText, predecessor: Pack, *, date: datetime) -> Publication:
        """What is stated about a pack and its texts; `date` (aware) is cut to the second."""
        return cls(
            pack_id=pack.cps.id,
            pack_version=pack.cps.version,
            pack_digest=pack.digest,
            texts_digest=texts.digest,
            supersedes=predecessor.digest,
            effective=pack.cps.effective.astimezone(UTC),
            date=date.astimezone(UTC).replace(microsecond=0),
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that is or was to be published: `statements` are CMS SignedData, `stamp` a TimeStampToken (all DER)."""

    pack: Pack
    texts: StatementText
    statements: tuple[bytes, ...] = ()
    stamp: bytes | None = None

    @property
    def stamped(self) -> bytes:
        """The bytes that the time-stamp is over: all statements, one after the other."""
        return b"".join(self.statements)


@dataclass(frozen=True, slots=True)
class PublicationVerdict:
    """The judgement. `missing`: how many persons must sign yet; `stamped_at`: the proven time (aware UTC)."""

    status: Status
    findings: tuple[Finding, ...]
    approvals: tuple[Approval, ...]
    missing: int
    stamped_at: datetime | None

    @property
    def approved(self) -> bool:
        return self.status is Status.APPROVED


def build_publication(publication: Publication) -> bytes:
    """DER of PackPublicationTBS. Raises ValueError if a time is not aware, StatementError if a field does not fit."""
    tbs = PackPublicationTBS(
        version=VERSION,
        pack_id=publication.pack_id,
        pack_version=publication.pack_version,
        pack_digest=publication.pack_digest,
        texts_digest=publication.texts_digest,
        supersedes=publication.supersedes,
        effective=time_of(publication.effective),
        date=time_of(publication.date),
    )
    try:
        return encode(tbs)
    except ValueError:
        raise StatementError("a field is longer or shorter than the statement allows") from None


def parse_publication(der: bytes) -> Publication:
    """Read PackPublicationTBS. Raises StatementError unless it is exactly one, of version 1."""
    try:
        tbs = decode(PackPublicationTBS, der, limit=MAX_SIZE)
    except DerError:
        raise StatementError("not a {kind} in DER", kind="PackPublicationTBS") from None
    if tbs.version != VERSION:
        raise StatementError(
            "{kind} of version {found}, not {expected}", kind="PackPublicationTBS", found=tbs.version, expected=VERSION
        )
    return Publication(
        pack_id=tbs.pack_id,
        pack_version=tbs.pack_version,
        pack_digest=tbs.pack_digest,
        texts_digest=tbs.texts_digest,
        supersedes=tbs.supersedes,
        effective=instant_of(tbs.effective),
        date=instant_of(tbs.date),
    )


def decide_publication(
    candidate: Candidate,
    predecessor: Pack,
    *,
    trust: Trust,
    now: datetime,
    annex: Annex | None = None,
    lists: bool = True,
) -> PublicationVerdict:
    """Judge whether `candidate` is published as the version after `predecessor`, whose rules say by whom.

    Approved with enough signatures and a time-stamp over them, pending while one of them is missing, refused for what
    is wrong with the version itself or its stamp. With `annex`, what the release quotes in documents, the document must
    be complete, too: that is asked when it is signed and published. Who reads it later asks what was signed then,
    without the annex of a later release. `trust` has the newest lists. Who accepted it before judges it again without
    them (`lists` is False): no order about an officer's certificate, whatever moment it names, brings back an older
    version. Never raises for anything in the candidate.
    """
    broken, votes = Findings(predecessor), Findings(predecessor)
    stamped_at = _stamped_at(candidate, predecessor, trust, now, broken, lists)
    at = now if stamped_at is None else stamped_at
    _check_version(candidate, predecessor, at, annex, broken)
    approvals = _approvals(candidate, predecessor, trust, at, votes, lists)
    missing = max(0, predecessor.publication.steps[0].count - len(approvals))
    status = Status.PENDING if missing or stamped_at is None else Status.APPROVED
    return PublicationVerdict(
        Status.REFUSED if broken else status, broken.all() + votes.all(), approvals, missing, stamped_at
    )


def _stamped_at(
    candidate: Candidate, predecessor: Pack, trust: Trust, now: datetime, found: Findings, lists: bool
) -> datetime | None:
    """The moment that the time-stamp proves; None without one that does."""
    if candidate.stamp is None:
        return None
    try:
        stamp = verify_token(candidate.stamp, candidate.stamped, trust=trust, check_revocation=False)
        if lists:
            tsa, *above = stamp.path
            validate_path_at(tsa, above, trust=trust, at=stamp.gen_time, roles=[Role.TIMESTAMP_AUTHORITY])
    except PkiError as error:
        found.add(Rule.PUB_STAMP, "the time-stamp proves nothing: {fault}", fault=fault(error))
        return None
    if stamp.gen_time > now + predecessor.clocks.skew:
        found.add(Rule.PUB_STAMP, "the time-stamp is from the future")
        return None
    return stamp.gen_time


def _check_version(candidate: Candidate, predecessor: Pack, at: datetime, annex: Annex | None, found: Findings) -> None:
    pack = candidate.pack
    try:
        follows(predecessor, pack)
    except PackError as error:
        found.add(Rule.PUB_ORDER, "{fault}", fault=error)
    if pack.cps.effective < at:
        found.add(Rule.PUB_EFFECTIVE, "it would have been in force since {effective}", effective=pack.cps.effective)
    if annex is not None and (wrong := problems(Edition(pack, candidate.texts, annex))):
        found.add(
            Rule.PUB_DOCUMENT, "the document has {count} problems, first {first}", count=len(wrong), first=wrong[0]
        )


def _approvals(
    candidate: Candidate, predecessor: Pack, trust: Trust, at: datetime, found: Findings, lists: bool
) -> tuple[Approval, ...]:
    step = predecessor.publication.steps[0]
    approvals: list[Approval] = []
    for index, der in enumerate(candidate.statements):
        if index == MAX_STATEMENTS:
            found.add(Rule.PUB_STATEMENT, "more than {most} statements came along", most=MAX_STATEMENTS)
            break
        try:
            signed = open_signed(der, CT_PACK_PUBLICATION)
            stated = parse_publication(signed.content)
            signatory = identify(signed, pack=predecessor, trust=trust, now=at, past=True, lists=lists)
        except (PkiError, StatementError) as error:
            found.add(
                Rule.PUB_STATEMENT, "not a publication signed by an officer of ours: {fault}", index, fault=fault(error)
            )
            continue
        objection = (
            _about_this(stated, candidate, predecessor)
            or in_time(stated.date, signed.signing_time, predecessor, at)
            or _lapsed(stated, predecessor, at)
            or _by_right(signatory, [approval.person for approval in approvals], predecessor, at)
        )
        if objection is None:
            approvals.append(Approval(step.name, signatory.person, signatory.organisation, signed.signing_time, index))
        else:
            found.object(*objection, index)
    return tuple(approvals)


def _about_this(stated: Publication, candidate: Candidate, predecessor: Pack) -> Objection | None:
    expected = Publication.of(candidate.pack, candidate.texts, predecessor, date=stated.date)
    if stated == expected:
        return None
    others: Sequence[str] = [
        field for field in Publication.__slots__ if getattr(stated, field) != getattr(expected, field)
    ]
    return Rule.PUB_STATEMENT, Message("it is about another publication: {fields}", fields=terms("publication", others))


def _lapsed(stated: Publication, predecessor: Pack, at: datetime) -> Objection | None:
    lasts = predecessor.publication.steps[0].expires
    if lasts is None or at < stated.date + lasts:
        return None
    return Rule.DEC_EXPIRED, Message("the statement lapsed at {at}", at=stated.date + lasts)


def _by_right(signatory: Signatory, acted: Sequence[str], pack: Pack, at: datetime) -> Objection | None:
    lapsed = signatory.objection()
    if lapsed is not None:
        return Rule.DEC_CREDENTIAL, lapsed
    by = pack.publication.steps[0].by
    if not signatory.holds(by, _IN_FULL, at):
        told = Message(
            "a version is published by {roles}, not by {person}", roles=terms("role", by, "or"), person=signatory.person
        )
        return Rule.PUB_ROLE, signatory.refusal(told, by, _IN_FULL, at)
    return may_act(signatory, acted, pack, at)
