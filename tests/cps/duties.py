"""Histories of a case: who signed what when, what was edited, collected, revoked, published, in any order.

    played = DutiesWorld().play("merchant", history)     # the case as bytes, and as `tests.cps.duties_oracle` tells it
    played.verdict()                                     # what `cps.decide` says of the bytes

Each event is done at the time that those before it have brought about, to the case as they have left it: what is
decided before an edit is thereby a decision over an older revision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, Literal

import cps.decide
from cps.application import KnownKeys
from cps.decision import Choice, KeyDenial, build_key_denial
from cps.dossier import Author, CpsPin, Dossier, Evidence
from cps.model import Grandfather, Pack, load_pack
from cps.register import PackRegister
from cps.verdict import Verdict
from pki.cms_signed import parse_signed_data
from pki.crl import CrlSet
from pki.extensions import RoleGrant
from pki.oids import CT_DECISION, CT_KEY_DENIAL, CT_REVOCATION
from pki.path import Trust
from tests.cps.duties_oracle import CASES, DAY, HANDS, MINUTE, OWN, Case, Hand, Kind, Vote
from tests.cps.test_model import TEXT
from tests.cps.test_rekey import NEXT_REQUEST, certified, digest, proof
from tests.support.cps_cases import MERCHANT, OFFICER, Office, evidence
from tests.support.pki_factory import NOW, Credential, PkiFactory

Form = Literal["decision", "tampered", "renamed", "order", "denial"]
"""`tampered`: a rejection in which somebody wrote an approval; `renamed`: signed as an order; the others are others."""


@dataclass(frozen=True)
class Sign:
    """`hand` signs a statement about `step`: a decision, or something that is none; it is handed in `times`.

    `elsewhere`: about a case that differs by its id alone. `dated` and `signed` are away from the clock.
    `listed`: if it rejects the case, it is for a reason of its class, not of another.
    """

    hand: str
    step: str
    reject: bool = False
    listed: bool = True
    elsewhere: bool = False
    form: Form = "decision"
    dated: timedelta = timedelta()
    signed: timedelta = timedelta()
    lasts: timedelta = 60 * DAY
    times: int = 1


@dataclass(frozen=True)
class Wait:
    """Time passes."""

    by: timedelta = MINUTE


@dataclass(frozen=True)
class Edit:
    """Somebody writes a new revision, under the statement in force."""

    author: str
    employer: str = ""


@dataclass(frozen=True)
class Reevaluate:
    """The registration authority writes the case anew under the statement in force, by the same authors."""


@dataclass(frozen=True)
class Collect:
    """All evidence is collected once more."""


@dataclass(frozen=True)
class Revoke:
    """A certificate is revoked."""

    hand: str


@dataclass(frozen=True)
class Supersede:
    """Version 2 of the statement comes into force, once; cases under version 1 may be finished for a while, if any."""

    grandfather: timedelta | None = None


@dataclass(frozen=True)
class Denounce:
    """The key of the case is reported compromised."""


Event = Sign | Wait | Edit | Reevaluate | Collect | Revoke | Supersede | Denounce
History = tuple[Event, ...]

CHECKED_AT: Final = NOW - 819 * DAY
"""When registers were last asked about the merchant whose certificate is replaced: the chain ends within a history."""

SECOND_TEXT: Final = (
    TEXT.replace("version: 1.0.0", "version: 2.0.0")
    .replace("urn:kwbp:cps:1.0.0", "urn:kwbp:cps:2.0.0")
    .replace(
        "approve, by: approving_officer, count: 1, not: [author, vet, same_org], expires: P5D",
        "approve, by: approving_officer, count: 2, not: [author, same_org], expires: P5D",
    )
)


@dataclass(frozen=True)
class Played:
    """A case after its history: as bytes with what they are judged by, and as people tell it."""

    dossier: Dossier
    register: PackRegister
    trust: Trust
    known: KnownKeys
    case: Case

    def verdict(self) -> Verdict:
        """What the one function says."""
        pack = self.register.governing(self.dossier.revision.cps, self.case.now)
        return cps.decide.decide(self.dossier, pack, trust=self.trust, now=self.case.now, known_keys=self.known)


@dataclass
class _Course:
    """A case while its history goes on."""

    kind: Kind
    at: datetime = NOW
    revision: int = 1
    collected: int = 1
    authors: tuple[tuple[str, str], ...] = (("applicant-1", "Agency"),)
    pin: int = 1
    second: tuple[datetime, datetime | None] | None = None
    collections: tuple[datetime, ...] = (NOW,)
    revoked: frozenset[str] = frozenset()
    denounced: bool = False

    def do(self, event: Event) -> None:
        """Let it happen."""
        match event:
            case Wait():
                self.at += event.by
            case Edit():
                author = (event.author, event.employer)
                self.authors = (*(each for each in self.authors if each != author), author)
                self._write()
            case Reevaluate():
                self._write()
            case Collect() if CASES[self.kind].evidence_lasts is not None and self.at > self.collections[-1]:
                self.collections = (*self.collections, self.at)
            case Revoke():
                self.revoked |= {event.hand}
            case Denounce():
                self.denounced = True
            case Supersede() if self.second is None:
                self.second = (self.at, None if event.grandfather is None else self.at + event.grandfather)

    def _write(self) -> None:
        self.revision += 1
        self.pin = 1 if self.second is None else 2


class DutiesWorld:
    """One hierarchy with every hand, made once; nothing in it changes. What is signed twice is signed once."""

    def __init__(self) -> None:
        self._pki, strangers = PkiFactory(), PkiFactory()
        self._office = Office(self._pki)
        services = {"ra": self._office.ra, "hsm": self._office.hsm, "bank": self._office.bank}
        self._hands = {
            name: services.get(name) or _certificate(strangers if hand.stranger else self._pki, hand)
            for name, hand in HANDS.items()
        }
        self._old = certified(self._office, checked_at=CHECKED_AT)
        self._later = load_pack(SECOND_TEXT)
        self._signed = cache(self._sign)
        self._evidence = cache(self._collect)
        self._dossier = cache(self._make)
        self._superseding = cache(self._supersede)
        self._trusted = cache(self._trust)

    def play(self, kind: Kind, history: Sequence[Event], *, backwards: bool = False) -> Played:
        """Do everything in its order; `backwards`: the statements are handed over in the opposite one."""
        course = _Course(kind)
        handed: list[tuple[Vote, bytes]] = []
        for event in history:
            if isinstance(event, Sign):
                handed += [self._hand_in(course, event)] * event.times
            else:
                course.do(event)
        if backwards:
            handed.reverse()
        dossier = self._now(course).model_copy(update={"decisions": tuple(der for _vote, der in handed)})
        packs = [self._office.pack, *([] if course.second is None else [self._superseding(*course.second)])]
        key = dossier.revision.csrs[0].spki_sha256
        return Played(
            dossier=dossier,
            register=PackRegister(packs),
            trust=self._trusted(course.revoked, course.at),
            known=KnownKeys(denylisted=frozenset({key} if course.denounced else ())),
            case=Case(
                kind=kind,
                now=course.at,
                revision=course.revision,
                evidence=len(course.collections),
                collected_at=course.collections[-1],
                authors=course.authors,
                made_under=course.pin,
                superseded=course.second is not None,
                grandfathered_until=None if course.second is None else course.second[1],
                revoked=course.revoked,
                denounced=course.denounced,
                checked_at=CHECKED_AT if kind == "merchant-rekey" else None,
                votes=tuple(vote for vote, _der in handed),
            ),
        )

    def _hand_in(self, course: _Course, event: Sign) -> tuple[Vote, bytes]:
        date, signed = course.at + event.dated, course.at + event.signed
        vote = Vote(
            hand=event.hand,
            step=event.step,
            reject=event.reject,
            listed=event.listed,
            readable=event.form == "decision",
            this_case=not event.elsewhere,
            revision=course.revision,
            evidence=len(course.collections),
            date=date,
            signed=signed,
            expires=date + event.lasts,
        )
        return vote, self._signed(_About(self._now(course)), replace(event, times=1), date, signed)

    def _sign(self, about: _About, event: Sign, date: datetime, when: datetime) -> bytes:
        by, dossier = self._hands[event.hand], about.dossier
        if event.form == "order":
            return self._office.revocation(self._old.certificate, by, date=date, signing_time=when)
        if event.form == "denial":
            denial = build_key_denial(KeyDenial(dossier.revision.digest, "found", date))
            return by.sign(CT_KEY_DENIAL, denial, signing_time=when)
        if event.elsewhere:
            revision = dossier.revision.model_copy(update={"application_id": "case-2"})
            # Everything else is the same, so only the id tells the cases apart.
            dossier = _SameDigests(revision, about.dossier)  # type: ignore[assignment]
        fields: dict[str, Any] = {"date": date, "expires": date + event.lasts, "signing_time": when}
        approved, rejected = (
            self._office.decision(dossier, event.step, by, choice=choice, code=code, **fields)
            for choice, code in ((Choice.APPROVE, None), (Choice.REJECT, _code(event, about.dossier)))
        )
        if event.form == "renamed":
            content = parse_signed_data(approved, content_type=CT_DECISION).content
            return by.sign(CT_REVOCATION, content, signing_time=when)
        if event.form == "tampered":
            # A reason as long as the code that an approval has not: nothing but the signature is wrong then.
            fields["reason"] = "." * (len(_code(event, about.dossier)) + 2)
            wanted_as = self._office.decision(dossier, event.step, by, **fields)
            said, wanted = (parse_signed_data(der, content_type=CT_DECISION).content for der in (rejected, wanted_as))
            assert len(said) == len(wanted)
            return rejected.replace(said, wanted)
        return rejected if event.reject else approved

    def _now(self, course: _Course) -> Dossier:
        return self._dossier(
            course.kind, course.revision, course.authors, course.pin, course.second, course.collections
        )

    def _make(
        self,
        kind: Kind,
        number: int,
        authors: tuple[tuple[str, str], ...],
        pin: int,
        second: tuple[datetime, datetime | None] | None,
        collections: tuple[datetime, ...],
    ) -> Dossier:
        dossier = self._bare(
            kind,
            number=number,
            authors=tuple(Author(person=person, organisation=employer) for person, employer in authors),
            cps=CpsPin.of(self._office.pack if pin == 1 or second is None else self._superseding(*second)),
        )
        pieces = tuple(piece for at in collections for piece in self._evidence(kind, at))
        return dossier.model_copy(update={"evidence": pieces})

    def _bare(self, kind: Kind, **changes: Any) -> Dossier:
        office = self._office
        match kind:
            case "officer":
                return office.officer_case(
                    OFFICER.model_copy(update={"person_id": OWN, "roles": ("auditor",)}), **changes
                )
            case "gateway":
                return office.gateway_case(**changes)
            case "cardholder":
                return office.cardholder_case(**changes)
            case "cardholder-at-risk":
                return office.cardholder_case(signals=("bin_unknown",), **changes)
            case "merchant-rekey":
                replaces = {"signing": digest(self._old.certificate)}
                return office.case(MERCHANT, {"signing": NEXT_REQUEST}, replaces=replaces, **changes)
            case "merchant":
                return office.merchant_case(**changes)

    def _collect(self, kind: Kind, at: datetime) -> tuple[Evidence, ...]:
        """The evidence of the case, all of it made at `at`."""
        office = self._office
        if kind == "officer":
            return ()
        if kind == "merchant-rekey":
            return (evidence("old_key", at=at, body=proof(self._old, at=at)),)
        revision = self._bare(kind).revision
        if kind == "gateway":
            bodies = (office.attestation(entry.spki_sha256, at=at) for entry in revision.csrs)
            return tuple(evidence("key_attestation", at=at, body=body) for body in bodies)
        if CASES[kind].member_class == "cardholder":
            return (evidence("issuer_bank_confirmation", at=at, body=office.confirmation(date=at)),)
        answers = (office.answered(revision, check, date=at) for check in ("company_register", "iban_owner"))
        return (evidence("acquirer_agreement", at=at), *answers)

    def _supersede(self, effective: datetime, until: datetime | None) -> Pack:
        on_supersede = "reevaluate" if until is None else Grandfather(grandfather_until=until)
        header = self._later.cps.model_copy(update={"effective": effective, "on_supersede": on_supersede})
        told = hashlib.sha256(f"{effective} {until}".encode()).digest()
        return self._later.model_copy(update={"cps": header, "digest": told})

    def _trust(self, revoked: frozenset[str], now: datetime) -> Trust:
        certificates = [self._hands[name].certificate for name in revoked if not HANDS[name].stranger]
        operations = replace(
            self._pki.operations_ca, revoked={each.serial_number: NOW - MINUTE for each in certificates}
        )
        others = [each for each in self._pki.authorities if each is not self._pki.operations_ca]
        crls = CrlSet([authority.crl(now) for authority in (*others, operations)])
        trust = self._pki.trust(now)
        return Trust(anchors=trust.anchors, intermediates=trust.intermediates, crls=crls)


def _code(event: Sign, dossier: Dossier) -> str:
    """For what it rejects the case: a reason of every class, or one of another class alone."""
    if event.listed:
        return "other"
    return "no_agreement" if dossier.revision.member_class == "cardholder" else "card_in_doubt"


@dataclass(frozen=True)
class _SameDigests:
    """A case under another id, whose decisions are otherwise those of the original."""

    revision_as: Any
    original: Dossier

    @property
    def revision(self) -> Any:
        return _Renamed(self.revision_as.application_id, self.original.revision.digest)

    @property
    def evidence_digest(self) -> bytes:
        return self.original.evidence_digest


@dataclass(frozen=True)
class _Renamed:
    application_id: str
    digest: bytes


class _About:
    """A dossier as a key of a cache: what a decision names of it."""

    def __init__(self, dossier: Dossier) -> None:
        self.dossier = dossier
        self._key = (dossier.revision.digest, dossier.evidence_digest)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _About) and self._key == other._key


def _certificate(pki: PkiFactory, hand: Hand) -> Credential:
    return pki.officer(
        hand.person,
        organisation=hand.employer,
        roles=tuple(sorted(hand.roles)),
        grants=tuple(RoleGrant(each.role, each.scope, each.begins, each.ends) for each in hand.grants),
        not_before=hand.valid_from,
        not_after=hand.valid_until,
    )
