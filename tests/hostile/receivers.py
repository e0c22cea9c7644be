"""Who receives the messages of a purchase: each party with all of its checks, for whatever an attacker sends it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kwbp.gateway import SentAuthRes
from tests.kwbp.world import Purchase, World

Reader = Callable[..., Any]
"""Takes a message, and what a test wants different (`trust`, `now`)."""


class Receivers:
    """Everybody who receives a message of one purchase, with all of their checks."""

    def __init__(self, world: World, purchase: Purchase) -> None:
        self.merchant_on_request: Reader = world.check_request
        self.wallet_on_invoice: Reader = partial(world.check_invoice, request=purchase.request)
        self.merchant_on_order: Reader = partial(world.check_purchase, issued=purchase.issued)
        self.gateway: Reader = world.check_auth_req
        self.merchant_on_answer: Reader = partial(world.check_answer, sent=purchase.sent)
        self.gateway_on_ack: Reader = partial(world.check_ack, sent=SentAuthRes.load(purchase.auth_res_signed))
        self.wallet_on_receipt: Reader = partial(world.check_receipt, record=purchase.record)

    def honest(self, purchase: Purchase) -> dict[str, tuple[bytes, Reader]]:
        """Every message of the purchase, with whoever receives it."""
        return {
            "InvoiceReq": (purchase.request.message(purchase.request_signed), self.merchant_on_request),
            "Invoice": (purchase.invoice_message, self.wallet_on_invoice),
            "PReq": (purchase.preq_message, self.merchant_on_order),
            "AuthReq": (purchase.auth_req_message, self.gateway),
            "AuthRes": (purchase.auth_res.message(purchase.auth_res_signed), self.merchant_on_answer),
            "AuthAck": (purchase.auth_ack.message(purchase.auth_ack_signed), self.gateway_on_ack),
            "Receipt": (purchase.receipt.message(purchase.receipt_signed), self.wallet_on_receipt),
        }
