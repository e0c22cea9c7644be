"""What a self-audit checks of each certificate (`ca.self_audit`): pure functions of its exhibit.

| check     | asks                                                                                               |
| --------- | -------------------------------------------------------------------------------------------------- |
| record    | what the row says of the certificate is what the certificate says                                  |
| signature | one of our authorities signed it                                                                   |
| intent    | it is, byte for byte, what was linted and intended                                                 |
| lints     | it keeps the lints that bound when it was made, and they were tried                                |
| profile   | issuer, key and life are within the profile's limits                                               |
| serial    | its serial was reserved for it first                                                               |
| case      | its case is approved again as of then, by the same persons, and asks for this very content         |
| crl       | the newest full list says of it what is on record                                                  |
| ocsp      | so does the OCSP answer that was signed ahead                                                      |
| deadline  | each change of its status was published in time, or may still be                                   |
| journal   | the audit journal has each thing that happened to it                                               |
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from ca.errors import NotApprovedError, RequestError
from ca.lint_rule import binding
from ca.lints import LINTS, lint, twin
from ca.ocsp_answer import CertificateStatus
from ca.orders import orders
from ca.prepare import prepare
from ca.profile import Profile, profiles
from ca.record import instant
from ca.self_audit import Check, Exhibit, Open, Outcome
from ca.signing import verify_bytes
from ca.status_store import StatusChange
from ca.store import Intent, record_of
from cps.decide import decide
from cps.dossier import Dossier
from cps.errors import CpsError
from cps.model import Pack
from pki.crl_entries import Revocation

_NO_INTENT: Final = "it has no intent"
_SECOND: Final = timedelta(seconds=1)


def _record(exhibit: Exhibit) -> Outcome:
    found = exhibit.record
    certificate = found.certificate
    said = record_of(
        certificate, issuer=found.issuer, profile=found.profile, intent_id=found.intent_id, now=found.stored_at
    )
    wrong = [name for name in said.__slots__ if getattr(said, name) != getattr(found, name)]
    return f"the row differs from the certificate in {', '.join(wrong)}" if wrong else None


def _signature(exhibit: Exhibit) -> Outcome:
    if exhibit.issuer is None:
        return "no authority of ours has the key that it names"
    certificate = exhibit.record.certificate
    if certificate.issuer != exhibit.issuer.certificate.subject:
        return f"it does not name {exhibit.issuer.name} as its issuer"
    try:
        verify_bytes(exhibit.issuer.public_key, certificate.signature, certificate.tbs_certificate_bytes)
    except InvalidSignature:
        return f"{exhibit.issuer.name} did not sign it"
    return None


def _intent(exhibit: Exhibit) -> Outcome:
    intent, record = exhibit.intent, exhibit.record
    if intent is None:
        return _NO_INTENT
    if intent.state != "issued":
        return f"its intent is {intent.state}"
    if record.certificate.tbs_certificate_bytes != intent.tbs:
        return "it is not, byte for byte, what was intended"
    if hashlib.sha256(intent.tbs).hexdigest() != intent.tbs_sha256:
        return "the digest of the intent is not that of its bytes"
    said = (intent.issuer, intent.serial, intent.profile, intent.spki_sha256)
    if said != (record.issuer, record.serial, record.profile, record.spki_sha256):
        return "its intent is for another issuer, serial, profile or key"
    return "it was stored before it was intended" if record.stored_at < intent.intended_at else None


def _lints(exhibit: Exhibit) -> Outcome:
    intent, profile, issuer = exhibit.intent, profiles().get(exhibit.record.profile), exhibit.issuer
    if intent is None or profile is None or issuer is None:
        return Open("it has no intent, profile or issuer")
    untried = {rule.code for rule in binding(LINTS, intent.intended_at)} - set(intent.lints)
    if untried:
        return f"it was issued without the lints {', '.join(sorted(untried))}"
    findings = lint(
        exhibit.record.certificate.tbs_certificate_bytes,
        profile,
        issuer=issuer,
        issuer_key=issuer.public_key,
        publication=exhibit.publication,
        now=intent.intended_at,
    )
    return "; ".join(f"{each.message} ({each.code}, {each.clause})" for each in findings) or None


def _profile(exhibit: Exhibit) -> Outcome:
    record, certificate = exhibit.record, exhibit.record.certificate
    profile = profiles().get(record.profile)
    if profile is None:
        return f"there is no profile {record.profile}"
    if profile.issuer != record.issuer:
        return f"the profile is of {profile.issuer}"
    refusal = profile.key.refusal(certificate.public_key())
    if refusal is not None:
        return refusal
    return _life(certificate, profile, exhibit)


def _life(certificate: x509.Certificate, profile: Profile, exhibit: Exhibit) -> Outcome:
    lasts = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if lasts > profile.validity.max:
        return f"it lives for {lasts}, longer than {profile.validity.max}"
    issuer = exhibit.issuer
    if issuer is not None and certificate.not_valid_after_utc > issuer.certificate.not_valid_after_utc:
        return "it outlives its issuer"
    return None


def _serial(exhibit: Exhibit) -> Outcome:
    if exhibit.reserved_at is None:
        return "its serial was not reserved"
    if exhibit.intent is not None and exhibit.reserved_at > exhibit.intent.intended_at + _SECOND:
        return "its serial was reserved after it was intended"
    return None


def _case(exhibit: Exhibit) -> Outcome:
    intent, kept = exhibit.intent, exhibit.dossier
    if intent is None or kept is None:
        return "the case that it rests on is not on record"
    pack = exhibit.pack
    if pack is None:
        return Open("it was judged by another statement")
    if pack is not exhibit.governing:
        return f"it was issued under version {pack.cps.version}, and version {exhibit.governing.cps.version} governed"
    if not exhibit.trusts:
        return Open("the revocation lists of then are not kept any more")
    dossier = Dossier.from_json(kept.dossier)
    if dossier.revision.digest.hex() != intent.revision_digest:
        return "the case on record is another one"
    verdicts = [decide(dossier, pack, trust=trust, now=intent.intended_at) for trust in exhibit.trusts]
    verdict = next((each for each in verdicts if each.approved), None)
    if verdict is None:
        found = "; ".join(f"{each.message} ({each.clause})" for each in verdicts[0].findings)
        return f"its case is {verdicts[0].status.value} as of {instant(intent.intended_at)}: {found or 'not decided'}"
    approved = {(each.step, each.person, instant(each.signed_at)) for each in verdict.approvals}
    noted = {(each["step"], each["person"], each["signed_at"]) for each in intent.approvals}
    if noted != approved:
        return "other persons approve its case than were noted"
    return _asked(exhibit, intent, dossier, pack, verdict.not_after)


def _asked(exhibit: Exhibit, intent: Intent, dossier: Dossier, pack: Pack, not_after: datetime | None) -> Outcome:
    """Whether the case asks for what the certificate says, but its times."""
    certificate, issuer = exhibit.record.certificate, exhibit.issuer
    if issuer is None:
        return Open("it has no intent, profile or issuer")
    try:
        asked_for = orders(dossier, pack, not_after=not_after)
        order = next((each for each in asked_for if each.purpose == intent.purpose), None)
        if order is None or order.profile.name != exhibit.record.profile:
            return "its case asks for no certificate of this purpose and profile"
        tbs = prepare(
            order.profile,
            order.holder,
            issuer=issuer,
            serial=certificate.serial_number,
            now=intent.intended_at,
            publication=exhibit.publication,
        )
    except (CpsError, NotApprovedError, RequestError) as error:
        return f"its case asks for what does not fit a certificate: {error}"
    asked = twin(tbs, issuer.public_key)
    if (asked.subject, asked.public_key()) != (certificate.subject, certificate.public_key()):
        return "its case asks for another subject or key"
    differ = {each.oid for each in asked.extensions} ^ {each.oid for each in certificate.extensions}
    differ |= {each.oid for each in asked.extensions if each not in list(certificate.extensions)}
    names = ", ".join(sorted(each.dotted_string for each in differ))
    return f"its case asks for other extensions: {names}" if differ else None


def _crl(exhibit: Exhibit) -> Outcome:
    listed = exhibit.listed
    if listed is None:
        return Open("there is no full list of its issuer")
    last = next((each for each in reversed(exhibit.history) if each.epoch <= listed.epoch), None)
    expected = None if last is None or last.state == "released" else last.state
    said = None if listed.entry is None else "held" if listed.entry.held else "revoked"
    if said != expected:
        return f"CRL {listed.number} has it as {said or 'not listed'}, on record it is {expected or 'good'}"
    if listed.entry is not None and exhibit.revocation is not None and last is not None:
        return _same_entry(listed.entry, last, exhibit)
    return None


def _same_entry(entry: Revocation, last: StatusChange, exhibit: Exhibit) -> Outcome:
    revocation = exhibit.revocation
    assert revocation is not None  # asked for such only
    if revocation.epoch == last.epoch and entry.at != revocation.revoked_at:
        return f"the list dates it {instant(entry.at)}, on record it is {instant(revocation.revoked_at)}"
    return None


def _ocsp(exhibit: Exhibit) -> Outcome:
    answer = exhibit.answered
    if answer is None:
        return Open("no answer was signed ahead")
    if answer.serial != exhibit.record.certificate.serial_number:
        return "the answer that was signed ahead is about another certificate"
    if _plain(answer.said) != _plain(answer.on_record):
        return f"the answer that was signed ahead says {answer.said.state}, on record it is {answer.on_record.state}"
    return None


def _plain(status: CertificateStatus) -> tuple[str, datetime | None]:
    return status.state, status.revoked_at


def _deadline(exhibit: Exhibit) -> Outcome:
    for each in exhibit.history:
        if each.due_at is not None and (each.published_at or exhibit.now) > each.due_at:
            late = "was published" if each.published_at else "is not published"
            return f"the change to {each.state} of {instant(each.at)} {late}, due by {instant(each.due_at)}"
    return None


def _journal(exhibit: Exhibit) -> Outcome:
    if exhibit.missing is None:
        return Open("the journal of another replica has it")
    return f"the journal lacks {', '.join(exhibit.missing)}" if exhibit.missing else None


CHECKS: Final = (
    Check("record", "CPS 5.4.1", _record),
    Check("signature", "RFC 5280 4.1.1.3", _signature),
    Check("intent", "CPS 4.3.1", _intent),
    Check("lints", "CPS 4.3.1", _lints),
    Check("profile", "CPS 7.1", _profile),
    Check("serial", "CPS 7.1", _serial),
    Check("case", "CPS 4.2", _case),
    Check("crl", "CPS 4.9.7", _crl),
    Check("ocsp", "CPS 4.9.9", _ocsp),
    Check("deadline", "CPS 4.9.5", _deadline),
    Check("journal", "CPS 5.4.1", _journal),
)
"""In the order of the table."""
