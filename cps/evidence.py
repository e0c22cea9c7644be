"""Whether the evidence on file is enough, today.

A document is vouched for by the officers whose decisions sign the digest of the evidence. Signed evidence needs no
such word: the issuing bank's confirmation of a card (CT_CARD_CONFIRMATION), the token service's attestation of a key
(CT_KEY_ATTESTATION) and the RA's statement of what a register answered (CT_CHECK_ANSWER) are verified here, by every
service that decides. Of several pieces of one kind, one good one is enough; of several answers to one question the
newest counts, so that a confirmation of yesterday does not hide what the register says today.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cps.card_confirmation import parse_card_confirmation
from cps.check_statement import CheckStatement, question_about, question_digest
from cps.dossier import CardholderSubject, Dossier, Evidence, rule_of
from cps.model import EvidenceRule, Pack, Purpose
from cps.moments import after
from cps.rekey import check_possession, purposes_to_prove
from cps.rekey_statement import Rekey
from cps.rules import Rule
from cps.signatory import statement_of_service
from cps.verdict import Findings
from pki.attestation import KeyAttestation
from pki.errors import PkiError
from pki.oids import CT_CARD_CONFIRMATION, CT_CHECK_ANSWER, CT_KEY_ATTESTATION
from pki.path import Trust
from runtime.language import Message, Term

_SECOND: Final = timedelta(seconds=1)  # times of statements are whole seconds


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
    for rule in rule_of(dossier.revision, pack).evidence:
        pieces = [piece for piece in dossier.evidence if piece.kind == rule.kind]
        if rule.form == "check":
            _answered(pieces, rule, case, found)
        elif not pieces:
            found.add(Rule.EVID_MISSING, "no {kind} on file", kind=Term("evidence", rule.kind))
        elif rule.form == "document":
            _one_good(rule, [_check_document(piece, rule, case) for piece in pieces], found)
        elif rule.form == "possession":
            _check_possessions(pieces, rule, case, found)
        elif rule.form == "key_attestation":
            _check_attestations(pieces, rule, case, found)
        else:
            checked = [_check_confirmation(piece, rule, case) for piece in pieces]
            _one_good(rule, [None if isinstance(item, datetime) else item for item in checked], found)
            expiry = max((item for item in checked if isinstance(item, datetime)), default=None)
    return expiry


def lasts_until(dossier: Dossier, pack: Pack, now: datetime) -> datetime | None:
    """The first second after `now` in which a document on file is too old; None if none will be.

    Signed evidence has its age inside and is verified, not read, here: it is at most as old as its collection, so what
    this answers of it is never early.
    """
    asked = rule_of(dossier.revision, pack).evidence
    rules = {kind: rule for rule in asked for kind in (rule.kind, rule.instead) if kind is not None}
    ends = [
        min(filter(None, (piece.expires_at, after(piece.collected_at, rules[piece.kind].max_age + _SECOND))))
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


def _answered(pieces: list[Evidence], rule: EvidenceRule, case: _Case, found: Findings) -> None:
    """Add a finding unless the register confirmed, or stayed silent and a document stands in for it."""
    fault = _check_answers(pieces, rule, case)
    if fault is None:
        return
    member = case.dossier.revision.member_class
    silent = case.pack.silence_of(member, rule.kind) in case.dossier.revision.signals
    if rule.instead is None or not silent or fault.rule is Rule.CHECK_CONTRADICTED:
        found.add(fault.rule, "{kind}: {fault}", kind=Term("evidence", rule.kind), fault=fault.told)
        return
    documents = [_check_document(piece, rule, case) for piece in case.dossier.evidence if piece.kind == rule.instead]
    if documents:
        _one_good(rule, documents, found)
    else:
        found.add(
            Rule.EVID_MISSING,
            "{kind}: the register stayed silent, so {instead} is needed, vouched for by an officer",
            kind=Term("evidence", rule.kind),
            instead=Term("evidence", rule.instead),
        )


def _check_answers(pieces: list[Evidence], rule: EvidenceRule, case: _Case) -> Fault | None:
    revision = case.dossier.revision
    kind = case.pack.check_behind(revision.member_class, rule.kind)
    question = None if kind is None else question_about(revision, kind)
    if kind is None or question is None:
        return Fault(Rule.EVID_INVALID, Message("the revision does not hold what the register would be asked"))
    asked = (revision.application_id, kind, question_digest(revision.application_id, kind, question))
    fault = Fault(Rule.EVID_MISSING, Message("no answer of the register on file"))
    answers: list[CheckStatement] = []
    for piece in pieces:
        read = _read_answer(piece, case)
        if isinstance(read, Fault):
            fault = read
        elif (read.application_id, read.kind, read.question_sha256) != asked:
            fault = Fault(Rule.EVID_INVALID, Message("it answers another question than this revision asks"))
        else:
            answers.append(read)
    if not answers:
        return fault
    newest = max(answers, key=lambda answer: (answer.date, answer.answer == "contradicted"))
    if newest.answer == "contradicted":
        reason = Term("check_reason", newest.reason or "unspecified")
        return Fault(Rule.CHECK_CONTRADICTED, Message("the register says otherwise ({reason})", reason=reason))
    return _check_age(newest.date, rule, case)


def _read_answer(piece: Evidence, case: _Case) -> CheckStatement | Fault:
    if piece.body is None:
        return Fault(Rule.EVID_INVALID, Message("not in the dossier"))
    try:
        signed = statement_of_service(
            piece.body, CT_CHECK_ANSWER, case.pack.signers.system_step, trust=case.trust, now=case.now
        )
        return CheckStatement.from_der(signed.content)
    except PkiError as error:
        return Fault(Rule.EVID_INVALID, Message("{reason}", reason=Term("reason", error.reason)))


def _check_attestations(pieces: list[Evidence], rule: EvidenceRule, case: _Case, found: Findings) -> None:
    required = case.pack.classes[case.dossier.revision.member_class].csrs.required
    for entry in case.dossier.revision.csrs:
        if entry.purpose in required:
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


def _check_possessions(pieces: list[Evidence], rule: EvidenceRule, case: _Case, found: Findings) -> None:
    for purpose in sorted(purposes_to_prove(case.dossier.revision.replaces or {})):
        faults = [_check_possession(piece, purpose, rule, case) for piece in pieces]
        bad = [fault for fault in faults if fault is not None]
        if len(bad) == len(faults):
            fault = next((fault for fault in bad if fault.rule is not Rule.REKEY_PROOF), bad[-1])
            found.add(
                fault.rule,
                "{kind} of the {purpose} key: {fault}",
                kind=Term("evidence", rule.kind),
                purpose=Term("purpose", purpose),
                fault=fault.told,
            )


def _check_possession(piece: Evidence, purpose: Purpose, rule: EvidenceRule, case: _Case) -> Fault | None:
    if piece.body is None:
        return Fault(Rule.EVID_INVALID, Message("not in the dossier"))
    read = check_possession(piece.body, purpose, case.dossier, case.pack, trust=case.trust, now=case.now)
    return _check_age(read.date, rule, case) if isinstance(read, Rekey) else Fault(*read)


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
