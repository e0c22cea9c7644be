"""Orders about certificates on their way to the CA: revoke, suspend, release; and what nobody accepted in time."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NoReturn

from cryptography import x509

from cps.decide import decide_revocation
from cps.decision import Kind, build_revocation
from cps.decision import Revocation as RevocationOrder
from cps.dossier import CardholderSubject
from cps.revocation import RevocationVerdict, Target
from cps.verdict import Finding
from pki.extensions import authority_key_id, extensions_of
from pki.keys import spki_sha256
from pki.oids import CT_REVOCATION
from ra.access import SYSTEM, Act, Actor, require
from ra.desk import Desk
from ra.errors import ConflictError, RefusedError
from ra.handing_in import borrowed
from ra.reviews import Reviews
from ra.states import CERTIFIED, Action
from ra.states import State as CaseState
from ra.store import Application, Passage, RevocationRecord
from runtime.problems import Problem

_NOT_NOW: Final = 500  # HTTP: from here on the CA did not refuse, it could not
_EVENTS: Final = {Kind.REVOKE: "ra.revoked", Kind.SUSPEND: "ra.suspended", Kind.RELEASE: "ra.released"}


@dataclass(frozen=True, slots=True)
class Revoked:
    """An order that the CA took; `state` is how the certificate stands now."""

    verdict: RevocationVerdict
    state: Literal["revoked", "held", "released"]
    record: RevocationRecord
    crl_number: int | None


class Revoking:
    """Orders about certificates; see the module."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.reviews: Final = Reviews(desk)

    def revoke(self, actor: Actor, statement: bytes) -> Revoked:
        """Pass an order on to the CA. Raises RefusedError naming the clause, Problem if the CA refuses."""
        require(actor, Act.REVIEW)
        foreign = borrowed(actor, statement, CT_REVOCATION, self._desk.pack)
        if foreign is not None:
            self._refuse(actor, [foreign], statement)
        return self._order(actor, statement)

    def lapse(self, application: Application) -> Application:
        """Revoke the certificates of a case that nobody accepted in time, by the RA's own order (CPS 4.4.1)."""
        desk = self._desk
        for issued in desk.store.certificates(application.id):
            record = desk.store.revocation(issued.issuer, issued.serial)
            if record is None:
                self._order(SYSTEM, self._own_order(x509.load_der_x509_certificate(issued.der)))
            else:  # the process may have ended between the revocation and what follows of it
                self._note(_EVENTS[Kind.REVOKE], SYSTEM, record)
                self._end_case(SYSTEM, record)
        return desk.store.application(application.id)

    def _own_order(self, certificate: x509.Certificate) -> bytes:
        key_id = authority_key_id(extensions_of(certificate))
        assert key_id is not None  # every certificate of ours has an authorityKeyIdentifier
        reason = self._desk.pack.acceptance.reason
        order = RevocationOrder(key_id, certificate.serial_number, reason, self._desk.now)
        return self._desk.sign(CT_REVOCATION, build_revocation(order))

    def _order(self, actor: Actor, statement: bytes) -> Revoked:
        desk = self._desk
        desk.record.catch_up()
        now = desk.now
        verdict = decide_revocation([statement], desk.pack, trust=desk.trust(now), now=now, find=self._target)
        digest = hashlib.sha256(statement).hexdigest()
        if not verdict.approved or verdict.order is None:
            self._refuse(actor, verdict.findings, statement)
        review = self.reviews.begin(verdict, statement)
        try:
            answer = desk.authority.revoke(statement)
        except Problem as problem:
            if review is not None and problem.status < _NOT_NOW:
                self.reviews.refused(review)
            raise
        record = RevocationRecord(
            issuer=answer.issuer,
            serial=answer.serial,
            reason=answer.reason,
            cms=statement,
            ordered_by=answer.ordered_by,
            received_from=actor.name,
            at=now,
        )
        kind = verdict.order.kind
        if kind is Kind.REVOKE:
            desk.store.add_revocation(record, denylisted=self._key_of(record) if verdict.denylist_key else None)
        # A certificate is revoked once; it may be suspended and released again and again.
        self._note(_EVENTS[kind], actor, record, once="" if kind is Kind.REVOKE else f"/{digest}")
        if review is not None:
            self.reviews.taken(review, answer.issuer)
        if kind is Kind.REVOKE:
            self._end_case(actor, record)
        return Revoked(verdict, answer.state, record, answer.crl_number)

    def _note(self, event: str, actor: Actor, record: RevocationRecord, *, once: str = "") -> None:
        self._desk.record.note_once(
            event,
            f"revocation/{record.issuer}/{record.serial}{once}",
            issuer=record.issuer,
            serial=record.serial,
            reason=record.reason,
            ordered_by=record.ordered_by,
            actor=actor.name,
            statement_sha256=hashlib.sha256(record.cms).hexdigest(),
        )

    def _refuse(self, actor: Actor, findings: Sequence[Finding], statement: bytes) -> NoReturn:
        self._desk.record.note(
            "ra.refused",
            action="revoke",
            actor=actor.name,
            rules=[str(each.code) for each in findings],
            statement_sha256=hashlib.sha256(statement).hexdigest(),
        )
        raise RefusedError(findings)

    def _end_case(self, actor: Actor, record: RevocationRecord) -> None:
        """The case ends when the last of its certificates is revoked."""
        store = self._desk.store
        for issued in store.certificates_with_serial(record.serial):
            if issued.issuer != record.issuer:
                continue
            application = store.application(issued.application_id)
            others = store.certificates(application.id)
            if application.state in CERTIFIED and all(store.revocation(each.issuer, each.serial) for each in others):
                passage = Passage(Action.REVOKE, CaseState.REVOKED, {"reason": record.reason})
                with contextlib.suppress(ConflictError):  # whoever was faster looks at the same revocations
                    self._desk.pass_on(application, actor, passage)

    def _target(self, order: RevocationOrder) -> Target | None:
        """The certificate that an order is about, if the RA handed it out."""
        store = self._desk.store
        for issued in store.certificates_with_serial(f"{order.serial:x}"):
            certificate = x509.load_der_x509_certificate(issued.der)
            if authority_key_id(extensions_of(certificate)) == order.issuer_key_id:
                revision = store.revision(store.application(issued.application_id))
                subject = None if revision is None else revision.subject
                return Target(certificate, subject.bin if isinstance(subject, CardholderSubject) else None)
        return None

    def _key_of(self, record: RevocationRecord) -> bytes | None:
        return next(
            (
                spki_sha256(x509.load_der_x509_certificate(issued.der).public_key())
                for issued in self._desk.store.certificates_with_serial(record.serial)
                if issued.issuer == record.issuer
            ),
            None,
        )
