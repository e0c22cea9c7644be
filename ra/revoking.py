"""Orders about certificates on their way to the CA: revoke, suspend, release; and what nobody accepted in time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, NoReturn

from cryptography import x509

from audit import JsonValue
from ca.client import RevocationAnswer
from cps.decide import decide_revocation
from cps.decision import Kind, build_revocation, parse_revocation
from cps.decision import Revocation as RevocationOrder
from cps.dossier import CardholderSubject
from cps.revocation import BY_HOLDER, RevocationVerdict, Target
from cps.rules import Rule
from cps.signatory import open_signed
from cps.verdict import Finding
from pki.extensions import authority_key_id, extensions_of
from pki.keys import spki_sha256
from pki.oids import CT_REVOCATION
from ra.access import SYSTEM, Act, Actor, require
from ra.authority import is_refusal
from ra.desk import Desk
from ra.errors import ConflictError, RefusedError
from ra.handing_in import borrowed
from ra.orders import Orders, OrderUnderWay
from ra.records import Application, Certificate, Passage, RevocationRecord
from ra.reviews import Reviews
from ra.states import CERTIFIED, Action
from ra.states import State as CaseState
from runtime.language import Message
from runtime.logging import get_logger
from runtime.problems import Problem

_AWAY: Final = "ca-unreachable"
_CA: Final = Actor("service:ca")
_LONGEST_NAME: Final = 64  # characters of `ordered_by`
_log: Final = get_logger("ra.revoking")
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
        self._orders = Orders(desk.store.engine)
        self.reviews: Final = Reviews(desk)

    def revoke(self, actor: Actor, statement: bytes) -> Revoked:
        """Pass an order on to the CA. Raises RefusedError naming the clause, Problem if the CA refuses."""
        require(actor, Act.REVIEW)
        foreign = borrowed(actor, statement, CT_REVOCATION, self._desk.pack)
        if foreign is not None:
            self._refuse(actor, [foreign], statement)
        return self._order(actor, statement)

    def revoke_own(self, holder: Actor, statement: bytes) -> Revoked:
        """Pass on what a holder orders by the statement's right of holders; whoever brings it, the key has signed it.

        Raises as `revoke`; RefusedError also for an order that counts by another right.
        """
        return self._order(holder, statement, by=BY_HOLDER)

    def lapse(self, application: Application) -> Application:
        """Revoke the certificates of a case that nobody accepted in time, by the RA's own order (CPS 4.4.1)."""
        desk = self._desk
        for issued in desk.store.certificates(application.id):
            record = desk.store.revocation(issued.issuer, issued.serial)
            if record is None and self._orders.waits(issued.serial, SYSTEM.name):
                continue  # the CA did not answer: it is given that order again, not another one
            if record is None:
                self._order(SYSTEM, self._own_order(x509.load_der_x509_certificate(issued.der)))
            else:  # the process may have ended between the revocation and what follows of it
                self._note(_EVENTS[Kind.REVOKE], SYSTEM, record)
                self._end_case(SYSTEM, record)
        return desk.store.application(application.id)

    def resume(self) -> int:
        """Find out what became of orders whose outcome is not known, and do what follows; returns how many are done."""
        done = 0
        for order in self._orders.under_way():
            try:
                self._carry_out(order, again=True)
                done += 1
            except Problem as problem:
                log = _log.error if is_refusal(problem) else _log.warning
                log("order-not-carried-out", order=order.sha256, serial=order.serial, problem=problem.type)
                if problem.type == _AWAY:
                    break  # nor does it take the others, and each would wait for as long
            except Exception as error:  # one order must not keep the others waiting
                _log.error("order-not-resumed", order=order.sha256, error=type(error).__name__)
        return done

    def _own_order(self, certificate: x509.Certificate) -> bytes:
        key_id = authority_key_id(extensions_of(certificate))
        assert key_id is not None  # every certificate of ours has an authorityKeyIdentifier
        reason = self._desk.pack.acceptance.reason
        order = RevocationOrder(key_id, certificate.serial_number, reason, self._desk.now)
        return self._desk.sign(CT_REVOCATION, build_revocation(order))

    def _order(self, actor: Actor, statement: bytes, *, by: str | None = None) -> Revoked:
        desk = self._desk
        desk.record.catch_up()
        now = desk.now
        verdict = decide_revocation([statement], desk.pack, trust=desk.trust(now), now=now, find=self._target)
        if not verdict.approved or verdict.order is None:
            self._refuse(actor, verdict.findings, statement, verdict.order)
        if by is not None and [each.step for each in verdict.approvals] != [by]:
            told = Message("here a holder orders by the key of the certificate alone")
            found = Finding(Rule.REV_ROLE, desk.pack.clause(Rule.REV_ROLE), told)
            self._refuse(actor, [found], statement, verdict.order)
        review = partial(self.reviews.begin_in, verdict=verdict, statement=statement)
        order, again = self._orders.begin(statement, verdict, actor.name, now, also=review)
        record, answer = self._carry_out(order, again=again)
        return Revoked(verdict, answer.state, record, answer.crl_number)

    def _carry_out(self, order: OrderUnderWay, *, again: bool) -> tuple[RevocationRecord, RevocationAnswer]:
        """Have the CA take an order that is written down, and do all that follows; bears being done again.

        `again`: the CA may have taken it before. Raises Problem if the CA refuses, and the order is forgotten, or if it
        does not answer, and the order is still under way.
        """
        desk, stated = self._desk, parse_revocation(open_signed(order.cms, CT_REVOCATION).content)
        try:
            answer = desk.authority.revoke(order.cms)
        except Problem as problem:
            taken = self._taken_before(order) if again and is_refusal(problem) else None
            if taken is None:
                if is_refusal(problem):
                    self._end_refused(order, problem)
                raise
            answer = taken
        record = RevocationRecord(
            issuer=answer.issuer,
            serial=answer.serial,
            reason=stated.reason,
            cms=order.cms,
            ordered_by=order.ordered_by,
            received_from=order.received_from,
            at=order.received_at,
        )
        actor, kind = Actor(order.received_from), stated.kind
        if kind is Kind.REVOKE:
            desk.store.add_revocation(record, denylisted=self._key_of(record) if order.denylist else None)
        # A certificate is revoked once; it may be suspended and released again and again.
        self._note(_EVENTS[kind], actor, record, once="" if kind is Kind.REVOKE else f"/{order.sha256}")
        self.reviews.taken(order.sha256, answer.issuer)
        if kind is not Kind.REVOKE or self._end_case(actor, record):
            self._orders.end(order)
        return record, answer

    def _taken_before(self, order: OrderUnderWay) -> RevocationAnswer | None:
        """The status that an order brought about, if the CA took it: who signed it may count no longer by now."""
        for issued in self._desk.store.certificates_with_serial(order.serial):
            found = self._status(issued)
            if found is not None and found.order == order.cms:
                return found
        return None

    def _note(self, event: str, actor: Actor, record: RevocationRecord, *, once: str = "") -> None:
        self._desk.record.note_once(
            event,
            f"revocation/{record.issuer}/{record.serial}{once}",
            self._desk.now,
            issuer=record.issuer,
            serial=record.serial,
            reason=record.reason,
            ordered_by=record.ordered_by,
            actor=actor.name,
            statement_sha256=hashlib.sha256(record.cms).hexdigest(),
        )

    def _end_refused(self, order: OrderUnderWay, problem: Problem) -> None:
        """Record what the CA said of an order that counted here, since nobody may be there to be told, and forget it.

        Perhaps the CA refused it because it had revoked the certificate already, by an order that did not come through
        here: then that is recorded, too, and what follows of it is done.
        """
        codes = [str(each["code"]) for each in problem.extra.get("findings", ())]
        actor = Actor(order.received_from)
        self._note_refused(actor, codes or [problem.type], order.sha256, order.serial)
        for issued in self._desk.store.certificates_with_serial(order.serial):
            found = self._status(issued)
            if found is not None and found.state == "revoked":
                self._learn(found)
        self._orders.end(order, also=partial(self.reviews.refused_in, digest=order.sha256))

    def _status(self, issued: Certificate) -> RevocationAnswer | None:
        """The last order that the CA took about a certificate; None if there is none, or it does not know it at all."""
        try:
            return self._desk.authority.look_up(issued.issuer, issued.serial).revocation
        except Problem as problem:
            if is_refusal(problem):
                return None
            raise

    def _learn(self, found: RevocationAnswer) -> None:
        """Take over a revocation that the CA has on record; one that is on record here stays as it is."""
        store = self._desk.store
        learnt = RevocationRecord(
            issuer=found.issuer,
            serial=found.serial,
            reason=found.reason,
            cms=found.order or b"",
            ordered_by=found.ordered_by[:_LONGEST_NAME],
            received_from=_CA.name,
            at=found.revoked_at,
        )
        store.add_revocation(learnt, denylisted=None)  # the CA denies the key by itself
        record = store.revocation(found.issuer, found.serial) or learnt
        self._note(_EVENTS[Kind.REVOKE], Actor(record.received_from), record)
        self._end_case(Actor(record.received_from), record)

    def _refuse(
        self, actor: Actor, findings: Sequence[Finding], statement: bytes, order: RevocationOrder | None = None
    ) -> NoReturn:
        serial = "" if order is None else f"{order.serial:x}"
        self._note_refused(actor, [str(each.code) for each in findings], hashlib.sha256(statement).hexdigest(), serial)
        raise RefusedError(findings)

    def _note_refused(self, actor: Actor, rules: list[str], digest: str, serial: str) -> None:
        """Record each refusal; of the RA's own orders the first about a certificate, since the clock writes others."""
        told: dict[str, JsonValue] = {"action": "revoke", "actor": actor.name, "rules": [*rules]}
        told |= {"serial": serial, "statement_sha256": digest}
        if actor.name == SYSTEM.name:
            self._desk.record.note_once("ra.refused", f"revocation-refused/{serial}", self._desk.now, **told)
        else:
            self._desk.record.note("ra.refused", **told)

    def _end_case(self, actor: Actor, record: RevocationRecord) -> bool:
        """End the case if the last of its certificates is revoked; False: somebody else was faster, look again."""
        store = self._desk.store
        for issued in store.certificates_with_serial(record.serial):
            if issued.issuer != record.issuer:
                continue
            application = store.application(issued.application_id)
            others = store.certificates(application.id)
            if application.state in CERTIFIED and all(store.revocation(each.issuer, each.serial) for each in others):
                passage = Passage(Action.REVOKE, CaseState.REVOKED, {"reason": record.reason})
                try:
                    self._desk.pass_on(application, actor, passage)
                except ConflictError:  # it may have been accepted at this moment
                    return False
        return True

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
