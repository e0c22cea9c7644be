"""Screening: what the registers say about a submission before a person looks at it.

Two outcomes: *findings*, which send the application back, and *signals*, observations whose risk the CPS weighs. A pure
function of the content and the facts that the store collected.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cps.dossier import CardholderSubject, GatewaySubject, MerchantSubject, OfficerSubject
from cps.granting import exclusive_at_once
from cps.model import Pack
from cps.rules import Rule
from cps.verdict import Finding, Findings
from pki.extensions import OfficerData
from ra.records import Application
from ra.states import CERTIFIED, DECIDABLE, State
from ra.submission import Content
from runtime.language import terms
from shetab.errors import ShetabError
from shetab.iran import Banks, parse_iban, parse_national_code

MANY: Final = 5
RECENTLY: Final = timedelta(days=1)
# One that was returned is not in hand: two of them would block each other for ever.
_IN_HAND: Final = DECIDABLE | {State.SCREENING, State.ON_HOLD, State.APPROVED, State.ISSUING, State.ISSUE_FAILED}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the registers know: other applications of the same subject; of an officer, what they hold already.

    `other_person` is the person id under which the same human is known, `other_code`: the person id is known by another
    national code.
    """

    others: tuple[Application, ...]
    held: tuple[OfficerData, ...] = ()
    other_person: str | None = None
    other_code: bool = False


@dataclass(frozen=True, slots=True)
class Screening:
    """The outcome."""

    signals: tuple[str, ...]
    findings: tuple[Finding, ...]


def screen(content: Content, facts: Facts, pack: Pack, *, now: datetime) -> Screening:
    """Compare a submission with the registers at `now`; see the module."""
    found = Findings(pack)
    _identity(content, found)
    _duplicates(content, facts, found)
    if isinstance(content.subject, OfficerSubject):
        _person(content.subject, facts, pack, found)
    return Screening(_signals(content, facts, now), found.all())


def _person(subject: OfficerSubject, facts: Facts, pack: Pack, found: Findings) -> None:
    """Exclusion is of persons, so a person has one id, and all their certificates count together (CPS 5.2.4)."""
    if facts.other_person is not None:
        found.add(Rule.APP_DUPLICATE, "the person is known as {person}", person=facts.other_person)
    if facts.other_code:
        found.add(Rule.APP_DUPLICATE, "the person id belongs to somebody else")
    certificates = (*facts.held, subject.certified())
    roles = [role for each in certificates for role in each.roles]
    clash = exclusive_at_once(roles, [grant for each in certificates for grant in each.grants], pack)
    if clash and not exclusive_at_once(subject.roles, subject.grants or (), pack):
        found.add(
            Rule.SOD_EXCLUSIVE, "the person holds the other of {roles} already", roles=terms("role", sorted(clash))
        )


def _identity(content: Content, found: Findings) -> None:
    subject = content.subject
    banks = Banks.load()
    if isinstance(subject, MerchantSubject):
        try:
            if banks.of_iban(parse_iban(subject.iban)) is None:
                found.add(Rule.ID_IBAN, "the IBAN is of no bank that we know")
        except ShetabError:
            found.add(Rule.ID_IBAN, "the check digits of the IBAN are wrong")
    if isinstance(subject, MerchantSubject | GatewaySubject) and banks.of_bin(subject.acquirer_bin) is None:
        found.add(Rule.ID_ACQUIRER, "the acquirer's prefix is of no member bank")
    if content.national_code is not None:
        try:
            parse_national_code(content.national_code)
        except ShetabError:
            found.add(Rule.ID_PERSON, "the national code is none")


def _duplicates(content: Content, facts: Facts, found: Findings) -> None:
    if any(other.state in _IN_HAND for other in facts.others):
        found.add(Rule.APP_DUPLICATE, "the subject has another open application")
    elsewhere = {other.organisation for other in facts.others if other.state in CERTIFIED} - {content.organisation}
    if elsewhere:
        found.add(Rule.APP_DUPLICATE, "the subject is certified for another organisation")


def _signals(content: Content, facts: Facts, now: datetime) -> tuple[str, ...]:
    subject = content.subject
    states = {other.state for other in facts.others}
    recent = sum(now - other.opened_at <= RECENTLY for other in facts.others)
    seen = {
        "bin_unknown": isinstance(subject, CardholderSubject) and Banks.load().of_bin(subject.bin) is None,
        "commitment_certified_before": isinstance(subject, CardholderSubject) and bool(CERTIFIED & states),
        "rejected_before": State.REJECTED in states,
        "many_applications": recent >= MANY,
    }
    return tuple(signal for signal, observed in seen.items() if observed)
