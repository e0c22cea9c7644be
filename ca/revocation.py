"""Revoke certificates by an officer's signed order, and publish it (CPS 4.9)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ca.crl_store import CrlRecord
from ca.errors import CaError, Finding, RevocationRefusedError, UnknownCertificateError
from ca.hierarchy import Hierarchy
from ca.publisher import CrlPublisher
from ca.record import Record, instant
from ca.status_store import RevocationRecord, StatusOrder
from ca.store import Store, serial_hex
from cps.decide import decide_revocation
from cps.model import Pack
from runtime.logging import get_logger

_log: Final = get_logger("ca.revocation")


@dataclass(frozen=True, slots=True)
class Revoked:
    """A revocation and the CRL that lists it; None while the token is away: it follows as soon as it is back."""

    record: RevocationRecord
    crl: CrlRecord | None


class Revocation:
    """Takes officers' orders for one hierarchy."""

    def __init__(
        self,
        *,
        store: Store,
        hierarchy: Hierarchy,
        publisher: CrlPublisher,
        record: Record,
        pack: Pack,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._hierarchy = hierarchy
        self._publisher = publisher
        self._record = record
        self._pack = pack
        self._clock = clock

    def revoke(self, order: bytes) -> Revoked:
        """Judge an order (CMS SignedData over RevocationTBS, DER), record it, publish the CRL; the same order again
        gives the same answer.

        Raises RevocationRefusedError with the CPS's findings, UnknownCertificateError.
        """
        now = self._clock()
        verdict = decide_revocation([order], self._pack, trust=self._publisher.trust(), now=now)
        findings = [Finding(str(each.code), each.clause, each.message) for each in verdict.findings]
        if not verdict.approved or verdict.order is None:
            raise RevocationRefusedError("the certificate is not revoked", findings)
        authority = self._hierarchy.by_key_identifier(verdict.order.issuer_key_id)
        if authority is None:
            raise UnknownCertificateError("no authority of ours has this key identifier", clause="CPS 4.9.3")
        if authority.is_root:
            message = "what the root certified is revoked at a ceremony"
            raise RevocationRefusedError(message, [Finding("ROOT", "CPS 4.9.7", message)])
        certificate = self._store.certificate(authority.name, serial_hex(verdict.order.serial))
        wanted = StatusOrder(
            issuer=authority.name,
            serial=certificate.serial,
            state="revoked",
            reason=verdict.order.reason,
            at=now.replace(microsecond=0),
            ordered_by=", ".join(approval.person for approval in verdict.approvals),
            order=order,
            invalidity_date=verdict.order.invalidity_date,
            due_at=verdict.publish_by,
        )
        fresh = self._store.status.add_revocation(
            wanted, denylist_spki=certificate.spki_sha256 if verdict.denylist_key else None
        )
        found = self._store.status.revocation(wanted.issuer, wanted.serial)
        assert found is not None
        if not fresh and found.order != order:
            message = f"it was revoked on {instant(found.revoked_at)} ({found.reason})"
            raise RevocationRefusedError("revoked already", [Finding("REVOKED", "CPS 4.9.3", message)])
        self._record.note(
            "ca.revoked",
            f"{found.issuer}/{found.serial}",
            reason=found.reason,
            by=found.ordered_by,
            order_sha256=hashlib.sha256(order).hexdigest(),
        )
        return Revoked(found, self._publish(found))

    def _publish(self, record: RevocationRecord) -> CrlRecord | None:
        if record.published:
            return self._store.crls.latest(record.issuer)
        try:
            return self._publisher.publish(record.issuer)
        except CaError as error:
            # The revocation is on record: the publisher's clock tries again until the CRL is out.
            _log.error("revocation-not-published", issuer=record.issuer, serial=record.serial, reason=error.reason)
            return None
