"""The buyer's side: ask for an invoice, judge it, order and pay in one gesture, judge the receipt.

What the wallet keeps as evidence: the signed invoice, OrderDetails, OIData, the dual signature, H(PIData), the receipt.
Never PANData.
"""

from __future__ import annotations

from kwbp.parties import GatewayIdentity, MerchantIdentity
from kwbp.wallet.invoice import CheckedInvoice, build_invoice_request, check_invoice
from kwbp.wallet.purchase import Card, PurchaseDraft, PurchaseRecord, build_purchase
from kwbp.wallet.receipt import CheckedReceipt, check_gateway_answer, check_receipt

__all__ = [
    "Card",
    "CheckedInvoice",
    "CheckedReceipt",
    "GatewayIdentity",
    "MerchantIdentity",
    "PurchaseDraft",
    "PurchaseRecord",
    "build_invoice_request",
    "build_purchase",
    "check_gateway_answer",
    "check_invoice",
    "check_receipt",
]
