"""Orders that one officer gave alone, and the review by another within the time that the CPS sets (CPS 4.9.3).

A row is written with the order itself (`ra.orders`), before the CA gets it, so no order slips by without one; the alarm
(`ra.review-due` in the journal, from which notices are made) follows when the CA has taken it. A review that is late is
told once and stays on the list until somebody has signed it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, Connection, Index, LargeBinary, String, Table, delete, select, update

from cps.review import decide_review
from cps.revocation import RevocationVerdict
from pki.oids import CT_REVIEW
from ra.access import Act, Actor, require
from ra.desk import Desk
from ra.errors import ConflictError, RefusedError, UnknownError
from ra.handing_in import borrowed
from ra.schema import UtcTime, metadata
from runtime.database import insert_new

reviews: Final = Table(
    "reviews",
    metadata,
    Column("order_sha256", String(64), primary_key=True),
    Column("issuer_key_id", String(128), nullable=False),
    Column("issuer", String(64), nullable=True),  # the authority by its name, as the CA said when it took the order
    Column("serial", String(40), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("ordered_by", String(80), nullable=False),
    Column("order_cms", LargeBinary, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("cms", LargeBinary, nullable=True),
    Column("judgement", String(16), nullable=True),
    Column("reviewed_by", String(80), nullable=True),
    Column("reviewed_at", UtcTime, nullable=True),
    Index("reviews_open", "reviewed_at", "due_at"),
)


@dataclass(frozen=True, slots=True)
class ReviewRecord:
    """An order and its review: `order_cms` and `cms` are CMS SignedData (DER), the last four None until reviewed.

    `issuer` is None until the CA has taken the order.
    """

    order_sha256: str
    issuer_key_id: str
    issuer: str | None
    serial: str
    reason: str
    ordered_by: str
    order_cms: bytes
    due_at: datetime
    cms: bytes | None
    judgement: str | None
    reviewed_by: str | None
    reviewed_at: datetime | None


class Reviews:
    """The list of orders to be looked at again."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._engine = desk.store.engine

    def begin_in(self, db: Connection, verdict: RevocationVerdict, statement: bytes) -> None:
        """Write down that an order needs a review, if it does, in the transaction that writes the order down.

        One needs it that a single officer gave: not by right of the holder, of the bank, or of the system.
        """
        desk, order = self._desk, verdict.order
        pack = desk.pack
        if order is None or [each.step for each in verdict.approvals] != [pack.revocation[order.reason].steps[0].name]:
            return
        digest = hashlib.sha256(statement).hexdigest()
        values: dict[str, Any] = {
            "order_sha256": digest,
            "issuer_key_id": order.issuer_key_id.hex(),
            "serial": f"{order.serial:x}",
            "reason": order.reason,
            "ordered_by": verdict.approvals[0].person,
            "order_cms": statement,
            "due_at": desk.now + pack.review.within,
        }
        insert_new(db, reviews, **values)

    def taken(self, digest: str, issuer: str) -> None:
        """Raise the alarm if the order needs a review: the CA has taken it, about a certificate of `issuer`."""
        with self._engine.begin() as db:
            found = db.execute(update(reviews).where(reviews.c.order_sha256 == digest).values(issuer=issuer)).rowcount
        if found:
            self._tell(self.get(digest), "ra.review-due")

    def refused_in(self, db: Connection, digest: str) -> None:
        """Forget an order that the CA refused, unless it took it before; in the transaction that forgets it."""
        db.execute(delete(reviews).where(reviews.c.order_sha256 == digest, reviews.c.issuer.is_(None)))

    def get(self, digest: str) -> ReviewRecord:
        """An order on the list by its SHA-256 (hexadecimal); raises UnknownError."""
        with self._engine.begin() as db:
            row = db.execute(select(reviews).where(reviews.c.order_sha256 == digest)).one_or_none()
        if row is None:
            raise UnknownError("there is no such order to review")
        return ReviewRecord(**row._mapping)

    def open(self, *, limit: int = 200) -> list[ReviewRecord]:
        """Orders that nobody has reviewed, the most urgent first."""
        query = select(reviews).where(reviews.c.reviewed_at.is_(None)).order_by(reviews.c.due_at).limit(limit)
        with self._engine.begin() as db:
            return [ReviewRecord(**row._mapping) for row in db.execute(query).all()]

    def review(self, actor: Actor, digest: str, statement: bytes) -> ReviewRecord:
        """Take a signed review (CMS over ReviewTBS, DER); the same again changes nothing.

        Raises UnknownError, NotAllowedError, RefusedError naming the clause, ConflictError if another one came first.
        """
        require(actor, Act.REVIEW)
        desk = self._desk
        record = self.get(digest)
        if record.cms == statement:
            return record
        foreign = borrowed(actor, statement, CT_REVIEW, desk.pack)
        now = desk.now
        verdict = decide_review(statement, record.order_cms, desk.pack, trust=desk.trust(now), now=now)
        findings = verdict.findings if foreign is None else (foreign,)
        if findings or verdict.review is None:
            desk.record.note(
                "ra.refused",
                action="review",
                actor=actor.name,
                rules=[str(each.code) for each in findings],
                statement_sha256=hashlib.sha256(statement).hexdigest(),
            )
            raise RefusedError(findings)
        judgement = verdict.review.judgement.name.lower()
        values = {"cms": statement, "judgement": judgement, "reviewed_by": verdict.person, "reviewed_at": now}
        with self._engine.begin() as db:
            db.execute(
                update(reviews)
                .where(reviews.c.order_sha256 == digest, reviews.c.reviewed_at.is_(None))  # the first one counts
                .values(**values)
            )
        record = self.get(digest)
        self._note_reviewed(record)
        if record.cms != statement:
            raise ConflictError("{person} has reviewed this order already", person=record.reviewed_by)
        return record

    def sweep(self) -> int:
        """Tell of reviews that are late, and what a process that died did not tell; returns how many are late."""
        now, late = self._desk.now, 0
        for record in self._of_interest():
            if record.reviewed_at is not None:
                self._note_reviewed(record)
                continue
            self._tell(record, "ra.review-due")
            if record.due_at <= now:
                late += 1
                self._tell(record, "ra.review-late")
        return late

    def _of_interest(self) -> Sequence[ReviewRecord]:
        """What is open, and what was reviewed since yesterday: its entry may be missing."""
        since = self._desk.now - self._desk.pack.review.within
        query = (
            select(reviews)
            .where(reviews.c.issuer.is_not(None), reviews.c.reviewed_at.is_(None) | (reviews.c.reviewed_at >= since))
            .limit(1000)
        )
        with self._engine.begin() as db:
            return [ReviewRecord(**row._mapping) for row in db.execute(query).all()]

    def _tell(self, record: ReviewRecord, event: str) -> None:
        self._desk.record.note_once(
            event,
            f"{event}/{record.order_sha256}",
            self._desk.now,
            issuer=record.issuer,
            serial=record.serial,
            reason=record.reason,
            ordered_by=record.ordered_by,
            review_by=record.due_at.isoformat(),
            order_sha256=record.order_sha256,
        )

    def _note_reviewed(self, record: ReviewRecord) -> None:
        assert record.cms is not None  # it was reviewed
        self._desk.record.note_once(
            "ra.reviewed",
            f"ra.reviewed/{record.order_sha256}",
            self._desk.now,
            serial=record.serial,
            order_sha256=record.order_sha256,
            judgement=record.judgement,
            reviewed_by=record.reviewed_by,
            review_sha256=hashlib.sha256(record.cms).hexdigest(),
        )
