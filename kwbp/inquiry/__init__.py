"""Row 18: InqReq and InqRes: how does this purchase stand? Asked by a party to it, answered with a signature.

Answers get lost, and a gateway that heard nothing from the switch says so and gives the money back later. Whoever is
left with an open purchase asks until it is closed: the wallet its merchant, the merchant its gateway. What the asked
party said before comes back as it was said; nothing is said anew but where the purchase stands now.
"""

from __future__ import annotations

from kwbp.inquiry.answer import (
    GIVEN_BACK,
    GatewayStatus,
    MerchantStatus,
    build_inquiry_answer,
    check_gateway_status,
    check_merchant_status,
    read_gateway_status,
)
from kwbp.inquiry.messages import InqReqTBS, InqResTBS
from kwbp.inquiry.request import (
    CheckedInquiry,
    SentInquiry,
    build_inquiry,
    check_inquiry,
    require_card,
    require_merchant,
)

__all__ = [
    "GIVEN_BACK",
    "CheckedInquiry",
    "GatewayStatus",
    "InqReqTBS",
    "InqResTBS",
    "MerchantStatus",
    "SentInquiry",
    "build_inquiry",
    "build_inquiry_answer",
    "check_gateway_status",
    "check_inquiry",
    "check_merchant_status",
    "read_gateway_status",
    "require_card",
    "require_merchant",
]
