"""Receipt, with which the merchant ends a purchase."""

from __future__ import annotations

from datetime import datetime

from kwbp import fields
from kwbp.codes import CompletionCode, SaleKind
from kwbp.coherence import leaves_open
from kwbp.common import (
    Draft,
)
from kwbp.merchant.authorisation import CheckedAuthRes
from kwbp.merchant.order import CheckedPurchase
from kwbp.messages import (
    ReceiptTBS,
)
from pki.oids import (
    CT_RECEIPT,
)


def build_receipt(
    purchase: CheckedPurchase,
    answer: CheckedAuthRes,
    *,
    now: datetime,
    particulars_ok: bool = True,
    reason: str | None = None,
) -> Draft[ReceiptTBS]:
    """Receipt (row 16), to be signed by the merchant, with the gateway's signed answer inside.

    completionCode follows from the answer: capturePerformed or authorizationPerformed for an approval that the merchant
    confirms, orderReceived while the outcome is open (noReply, piPreviouslyUsed), orderRejected otherwise.

    :param particulars_ok: False if the merchant gives an approved order back. Without approval it is False anyway.
    :param reason: one line for the buyer, if something is to be said.
    """
    confirmed = answer.approved and particulars_ok
    if confirmed:
        sale = purchase.dual.sale_kind is SaleKind.SALE
        completion = CompletionCode.CAPTURE_PERFORMED if sale else CompletionCode.AUTHORIZATION_PERFORMED
    elif leaves_open(answer.body):
        completion = CompletionCode.ORDER_RECEIVED
    else:
        completion = CompletionCode.ORDER_REJECTED
    body = ReceiptTBS(
        version=fields.VERSION,
        rrpid=purchase.oi.rrpid,
        xid=purchase.oi.xid,
        chall_c=purchase.oi.chall_c,
        h_oi_data=purchase.h_oi_data,
        completion_code=completion,
        particulars_ok=confirmed,
        reason=reason,
        auth_res=answer.signed,
        date=fields.to_time(now),
    )
    return Draft.of(CT_RECEIPT, body, rrpid=body.rrpid, xid=body.xid)
