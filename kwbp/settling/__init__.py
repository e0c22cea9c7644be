"""Rows 19 to 23: the money after the authorisation. Captured, taken back, credited, counted in batches, paid out.

| module | about |
| --- | --- |
| `messages`, `forms` | the five pairs of rows 19 to 21: structures, content types |
| `book` | what the gateway's order book knows of a purchase, and what a request may do to it |
| `asking`, `request`, `answer` | what merchant and gateway build and check (H, J) |
| `statements` | the structures of rows 22 and 23 |
| `batch`, `advice` | batches (L), the acquirer's settlement advice (N) and its comparison with the merchant's book |
| `coherence`, `parties`, `typed` | rules of signer and reader alike, who asks whom, what a key may sign |

Each request names the one answer that it follows, so that an approval is followed as itself and not as "something about
this purchase"; every approval keeps 0 ≤ refunded ≤ captured ≤ authorised (`Standing`).
"""

from __future__ import annotations

from kwbp.settling.advice import (
    CheckedAdvice,
    Difference,
    DifferenceKind,
    LedgerEntry,
    build_settle_advice,
    check_settle_advice,
    differences,
)
from kwbp.settling.answer import CheckedSettlingAnswer, build_answer, check_settling_answer
from kwbp.settling.asking import (
    Followed,
    SentSettlingRequest,
    build_auth_reversal,
    build_capture,
    build_capture_reversal,
    build_credit,
    build_credit_reversal,
)
from kwbp.settling.batch import (
    Batch,
    Batches,
    CheckedBatchRequest,
    SentBatchRequest,
    build_batch_answer,
    build_batch_request,
    check_batch_answer,
    check_batch_request,
    is_batch_request_repeated,
    receive_batch_request,
)
from kwbp.settling.book import Capture, Credit, Standing, sale_entry
from kwbp.settling.coherence import totals_of, within
from kwbp.settling.forms import ANSWERS, REQUESTS
from kwbp.settling.messages import (
    AuthRevReqTBS,
    CapReqTBS,
    CapRevReqTBS,
    CredReqTBS,
    CredRevReqTBS,
    SettlingReq,
    SettlingResTBS,
)
from kwbp.settling.request import (
    CheckedSettlingRequest,
    SettlingRequest,
    check_request,
    check_requester,
    is_repeated,
    read_request,
    receive_request,
)
from kwbp.settling.statements import (
    AdviceLine,
    BatchAdminReqTBS,
    BatchAdminResTBS,
    BatchTotals,
    Entry,
    KindTotal,
    SettleAdviceTBS,
)

__all__ = [
    "ANSWERS",
    "REQUESTS",
    "AdviceLine",
    "AuthRevReqTBS",
    "Batch",
    "BatchAdminReqTBS",
    "BatchAdminResTBS",
    "BatchTotals",
    "Batches",
    "CapReqTBS",
    "CapRevReqTBS",
    "Capture",
    "CheckedAdvice",
    "CheckedBatchRequest",
    "CheckedSettlingAnswer",
    "CheckedSettlingRequest",
    "CredReqTBS",
    "CredRevReqTBS",
    "Credit",
    "Difference",
    "DifferenceKind",
    "Entry",
    "Followed",
    "KindTotal",
    "LedgerEntry",
    "SentBatchRequest",
    "SentSettlingRequest",
    "SettleAdviceTBS",
    "SettlingReq",
    "SettlingRequest",
    "SettlingResTBS",
    "Standing",
    "build_answer",
    "build_auth_reversal",
    "build_batch_answer",
    "build_batch_request",
    "build_capture",
    "build_capture_reversal",
    "build_credit",
    "build_credit_reversal",
    "build_settle_advice",
    "check_batch_answer",
    "check_batch_request",
    "check_request",
    "check_requester",
    "check_settle_advice",
    "check_settling_answer",
    "differences",
    "is_batch_request_repeated",
    "is_repeated",
    "read_request",
    "receive_batch_request",
    "receive_request",
    "sale_entry",
    "totals_of",
    "within",
]
