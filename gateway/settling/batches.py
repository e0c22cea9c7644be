"""BatchAdminReq (row 22): a merchant opens its batches, closes them, asks how they stand.

A request is judged in the transaction that does what it asks for, so no movement of money comes between the sums and
the end of the batch. A batch is not closed while an answer that is dated in it may still become a movement: the refusal
(unknownOutcome) leaves no trace, and the same bytes may be sent again. Closing has the business days of the batch
compared with the switch (`reconciliation`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, insert, select, update

from gateway.merchants import MerchantRegistry, enrolled
from gateway.ports import TrustSource
from gateway.schema import batch_requests, batches, entries
from gateway.settling.book import batches_of, entries_since, undecided
from gateway.settling.entries import summing
from gateway.settling.reconciliation import want
from gateway.signing import AnswerSigner
from gateway.store import OrderStore
from kwbp.codes import BatchOperation, ErrorCode
from kwbp.common import Received, read_signed
from kwbp.errors import ProtocolError
from kwbp.gateway import GatewayIdentity
from kwbp.settling import (
    Batch,
    BatchAdminReqTBS,
    BatchTotals,
    CheckedBatchRequest,
    build_batch_answer,
    check_batch_request,
    is_batch_request_repeated,
    receive_batch_request,
)
from kwbp.structure import decode, encode
from kwbp.wrapper import KwbpMessage
from pki.oids import CT_BATCH_ADMIN_REQ
from pki.path import Trust
from runtime.minute_budget import MinuteBudget

BATCH_REQUESTS_A_MINUTE: Final = 120
"""Of one merchant; each costs the token a signature, and is kept."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that was done, as it is kept: with its answer, if it has one already."""

    request: CheckedBatchRequest
    answer: bytes | None


class BatchRequests:
    """Answers BatchAdminReq."""

    def __init__(
        self,
        identity: GatewayIdentity,
        *,
        orders: OrderStore,
        merchants: MerchantRegistry,
        signer: AnswerSigner,
        trust: TrustSource,
        clock: Callable[[], datetime],
        checkpoint: Callable[[str], None],
        on_close: Callable[[], None],
    ) -> None:
        self._identity = identity
        self._orders = orders
        self._merchants = merchants
        self._signer = signer
        self._trust = trust
        self._clock = clock
        self._checkpoint = checkpoint
        self._on_close = on_close
        self._budget = MinuteBudget(BATCH_REQUESTS_A_MINUTE, clock=clock)

    async def answer(self, tls_merchant_id: str, message: KwbpMessage) -> bytes:
        """BatchAdminRes (DER KwbpMessage) to a request from the merchant at the other end of the TLS connection.

        :raises ProtocolError: see `kwbp.checks`. :raises Problem: 503, send the same again.
        """
        received = receive_batch_request(message)
        if not self._budget.take(tls_merchant_id):
            raise ProtocolError(ErrorCode.RATE_LIMITED, "L1", f"at most {BATCH_REQUESTS_A_MINUTE} requests a minute")
        merchant = enrolled(self._merchants.find(received.body.merchant_id))
        now = self._clock()
        trust = await self._trust.trust(now)

        def job(connection: Connection) -> _Asked:
            summing(connection, received.body.merchant_id)
            known = batches_of(connection, received.body.merchant_id)
            if is_batch_request_repeated(received, merchant, known, tls_merchant_id=tls_merchant_id):
                return _kept(connection, received)
            return self._done(connection, received, trust, now)

        asked = await self._orders.writer.run(job)
        self._checkpoint("batch-kept")
        if asked.answer is not None:
            return asked.answer
        draft = build_batch_answer(asked.request, gateway=self._identity, now=self._clock())
        answer = await self._signer.message(draft)
        self._checkpoint("batch-signed")
        stored = await self._orders.writer.run(lambda connection: _answered(connection, received, answer))
        if received.body.operation is BatchOperation.CLOSE:
            self._on_close()
        return stored

    def _done(
        self, connection: Connection, received: Received[BatchAdminReqTBS], trust: Trust, now: datetime
    ) -> _Asked:
        body = received.body
        known = batches_of(connection, body.merchant_id)
        begins = known.newest.begins if known.newest is not None else None
        checked = check_batch_request(
            received,
            known,
            entries_since(connection, body.merchant_id, begins),
            gateway=self._identity,
            trust=trust,
            now=now,
        )
        if body.operation is BatchOperation.CLOSE:
            if undecided(connection, body.merchant_id, checked.counted_until):
                raise ProtocolError(
                    ErrorCode.UNKNOWN_OUTCOME,
                    "L5",
                    "an answer dated in the batch is not acknowledged, or not signed, yet",
                )
            _want_days(connection, checked, now)
        _keep(connection, checked)
        return _Asked(checked, None)


def _keep(connection: Connection, checked: CheckedBatchRequest) -> None:
    body, batch = checked.body, checked.batch
    this = and_(batches.c.merchant_id == body.merchant_id, batches.c.batch_id == batch.batch_id)
    if body.operation is BatchOperation.OPEN:
        values = {"merchant_id": body.merchant_id, "batch_id": batch.batch_id, "begins": batch.begins}
        connection.execute(insert(batches).values(values))
    elif body.operation is BatchOperation.CLOSE:
        connection.execute(update(batches).where(this).values(until=batch.until))
    connection.execute(
        insert(batch_requests).values(
            merchant_id=body.merchant_id,
            rrpid=body.rrpid,
            request=checked.received.signed.der,
            digest=checked.received.digest,
            batch_id=batch.batch_id,
            begins=batch.begins,
            until=batch.until,
            counted_until=checked.counted_until,
            totals=encode(checked.totals),
        )
    )


def _want_days(connection: Connection, checked: CheckedBatchRequest, now: datetime) -> None:
    """The business days of the batch's movements are to be compared with the switch."""
    merchant_id, batch = checked.body.merchant_id, checked.batch
    inside = and_(entries.c.merchant_id == merchant_id, entries.c.date < checked.counted_until)
    if batch.begins is not None:
        inside = and_(inside, entries.c.date >= batch.begins)
    for day in connection.execute(select(entries.c.business_day).where(inside).distinct()).scalars().all():
        want(connection, merchant_id, date.fromisoformat(day), now)


def _kept(connection: Connection, received: Received[BatchAdminReqTBS]) -> _Asked:
    row: Row[Any] = connection.execute(select(batch_requests).where(_is(received))).one()
    request = CheckedBatchRequest(
        read_signed(BatchAdminReqTBS, CT_BATCH_ADMIN_REQ, row.request),
        Batch(row.batch_id, row.begins, row.until),
        decode(BatchTotals, row.totals),
        row.counted_until,
    )
    return _Asked(request, row.answer)


def _answered(connection: Connection, received: Received[BatchAdminReqTBS], answer: bytes) -> bytes:
    """Keep the answer; of two that were signed at once the first counts."""
    first = and_(_is(received), batch_requests.c.answer.is_(None))
    connection.execute(update(batch_requests).where(first).values(answer=answer))
    return bytes(connection.execute(select(batch_requests.c.answer).where(_is(received))).scalar_one())


def _is(received: Received[BatchAdminReqTBS]) -> Any:
    body = received.body
    return and_(batch_requests.c.merchant_id == body.merchant_id, batch_requests.c.rrpid == body.rrpid)
