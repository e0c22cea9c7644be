"""Receipt: two signatures, the merchant's and inside it the gateway's, about one order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kwbp.codes import ErrorCode
from kwbp.coherence import claims_no_more, is_performed
from kwbp.common import (
    Received,
    check_answer,
    read_signed,
    require,
    verify_signer,
)
from kwbp.messages import (
    AuthResTBS,
    ReceiptTBS,
)
from kwbp.parties import MerchantIdentity, gateway_data
from kwbp.wallet.purchase import PurchaseRecord
from kwbp.wrapper import KwbpMessage, check_header
from pki.oids import (
    CT_AUTH_RES,
    CT_RECEIPT,
)
from pki.path import Trust
from pki.roles import Role


@dataclass(frozen=True, slots=True)
class CheckedReceipt:
    """A receipt that passed every check of row 16. `paid`: the gateway approved and the merchant confirms the order."""

    receipt: ReceiptTBS
    auth_res: AuthResTBS
    paid: bool


def check_receipt(message: KwbpMessage, *, purchase: PurchaseRecord, trust: Trust, now: datetime) -> CheckedReceipt:
    """Receipt (row 16): K1, K2, K4 to K7 on the merchant's and the gateway's signature, then R1 to R6 in between.

    A receipt that says "declined" passes as well: look at `paid`. A stored receipt may be sent again later, so its
    signing time has no upper age, but must not lie before the order.

    :param message: from `unwrap(…, expected=[CT_RECEIPT])`.
    :param purchase: from `PurchaseDraft.record`.
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_signed(ReceiptTBS, CT_RECEIPT, message.body)
    receipt = received.body
    answer = read_signed(AuthResTBS, CT_AUTH_RES, receipt.auth_res)
    check_header(message, CT_RECEIPT, rrpid=receipt.rrpid, xid=receipt.xid)
    verify_signer(received, role=Role.MERCHANT, trust=trust, now=now)
    check_answer(received, receipt.date, asked=purchase.ordered_at, now=now)

    merchant = MerchantIdentity.of(received.signer)
    require(
        (merchant.merchant_id, merchant.cert_hash) == (purchase.merchant_id, purchase.mer_cert_hash),
        ErrorCode.INVOICE_MISMATCH,
        "R1",
        "receipt must be signed by the merchant of the invoice, with the same certificate",
    )
    require(
        (receipt.rrpid, receipt.xid, receipt.chall_c) == (purchase.rrpid, purchase.xid, purchase.chall_c),
        ErrorCode.CHALLENGE_MISMATCH,
        "R2",
        "RRPID, XID and Chall-C must be those of the order",
    )
    require(receipt.h_oi_data == purchase.h_oi_data, ErrorCode.HASH_MISMATCH, "R3", "hOIData must be that of the order")
    _check_gateway_answer(answer, purchase, trust=trust, now=now)
    require(
        claims_no_more(receipt, answer.body),
        ErrorCode.INVOICE_MISMATCH,
        "R6",
        "completionCode and particularsOK must agree with the gateway's answer",
    )
    return CheckedReceipt(receipt=receipt, auth_res=answer.body, paid=is_performed(receipt))


def check_gateway_answer(signed: bytes, *, purchase: PurchaseRecord, trust: Trust, now: datetime) -> AuthResTBS:
    """R4 and R5 on an AuthRes (SignedData) that came without a receipt: the gateway told the buyer itself (row 18).

    :raises ProtocolError: see `kwbp.checks`.
    """
    answer = read_signed(AuthResTBS, CT_AUTH_RES, signed)
    _check_gateway_answer(answer, purchase, trust=trust, now=now)
    return answer.body


def _check_gateway_answer(
    answer: Received[AuthResTBS], purchase: PurchaseRecord, *, trust: Trust, now: datetime
) -> None:
    """R4 and R5: the gateway that the card data were sealed to answers about this very order."""
    auth_res = answer.body
    verify_signer(answer, role=Role.GATEWAY_SIGNING, trust=trust, now=now, path_check="R4", signature_check="R4")
    check_answer(answer, auth_res.date, asked=purchase.ordered_at, now=now)
    signer = gateway_data(answer.signer)
    require(
        (signer.gateway_id, signer.acquirer_bin)
        == (auth_res.gw_id, auth_res.acquirer_id)
        == (purchase.gw_id, purchase.acquirer_bin),
        ErrorCode.GATEWAY_MISMATCH,
        "R4",
        "answer must come from the gateway that the card data were sealed to",
    )
    require(
        (auth_res.xid, auth_res.chall_c, auth_res.merchant_id, auth_res.mer_cert_hash)
        == (purchase.xid, purchase.chall_c, purchase.merchant_id, purchase.mer_cert_hash),
        ErrorCode.INVOICE_MISMATCH,
        "R5",
        "gateway's answer must be about this purchase and merchant",
    )
    require(
        auth_res.h_dual_sig == purchase.h_dual_sig,
        ErrorCode.HASH_MISMATCH,
        "R5",
        "gateway's answer must be about this dual signature",
    )
    require(
        auth_res.amount == purchase.amount,
        ErrorCode.AMOUNT_MISMATCH,
        "R5",
        "gateway's answer must be about this amount",
    )
