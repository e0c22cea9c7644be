"""BatchAdminReq and BatchAdminRes: a merchant opens its batches, closes them, and asks how they stand.

A batch is an interval of time: it begins where the last one ended and holds every movement of money whose answer is
dated in it. Both sides have the same signed answers, so both compute the same sums (`coherence.totals_of`), and a batch
is closed only when they do. What is closed is settled: it can be credited, not taken back (H8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kwbp import fields
from kwbp.codes import BatchOperation, BatchStatus, ErrorCode
from kwbp.common import Draft, Received, check_answer, check_live, instant, read_signed, require, verify_signer
from kwbp.errors import ProtocolError
from kwbp.gateway.request import EnrolledMerchant
from kwbp.parties import GatewayIdentity, MerchantIdentity
from kwbp.settling.coherence import adds_up, answers_what_was_asked, stands_in_time, totals_of, within
from kwbp.settling.parties import is_repeat, require_gateway, require_requester, require_signed_by
from kwbp.settling.statements import BatchAdminReqTBS, BatchAdminResTBS, BatchTotals, Entry
from kwbp.wrapper import KwbpMessage, check_header
from pki.oids import CT_BATCH_ADMIN_REQ, CT_BATCH_ADMIN_RES
from pki.path import Trust
from pki.roles import Role


def build_batch_request(
    operation: BatchOperation,
    batch_id: int,
    *,
    merchant: MerchantIdentity,
    gw_id: str,
    rrpid: bytes,
    now: datetime,
    until: datetime | None = None,
    totals: BatchTotals | None = None,
) -> Draft[BatchAdminReqTBS]:
    """BatchAdminReq (row 22), to be signed by the merchant.

    :param until: where the batch ends, whole seconds, with close; up to when to count, with status if it matters.
    :param totals: with close, `totals_of` the own entries `within` the batch.
    :raises ProtocolError: `until` or `totals` where they do not belong (K1).
    """
    body = BatchAdminReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        merchant_id=merchant.merchant_id,
        gw_id=gw_id,
        batch_id=batch_id,
        operation=operation,
        until=fields.to_time(until) if until is not None else None,
        totals=totals,
        date=fields.to_time(now),
    )
    return Draft.of(CT_BATCH_ADMIN_REQ, body, rrpid=rrpid, xid=None)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of a merchant's: number, beginning (None: the first one), end (None: it is open)."""

    batch_id: int
    begins: datetime | None
    until: datetime | None = None

    @property
    def status(self) -> BatchStatus:
        """Open or closed."""
        return BatchStatus.OPEN if self.until is None else BatchStatus.CLOSED


@dataclass(frozen=True, slots=True)
class Batches:
    """What the gateway's book knows of a merchant's batches: the newest, and every request's hash by its RRPID."""

    merchant_id: str
    newest: Batch | None = None
    requests: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckedBatchRequest:
    """A request that passed L1 to L5. `batch` is how the batch stands when it is answered, `totals` its sums."""

    received: Received[BatchAdminReqTBS]
    batch: Batch
    totals: BatchTotals
    counted_until: datetime

    @property
    def body(self) -> BatchAdminReqTBS:
        """What is asked for."""
        return self.received.body


def receive_batch_request(message: KwbpMessage) -> Received[BatchAdminReqTBS]:
    """K1, K2 and K4 of a BatchAdminReq. No signature is looked at.

    :param message: from `unwrap(…, expected=[CT_BATCH_ADMIN_REQ])`.
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(BatchAdminReqTBS, CT_BATCH_ADMIN_REQ, message.body)
    check_header(message, CT_BATCH_ADMIN_REQ, rrpid=received.body.rrpid, xid=None)
    return received


def is_batch_request_repeated(
    received: Received[BatchAdminReqTBS],
    merchant: EnrolledMerchant | None,
    batches: Batches,
    *,
    tls_merchant_id: str,
) -> bool:
    """L1 and L2. True for the same bytes again, whose answer is the one that they had.

    :param merchant: the registry's record of the merchant that the request names. :param batches: that merchant's.
    :raises ProtocolError: roleNotAllowed (L1), badMessageHeader (L2).
    """
    body = received.body
    require_requester(body.merchant_id, received.signer, merchant, tls_merchant_id=tls_merchant_id, check="L1")
    require(
        batches.merchant_id == body.merchant_id, ErrorCode.ROLE_NOT_ALLOWED, "L1", "batches must be the merchant's own"
    )
    return is_repeat(batches.requests, body.rrpid, received.digest, check="L2")


def check_batch_request(
    received: Received[BatchAdminReqTBS],
    batches: Batches,
    entries: Iterable[Entry],
    *,
    gateway: GatewayIdentity,
    trust: Trust,
    now: datetime,
) -> CheckedBatchRequest:
    """K5 to K7, then L1 and L3 to L5, of a request that is no repeat.

    :param entries: the merchant's movements of money in the gateway's book, at least those since the batch began, read
        in the transaction that closes it: no answer dated before `until` may be signed after that.
    :raises ProtocolError: see `kwbp.checks`; amountMismatch (L5) leaves the batch open.
    """
    body = received.body
    verify_signer(received, role=Role.MERCHANT, trust=trust, now=now)
    check_live(received, body.date, now=now)
    require(
        MerchantIdentity.of(received.signer).merchant_id == body.merchant_id == batches.merchant_id,
        ErrorCode.ROLE_NOT_ALLOWED,
        "L1",
        "request must name its signer",
    )
    require_gateway(received.signer, body.gw_id, gateway, check="L1")
    batch = _in_turn(body, batches.newest)
    until = _end(body, batch, now)
    totals = totals_of(within(entries, begins=batch.begins, until=until))
    if body.operation is BatchOperation.CLOSE:
        require(body.totals == totals, ErrorCode.AMOUNT_MISMATCH, "L5", "totals must be the sums of both books")
        batch = Batch(batch.batch_id, batch.begins, until)
    return CheckedBatchRequest(received, batch, totals, until)


def _in_turn(body: BatchAdminReqTBS, newest: Batch | None) -> Batch:
    """L3."""
    if body.operation is BatchOperation.OPEN:
        last = newest.batch_id if newest is not None else 0
        require(
            body.batch_id == last + 1 and (newest is None or newest.until is not None),
            ErrorCode.INVOICE_MISMATCH,
            "L3",
            "batch to open must be the next one, with none open",
        )
        return Batch(body.batch_id, newest.until if newest is not None else None)
    closing = body.operation is BatchOperation.CLOSE
    if newest is None or newest.batch_id != body.batch_id or (closing and newest.until is not None):
        raise ProtocolError(ErrorCode.INVOICE_MISMATCH, "L3", "batch must be the newest, and open to be closed")
    return newest


def _end(body: BatchAdminReqTBS, batch: Batch, now: datetime) -> datetime:
    """L4: up to when the batch counts."""
    asked = instant(body.until) if body.until is not None else None
    until = batch.until or asked or now.replace(microsecond=0)
    require(
        (batch.begins is None or batch.begins <= until) and until <= now,
        ErrorCode.INVOICE_EXPIRED,
        "L4",
        "batch must end after it began, and not in the future",
    )
    return until


def build_batch_answer(
    request: CheckedBatchRequest, *, gateway: GatewayIdentity, now: datetime
) -> Draft[BatchAdminResTBS]:
    """BatchAdminRes (row 22), to be signed by the gateway, after the book has taken `request.batch` in."""
    asked, batch = request.body, request.batch
    body = BatchAdminResTBS(
        version=fields.VERSION,
        rrpid=asked.rrpid,
        merchant_id=asked.merchant_id,
        h_request=request.received.digest,
        batch_id=batch.batch_id,
        status=batch.status,
        begins=fields.to_time(batch.begins) if batch.begins is not None else None,
        until=fields.to_time(request.counted_until),
        totals=request.totals,
        gw_id=gateway.gateway_id,
        acquirer_id=gateway.acquirer_bin,
        date=fields.to_time(now),
    )
    return Draft.of(CT_BATCH_ADMIN_RES, body, rrpid=body.rrpid, xid=None)


@dataclass(frozen=True, slots=True)
class SentBatchRequest:
    """What the merchant remembers of a request, to judge the answer by."""

    h_request: bytes
    body: BatchAdminReqTBS
    acquirer_bin: str

    @classmethod
    def load(cls, signed: bytes) -> SentBatchRequest:
        """Read it out of the own SignedData as it was sent."""
        received = read_signed(BatchAdminReqTBS, CT_BATCH_ADMIN_REQ, signed)
        return cls(received.digest, received.body, MerchantIdentity.of(received.signer).acquirer_bin)


def check_batch_answer(
    message: KwbpMessage, *, sent: SentBatchRequest, trust: Trust, now: datetime
) -> BatchAdminResTBS:
    """BatchAdminRes (row 22): K1, K2, K4 to K7, then L4 to L8. A stored answer may come again, byte for byte.

    :param message: from `unwrap(…, expected=[CT_BATCH_ADMIN_RES])`.
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(BatchAdminResTBS, CT_BATCH_ADMIN_RES, message.body)
    body, asked = received.body, sent.body
    check_header(message, CT_BATCH_ADMIN_RES, rrpid=body.rrpid, xid=None)
    verify_signer(received, role=Role.GATEWAY_SIGNING, trust=trust, now=now)
    check_answer(received, body.date, asked=instant(asked.date), now=now)
    require(
        (body.h_request, body.rrpid, body.merchant_id, body.batch_id)
        == (sent.h_request, asked.rrpid, asked.merchant_id, asked.batch_id),
        ErrorCode.CHALLENGE_MISMATCH,
        "L6",
        "hash, RRPID, merchant and batch must be those of the request",
    )
    require_signed_by(received.signer, (body.gw_id, body.acquirer_id), (asked.gw_id, sent.acquirer_bin), check="L7")
    require(
        stands_in_time(body), ErrorCode.INVOICE_EXPIRED, "L4", "batch must end after it began, and be answered after"
    )
    require(adds_up(body.totals), ErrorCode.AMOUNT_MISMATCH, "L5", "net must be the sum of the totals")
    require(
        answers_what_was_asked(body, asked),
        ErrorCode.INVOICE_MISMATCH,
        "L8",
        "batch must stand as it was asked for, with the sums of both books",
    )
    return body
