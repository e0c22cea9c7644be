"""What a merchant asks for after the authorisation, with all of its own checks, over a real gateway."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime
from typing import Any

from kwbp.codes import BatchOperation, ReversalReason, SaleKind
from kwbp.common import Draft
from kwbp.messages import ErrorTBS
from kwbp.money import Money
from kwbp.settling import (
    ANSWERS,
    BatchAdminResTBS,
    BatchTotals,
    CheckedSettlingAnswer,
    Followed,
    SentBatchRequest,
    SentSettlingRequest,
    build_auth_reversal,
    build_batch_request,
    build_capture,
    build_capture_reversal,
    build_credit,
    build_credit_reversal,
    check_batch_answer,
    check_settling_answer,
)
from kwbp.structure import encode
from kwbp.wrapper import unwrap
from pki.oids import CT_BATCH_ADMIN_RES, CT_CAP_RES, CT_CRED_RES
from tests.support.payment_parties import Buyer, Purchase, Shop, error_of, now, signed_by
from tests.support.payment_site import GATEWAY_ID, Site


def collected(site: Site, url: str, shop: Shop, buyer: Buyer, amount: int, *, hold: bool = False) -> Collected:
    """An order that was approved and acknowledged."""
    purchase = site.purchase(shop, buyer, amount, sale_kind=SaleKind.AUTH_ONLY if hold else SaleKind.SALE)
    answer = shop.collect(url, purchase)
    checked = purchase.checked_answer(answer)
    assert checked.approved
    assert shop.acknowledge(url, purchase.ack(answer)) == b""
    return Collected(url, purchase, Followed.authorisation(checked.signed), checked.signed)


class Collected:
    """An order, and what may be asked for about it."""

    def __init__(self, url: str, purchase: Purchase, authorisation: Followed, auth_res: bytes) -> None:
        self.url = url
        self.purchase = purchase
        self.shop = purchase.shop
        self.authorisation = authorisation
        self.auth_res = auth_res

    # --- drafts -----------------------------------------------------------------------------------------------------

    def capture(self, amount: int) -> Draft[Any]:
        return build_capture(self.authorisation, Money.rial(amount), **_fresh())

    def capture_reversal(self, capture: Followed) -> Draft[Any]:
        return build_capture_reversal(capture, **_fresh())

    def auth_reversal(self, left: int) -> Draft[Any]:
        reason = ReversalReason.NOT_DELIVERABLE
        return build_auth_reversal(self.authorisation, Money.rial(left), reason=reason, **_fresh())

    def credit(self, amount: int, captured: Followed | None = None) -> Draft[Any]:
        return build_credit(captured or self.authorisation, Money.rial(amount), **_fresh())

    def credit_reversal(self, credit: Followed) -> Draft[Any]:
        return build_credit_reversal(credit, **_fresh())

    # --- asking -----------------------------------------------------------------------------------------------------

    def ask(self, draft: Draft[Any], **changes: Any) -> CheckedSettlingAnswer:
        """Ask once, and judge the answer as the merchant does."""
        message = request_message(self.shop, draft, **changes)
        return self.judged(draft, message, self.sent(message))

    def sent(self, message: bytes) -> bytes:
        """What comes back to these bytes; it must be a protocol message."""
        return answered(self.shop, self.url, message)

    def judged(self, draft: Draft[Any], message: bytes, answer: bytes) -> CheckedSettlingAnswer:
        sent = SentSettlingRequest.load(draft.content_type, unwrap(message, expected=(draft.content_type,)).body)
        return check_settling_answer(
            unwrap(answer, expected=(sent.answer_type,)), sent=sent, trust=self.shop.site.pki.trust(now()), now=now()
        )

    def done(self, draft: Draft[Any]) -> Followed:
        """Ask; it must be approved. What may be followed then."""
        answer = self.ask(draft)
        assert answer.approved, answer.body
        follow = {CT_CAP_RES: Followed.capture, CT_CRED_RES: Followed.credit}.get(ANSWERS[draft.content_type])
        return self.authorisation if follow is None else follow(answer.signed)

    def refused(self, draft: Draft[Any], **changes: Any) -> ErrorTBS:
        """Ask; it must be refused with a signed Error."""
        message = request_message(self.shop, draft, **changes)
        return error_of(self.sent(message), message, self.shop.site)


def _fresh() -> dict[str, Any]:
    return {"rrpid": os.urandom(20), "now": now()}


def changed(draft: Draft[Any], **changes: Any) -> Draft[Any]:
    """The draft with other fields."""
    body = replace(draft.body, **changes)
    return replace(draft, body=body, content=encode(body), rrpid=body.rrpid, xid=body.xid)


def request_message(shop: Shop, draft: Draft[Any], **changes: Any) -> bytes:
    """The request, signed by the shop, with other fields if asked for."""
    draft = changed(draft, **changes) if changes else draft
    return draft.message(signed_by(shop.credential, draft))


def answered(shop: Shop, url: str, message: bytes) -> bytes:
    """What comes back to these bytes; it must be a protocol message."""
    response = shop.post(url, "/v1/settling", message)
    assert response.status_code == 200, (response.status_code, response.text)
    return response.content


def batch_draft(
    shop: Shop,
    operation: BatchOperation,
    batch_id: int,
    *,
    until: datetime | None = None,
    totals: BatchTotals | None = None,
) -> Draft[Any]:
    return build_batch_request(
        operation, batch_id, merchant=shop.identity, gw_id=GATEWAY_ID, until=until, totals=totals, **_fresh()
    )


def batch_answer(shop: Shop, message: bytes, answer: bytes, draft: Draft[Any]) -> BatchAdminResTBS:
    sent = SentBatchRequest.load(unwrap(message, expected=(draft.content_type,)).body)
    return check_batch_answer(
        unwrap(answer, expected=(CT_BATCH_ADMIN_RES,)), sent=sent, trust=shop.site.pki.trust(now()), now=now()
    )


def batch(shop: Shop, url: str, draft: Draft[Any]) -> BatchAdminResTBS:
    """Ask once, and judge the answer as the merchant does."""
    message = request_message(shop, draft)
    return batch_answer(shop, message, answered(shop, url, message), draft)
