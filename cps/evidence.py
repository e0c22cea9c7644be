"""Whether the evidence on file is enough, today.

A document is vouched for by the officers whose decisions sign the digest of the evidence. Signed evidence needs no
such word: the issuing bank's confirmation of a card (CT_CARD_CONFIRMATION) and the token service's attestation of a key
(CT_KEY_ATTESTATION) are verified here, by every service that decides. Of several pieces of one kind, one good one is
enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cps.card_confirmation import parse_card_confirmation
from cps.dossier import CardholderSubject, Dossier, Evidence
from cps.model import EvidenceRule, Pack
from cps.rules import Rule
from cps.signatory import statement_of_service
from cps.verdict import Findings
from pki.attestation import KeyAttestation
from pki.errors import PkiError
from pki.oids import CT_CARD_CONFIRMATION, CT_KEY_ATTESTATION
from pki.path import Trust
from runtime.language import Message, Term


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a piece of evidence does not count."""

    rule: Rule
    told: Message


@dataclass(frozen=True, slots=True)
class _Case:
    dossier: Dossier
    pack: Pack
    trust: Trust
    now: datetime


def check_evidence(dossier: Dossier, pack: Pack, *, trust: Trust, now: datetime, found: Findings) -> datetime | None:
    """Add a finding for each kind of evidence that is missing, too old or not valid.

    Returns the card's expiry where a confirmation states it, else None.
    """
    case = _Case(dossier, pack, trust, now)
    expiry = None
    for rule in pack.classes[dossier.revision.member_class].evidence:
        pieces = [piece for piece in dossier.evidence if piece.kind == rule.kind]
        if not pieces:
            found.add(Rule.EVID_MISSING, "no {kind} on file", kind=Term("evidence", rule.kind))
        elif rule.form == "document":
            _one_good(rule, [_check_document(piece, rule, case) for piece in pieces], found)
        elif rule.form == "key_attestation":
            _check_attestations(pieces, rule, case, found)
        else:
            checked = [_check_confirmation(piece, rule, case) for piece in pieces]
            _one_good(rule, [None if isinstance(item, datetime) else item for item in checked], found)
            expiry = max((item for item in checked if isinstance(item, datetime)), default=None)
    return expiry


def lasts_until(dossier: Dossier, pack: Pack, now: datetime) -> datetime | None:
    """The first instant after `now` at which a document on file is too old; None if none will be.

    Signed evidence has its age inside and is verified, not read, here: it is at most as old as its collection, so what
    this answers of it is never early.
    """
    rules = {rule.kind: rule for rule in pack.classes[dossier.revision.member_class].evidence}
    ends = [
        min(filter(None, (piece.expires_at, piece.collected_at + rules[piece.kind].max_age)))
        for piece in dossier.evidence
        if piece.kind in rules
    ]
    return min((end for end in ends if end > now), default=None)


def _one_good(rule: EvidenceRule, faults: list[Fault | None], found: Findings) -> None:
    bad = [fault for fault in faults if fault is not None]
    if len(bad) == len(faults):
        found.add(bad[-1].rule, "{kind}: {fault}", kind=Term("evidence", rule.kind), fault=bad[-1].told)


def _check_age(made: datetime, rule: EvidenceRule, case: _Case) -> Fault | None:
    if made > case.now + case.pack.clocks.skew:
        return Fault(Rule.EVID_AGE, Message("dated in the future"))
    if case.now - made > rule.max_age:
        return Fault(Rule.EVID_AGE, Message("older than {days} days", days=rule.max_age.days))
    return None


def _check_document(piece: Evidence, rule: EvidenceRule, case: _Case) -> Fault | None:
    if piece.expires_at is not None and case.now >= piece.expires_at:
        return Fault(Rule.EVID_AGE, Message("expired"))
    return _check_age(piece.collected_at, rule, case)


def _check_attestations(pieces: list[Evidence], rule: EvidenceRule, case: _Case, found: Findings) -> None:
    member = case.dossier.revision.member_class
    for entry in case.dossier.revision.csrs:
        if entry.purpose in case.pack.classes[member].csrs.required:
            faults = [_check_attestation(piece, entry.spki_sha256, rule, case) for piece in pieces]
            bad = [fault for fault in faults if fault is not None]
            if len(bad) == len(faults):
                fault = next((fault for fault in bad if fault.rule is not Rule.KEY_TOKEN), bad[-1])
                found.add(
                    fault.rule,
                    "{kind} of the {purpose} key: {fault}",
                    kind=Term("evidence", rule.kind),
                    purpose=Term("purpose", entry.purpose),
                    fault=fault.told,
                )


def _check_attestation(piece: Evidence, spki_sha256: bytes, rule: EvidenceRule, case: _Case) -> Fault | None:
    if piece.body is None:
        return Fault(Rule.EVID_INVALID, Message("not in the dossier"))
    try:
        signed = statement_of_service(
            piece.body, CT_KEY_ATTESTATION, case.pack.signers.key_attestation, trust=case.trust, now=case.now
        )
        attestation = KeyAttestation.from_der(signed.content)
    except PkiError as error:
        return Fault(Rule.EVID_INVALID, Message("{reason}", reason=Term("reason", error.reason)))
    if attestation.spki_sha256 != spki_sha256:
        return Fault(Rule.KEY_TOKEN, Message("none attests this key"))
    if not attestation.born_and_bound_in_token:
        return Fault(Rule.KEY_TOKEN, Message("the key was not made in the token, or can leave it"))
    return _check_age(attestation.at, rule, case)


def _check_confirmation(piece: Evidence, rule: EvidenceRule, case: _Case) -> Fault | datetime:
    subject = case.dossier.revision.subject
    if piece.body is None or not isinstance(subject, CardholderSubject):
        return Fault(Rule.EVID_INVALID, Message("not in the dossier, or not about a card"))
    issuer = case.pack.signers.card_confirmation.format(bin=subject.bin)
    try:
        signed = statement_of_service(piece.body, CT_CARD_CONFIRMATION, issuer, trust=case.trust, now=case.now)
        confirmation = parse_card_confirmation(signed.content)
    except PkiError as error:
        return Fault(Rule.EVID_INVALID, Message("{reason}", reason=Term("reason", error.reason)))
    keys = {entry.spki_sha256 for entry in case.dossier.revision.csrs}
    if (confirmation.commitment, confirmation.bin) != (subject.commitment, subject.bin):
        return Fault(Rule.EVID_CARD, Message("it confirms another card"))
    if {confirmation.spki_sha256} != keys:
        return Fault(Rule.EVID_CARD, Message("it confirms another key"))
    expires_at = confirmation.expires_at.as_datetime()
    if case.now >= expires_at:
        return Fault(Rule.EVID_CARD, Message("the card is expired"))
    return _check_age(confirmation.date.as_datetime(), rule, case) or expires_at
