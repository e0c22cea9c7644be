"""What is kept of a purchase, by name; for whoever reads it, with or without the order book."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

TIMESTAMP: Final = "timestamp"
"""Name of the stored TimeStampToken; `ocsp-<hex of the certificate's SHA-256>` is that of an OCSPResponse."""


class Document(StrEnum):
    """What is kept of a purchase."""

    INVOICE_REQUEST = "invoice-request"  # SignedData
    INVOICE = "invoice"  # SignedData
    ORDER_DETAILS = "order-details"  # DER OrderDetails
    INVOICE_ANSWER = "invoice-answer"  # KwbpMessage as it went to the wallet
    PURCHASE = "purchase"  # KwbpMessage with the PReq, as it came
    AUTH_REQ = "auth-req"  # SignedData
    AUTH_RES = "auth-res"  # SignedData
    AUTH_ACK = "auth-ack"  # SignedData
    GATEWAY_ERROR = "gateway-error"  # SignedData
    GATEWAY_STATUS = "gateway-status"  # SignedData: the InqRes that closed an open order
    RECEIPT = "receipt"  # SignedData
    CONTRACT = "contract"  # the order with two signatures, if the buyer handed it over
    RECEIPT_ACK = "receipt-ack"  # SignedData of the buyer, if it came
    ANSWER = "answer"  # KwbpMessage that ended the purchase, as it went to the wallet
