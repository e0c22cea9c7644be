"""Change the status of certificates by signed orders, and publish it: revoke, suspend, release (CPS 4.9).

Every order goes through `Revocation.apply`, whoever brings it: an officer, the holder by a signature with the very key,
or the issuer bank. The statement says who may (`cps.revocation`) and what may follow what (`cps.status`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from ca.denylist import DeniedKey
from ca.errors import CaError, Finding, RevocationRefusedError, UnknownCertificateError
from ca.hierarchy import Authority, Hierarchy
from ca.publisher import CrlPublisher
from ca.record import Record
from ca.status_store import CoveringList, RevocationRecord, StatusChange, Wanted
from ca.store import CertificateRecord, Store, serial_hex
from cps import decision
from cps.denial import decide_denial
from cps.revocation import Target, decide_revocation
from cps.status import Objection
from cps.verdict import Approval
from cps.verdict import Finding as Broken
from runtime.language import Message, Term, terms
from runtime.logging import get_logger
from statements.published import Statements

SYSTEM: Final = "service:ca"
EVENTS: Final = {"revoked": "ca.revoked", "held": "ca.suspended", "released": "ca.released"}
"""What the journal calls each state that a certificate comes into."""

_log: Final = get_logger("ca.revocation")


@dataclass(frozen=True, slots=True)
class Changed:
    """The status of a certificate after an order, and the first list that shows it.

    `crl` is None while the token is away: the list follows as soon as it is back.
    """

    record: RevocationRecord
    crl: CoveringList | None


class Revocation:
    """Takes orders for one hierarchy."""

    def __init__(
        self,
        *,
        store: Store,
        hierarchy: Hierarchy,
        publisher: CrlPublisher,
        record: Record,
        statements: Statements,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._hierarchy = hierarchy
        self._publisher = publisher
        self._record = record
        self._statements = statements
        self._clock = clock
        self._warned: set[tuple[str, str, datetime]] = set()

    def apply(self, order: bytes) -> Changed:
        """Judge an order (CMS SignedData over RevocationTBS, DER), carry it out, publish it.

        The same order again changes nothing and gives the status as it is. Raises RevocationRefusedError with the CPS's
        findings, UnknownCertificateError.
        """
        now = self._clock()
        pack = self._statements().in_force(now)
        verdict = decide_revocation([order], pack, trust=self._publisher.trust(), now=now, find=self._target)
        stated = verdict.order
        if not verdict.approved or stated is None:
            raise RevocationRefusedError(Message("the order does not count"), _findings(verdict.findings))
        authority = self._authority(stated)
        certificate = self._store.certificate(authority.name, serial_hex(stated.serial))
        wanted = Wanted(
            issuer=authority.name,
            serial=certificate.serial,
            reason=stated.reason,
            ordered_at=stated.date,
            ordered_by=_persons(verdict.approvals),
            order=order,
            invalidity_date=stated.invalidity_date,
            due_at=verdict.publish_by,
        )
        found = self._store.status.apply(
            wanted,
            now.replace(microsecond=0),
            denylist_spki=certificate.spki_sha256 if verdict.denylist_key else None,
        )
        if isinstance(found, Objection):
            clause = pack.clause(found.rule)
            raise RevocationRefusedError(
                Message("the certificate cannot be {change}", change=Term("change", _PARTICIPLE[stated.kind])),
                [Finding(str(found.rule), clause, found.told)],
            )
        self.note(self._store.status.history(found.issuer, found.serial))
        crl = self._publish(found)
        return Changed(replace(found, published=crl is not None), crl)

    def deny(self, orders: Sequence[bytes]) -> DeniedKey:
        """Put a key on the denylist by orders of officers (each CMS SignedData over KeyDenialTBS, DER); CPS 4.9.12.

        The same key again changes nothing. Raises RevocationRefusedError with the CPS's findings.
        """
        now = self._clock()
        pack = self._statements().in_force(now)
        verdict = decide_denial(orders, pack, trust=self._publisher.trust(), now=now)
        denial, findings = verdict.denial, _findings(verdict.findings)
        if not verdict.approved or denial is None:
            step = pack.denylist.steps[0]
            missing = step.count - len(verdict.approvals)
            told = Message(
                "{missing} more of {count} orders by different persons in the roles {roles}",
                missing=missing,
                count=step.count,
                roles=terms("role", step.by),
            )
            clause = f"CPS {pack.denylist.section}"
            raise RevocationRefusedError(
                Message("the key is not denied"), [*findings, Finding("DENY-COUNT", clause, told)]
            )
        spki, by = denial.spki_sha256.hex(), _persons(verdict.approvals)
        found, _fresh = self._store.status.denylist.add(
            spki, reason=denial.reason, at=now.replace(microsecond=0), by=by
        )
        digests: list[str] = [hashlib.sha256(orders[each.decision]).hexdigest() for each in verdict.approvals]
        self._record.note("ca.key-denied", spki, by=found.listed_by or "", orders_sha256=json.dumps(digests))
        return found

    def end_suspensions(self) -> list[RevocationRecord]:
        """What becomes of certificates that were suspended for longer than the CPS lets them be (CPS 4.9.16).

        Revoked, or told in the log once, as the statement says. Returns those that were revoked; they are published
        with the next list. A certificate that is released at this very moment stays released.
        """
        now = self._clock().replace(microsecond=0)
        pack = self._statements().in_force(now)
        rule = pack.suspension
        ended = []
        for held in self._store.status.held_since(now - rule.longest):
            if rule.at_end == "warn":
                self._warn(held, rule.section)
                continue
            wanted = Wanted(
                issuer=held.issuer,
                serial=held.serial,
                reason=rule.reason,
                ordered_at=now,
                ordered_by=SYSTEM,
                order=None,
                invalidity_date=held.invalidity_date,
                due_at=pack.publish_by(rule.reason, now, now),
            )
            found = self._store.status.apply(wanted, now, only_if=held.standing)
            if not isinstance(found, Objection):
                self.note(self._store.status.history(found.issuer, found.serial))
                _log.warning("suspension-ended", issuer=found.issuer, serial=found.serial, reason=found.reason)
                ended.append(found)
        return ended

    def note(self, changes: Sequence[StatusChange]) -> None:
        """Have changes in the journal; those that are there already stay as they are."""
        for each in changes:
            self._record.note(
                EVENTS[each.state],
                change_key(each),
                issuer=each.issuer,
                serial=each.serial,
                reason=each.reason,
                by=each.ordered_by,
                order_sha256="" if each.order is None else hashlib.sha256(each.order).hexdigest(),
            )

    def _target(self, stated: decision.Revocation) -> Target | None:
        try:
            found = self._store.certificate(self._authority(stated).name, serial_hex(stated.serial))
        except CaError:
            return None
        return Target(found.certificate, self._card_bin(found))

    def _card_bin(self, certificate: CertificateRecord) -> str | None:
        intent = None if certificate.intent_id is None else self._store.intent(certificate.intent_id)
        case = None if intent is None else self._store.dossier(intent.revision_digest)
        if case is None or case.member_class != "cardholder":
            return None
        return str(json.loads(case.dossier)["revision"]["subject"]["bin"])

    def _authority(self, stated: decision.Revocation) -> Authority:
        authority = self._hierarchy.by_key_identifier(stated.issuer_key_id)
        if authority is None:
            raise UnknownCertificateError(Message("no authority of ours has this key identifier"), clause="CPS 4.9.3")
        if authority.is_root:
            told = Message("what the root certified is revoked at a ceremony")
            raise RevocationRefusedError(told, [Finding("ROOT", "CPS 4.9.7", told)])
        return authority

    def _publish(self, record: RevocationRecord) -> CoveringList | None:
        covering = self._store.status.covered_by(record.issuer, record.epoch)
        if covering is not None:
            return covering
        try:
            self._publisher.publish(record.issuer)
        except CaError as error:
            # The change is on record: the publisher's clock tries again until the list is out.
            _log.error("revocation-not-published", issuer=record.issuer, serial=record.serial, reason=error.reason)
        return self._store.status.covered_by(record.issuer, record.epoch)

    def _warn(self, held: RevocationRecord, section: str) -> None:
        key = (held.issuer, held.serial, held.revoked_at)
        if key not in self._warned:
            self._warned.add(key)
            _log.error(
                "suspension-too-long",
                issuer=held.issuer,
                serial=held.serial,
                clause=f"CPS {section}",
            )


_PARTICIPLE: Final = {
    decision.Kind.REVOKE: "revoked",
    decision.Kind.SUSPEND: "suspended",
    decision.Kind.RELEASE: "released",
}


def change_key(change: StatusChange) -> str:
    """Under what a change stands in the journal: a serial is revoked once, but may be suspended again and again."""
    return f"{change.issuer}/{change.serial}" + ("" if change.state == "revoked" else f"/{change.epoch}")


def _findings(broken: Sequence[Broken]) -> list[Finding]:
    return [Finding(str(each.code), each.clause, each.told) for each in broken]


def _persons(approvals: Sequence[Approval]) -> str:
    return ", ".join(approval.person for approval in approvals)
