"""The merchant's side: sign an offer, judge the order, ask for the money, judge the answer, sign the receipt.

The merchant sees the order, never the card. What it holds is enough for all of its checks, and none needs a secret.
M2, M9 and M10 are moves of the order's state and belong to the server.
"""

from __future__ import annotations

from kwbp.merchant.authorisation import CheckedAuthRes, SentAuthReq, build_auth_ack, build_auth_req, check_auth_res
from kwbp.merchant.offer import CheckedInvoiceRequest, InvoiceDraft, IssuedInvoice, build_invoice, check_invoice_request
from kwbp.merchant.order import CheckedPurchase, ReceivedPurchase, check_purchase, receive_purchase
from kwbp.merchant.receipt import build_receipt
from kwbp.parties import GatewayIdentity, MerchantIdentity

__all__ = [
    "CheckedAuthRes",
    "CheckedInvoiceRequest",
    "CheckedPurchase",
    "GatewayIdentity",
    "InvoiceDraft",
    "IssuedInvoice",
    "MerchantIdentity",
    "ReceivedPurchase",
    "SentAuthReq",
    "build_auth_ack",
    "build_auth_req",
    "build_invoice",
    "build_receipt",
    "check_auth_res",
    "check_invoice_request",
    "check_purchase",
    "receive_purchase",
]
