"""G9 and G10: opened card data, judged against what was signed in clear."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from kwbp.codes import ErrorCode, SaleKind
from kwbp.commitment import commitment_cn
from kwbp.common import (
    instant,
)
from kwbp.errors import CommitmentError, ProtocolError, SealedContentError
from kwbp.gateway.request import VerifiedOrder
from kwbp.messages import PIData, PIHead, PISealed
from kwbp.structure import decode, encode
from pki.der import sha256
from pki.errors import CertificateError
from pki.names import common_name
from shetab.errors import ValueFormatError
from shetab.jalali import expires_at
from shetab.types import Cvv2, Expiry, Pan, Pin


@dataclass(frozen=True, slots=True)
class OpenedCard:
    """Card data that are what the buyer signed (G9) and belong to the buyer's certificate (G10)."""

    pan: Pan
    expiry: Expiry
    pin2: Pin | None
    cvv2: Cvv2 | None
    sale_kind: SaleKind
    trans_stain: bytes


def check_opened(
    plaintext: bytes, order: VerifiedOrder, *, accepts_bin: Callable[[str], bool], now: datetime
) -> OpenedCard:
    """G9 and G10 on the plaintext of the envelope (DER PISealed).

    :param order: from `check_auth_req` or `check_sealed_order`.
    :param accepts_bin: whether the issuer of a card, by its first six digits, is served.
    :param now: aware; the card must not have expired (its expiry is Jalali, to the end of the month).
    :raises SealedContentError: the same to outsiders whatever the cause: decodingFailure, hashMismatch,
        accountBindingFailure. Holds nothing of the card.
    """
    try:
        sealed = decode(PISealed, plaintext)
    except ProtocolError:
        raise SealedContentError(ErrorCode.DECODING_FAILURE, "G9", "sealed data must be a PISealed in DER") from None
    dual = order.dual
    pi_data = encode(PIData(pi_head=sealed.pi_head, pan_data=sealed.pan_data))
    if not (
        hmac.compare_digest(sha256(pi_data), dual.h_pi_data)
        and hmac.compare_digest(sealed.h_oi_data, dual.h_oi_data)
        and _says_the_same(sealed.pi_head, order)
    ):
        raise SealedContentError(ErrorCode.HASH_MISMATCH, "G9", "sealed data must be what the buyer signed")
    pan_data = sealed.pan_data
    try:
        card = OpenedCard(
            pan=Pan(pan_data.pan),
            expiry=Expiry(pan_data.expiry),
            pin2=Pin(pan_data.pin2) if pan_data.pin2 is not None else None,
            cvv2=Cvv2(pan_data.cvv2) if pan_data.cvv2 is not None else None,
            sale_kind=sealed.pi_head.sale_kind,
            trans_stain=sealed.pi_head.trans_stain,
        )
        expected = commitment_cn(pan_data.pan_secret, card.pan, card.expiry)
        usable = accepts_bin(card.pan.bin) and now < expires_at(card.expiry, now)
        named = common_name(order.cardholder_certificate.subject)
    except (ValueFormatError, CommitmentError, CertificateError):
        raise SealedContentError(ErrorCode.ACCOUNT_BINDING_FAILURE, "G10", "card data must be in form") from None
    if not hmac.compare_digest(expected.encode(), named.encode()):
        raise SealedContentError(
            ErrorCode.ACCOUNT_BINDING_FAILURE, "G10", "card must be the one in the buyer's certificate"
        )
    if not usable:
        raise SealedContentError(
            ErrorCode.ACCOUNT_BINDING_FAILURE, "G10", "card must be of a served issuer and not expired"
        )
    return card


def _says_the_same(head: PIHead, order: VerifiedOrder) -> bool:
    """Each field of PIHead but transStain (the issuer's) against what was signed in clear."""
    dual = order.dual
    return (
        head.xid,
        head.lid_m,
        head.merchant_id,
        head.mer_cert_hash,
        head.gw_id,
        head.gw_cert_hash,
        head.amount,
        head.hod,
        head.invoice_hash,
        instant(head.not_after),
        head.sale_kind,
    ) == (
        dual.xid,
        dual.lid_m,
        dual.merchant_id,
        dual.mer_cert_hash,
        dual.gw_id,
        dual.gw_cert_hash,
        dual.amount,
        order.hod,
        dual.invoice_hash,
        instant(dual.not_after),
        dual.sale_kind,
    )
