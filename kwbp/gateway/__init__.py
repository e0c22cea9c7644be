"""The gateway's side: believe the merchant, believe the buyer, and only then touch a private key.

The order of the checks is the defence. Everything up to G7 works on public keys and hashes; what comes out is a
`VerifiedOrder`, which nothing else in this package can make, and `check_opened` takes nothing but one. So no card data
are judged, and by the same type no envelope need be opened, for an order that two valid signatures do not stand behind:
a stranger with malformed envelopes never reaches the decryption key (threats 23, 24, 40).

G3, G8 and G11 to G15 need state, a token or the network, and belong to the services.
"""

from __future__ import annotations

from kwbp.gateway.answer import SentAuthRes, build_auth_res, check_auth_ack
from kwbp.gateway.opened import OpenedCard, check_opened
from kwbp.gateway.request import (
    EnrolledMerchant,
    ReceivedAuthReq,
    VerifiedAuthReq,
    VerifiedOrder,
    check_auth_req,
    check_sealed_order,
    check_sender,
    read_auth_req,
    receive_auth_req,
)
from kwbp.parties import GatewayIdentity, MerchantIdentity

__all__ = [
    "EnrolledMerchant",
    "GatewayIdentity",
    "MerchantIdentity",
    "OpenedCard",
    "ReceivedAuthReq",
    "SentAuthRes",
    "VerifiedAuthReq",
    "VerifiedOrder",
    "build_auth_res",
    "check_auth_ack",
    "check_auth_req",
    "check_opened",
    "check_sealed_order",
    "check_sender",
    "read_auth_req",
    "receive_auth_req",
]
