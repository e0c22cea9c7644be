"""PReq: order and payment of one invoice, in one gesture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from kwbp import fields
from kwbp.codes import ErrorCode, SaleKind
from kwbp.commitment import trans_stain
from kwbp.common import (
    Draft,
    instant,
    require,
)
from kwbp.messages import (
    DualSigTBS,
    OIData,
    PANData,
    PIData,
    PIHead,
    PISealed,
    PReq,
)
from kwbp.money import Money
from kwbp.structure import encode
from kwbp.wallet.invoice import CheckedInvoice
from kwbp.wrapper import wrap
from pki.cms_enveloped import seal
from pki.der import sha256
from pki.oids import (
    CT_DUAL_SIGNATURE,
    MT_PREQ,
)
from shetab.types import Cvv2, Expiry, Pan, Pin


@dataclass(frozen=True, slots=True, repr=False)
class Card:
    """A card in the hand of its holder: number, expiry, the two secrets of its certificate, what the holder types.

    `card_secret` and `pan_secret` have 32 bytes each (`kwbp.commitment`). Has no repr.
    """

    pan: Pan
    expiry: Expiry
    card_secret: bytes
    pan_secret: bytes
    pin2: Pin | None = None
    cvv2: Cvv2 | None = None


@dataclass(frozen=True, slots=True)
class PurchaseRecord:
    """What the wallet remembers of an order, to judge the receipt by. Nothing of the card is in it."""

    rrpid: bytes
    xid: bytes
    chall_c: bytes
    h_oi_data: bytes
    h_dual_sig: bytes
    amount: Money
    merchant_id: str
    mer_cert_hash: bytes
    gw_id: str
    acquirer_bin: str
    ordered_at: datetime


@dataclass(frozen=True, slots=True)
class PurchaseDraft:
    """An order before its signature: sign `dual_signature.content`, then send `message(signed)`.

    `oi_data` is the DER of OIData, `h_pi_data` the hash of PIData (which exists nowhere but inside `pi_envelope`).
    """

    dual_signature: Draft[DualSigTBS]
    oi: OIData
    oi_data: bytes
    h_pi_data: bytes
    pi_envelope: bytes
    checked: CheckedInvoice

    def message(self, signed: bytes) -> bytes:
        """DER `KwbpMessage` with the PReq (row 12) around the card's SignedData."""
        body = encode(PReq(oi_data=self.oi, dual_sig=signed, h_pi_data=self.h_pi_data, pi_envelope=self.pi_envelope))
        return wrap(MT_PREQ, body, rrpid=self.oi.rrpid, xid=self.oi.xid)

    def record(self, signed: bytes) -> PurchaseRecord:
        """What to keep for `check_receipt`; `signed` is the card's SignedData."""
        invoice = self.checked.invoice
        return PurchaseRecord(
            rrpid=self.oi.rrpid,
            xid=invoice.xid,
            chall_c=invoice.chall_c,
            h_oi_data=self.dual_signature.body.h_oi_data,
            h_dual_sig=sha256(signed),
            amount=invoice.amount,
            merchant_id=invoice.merchant_id,
            mer_cert_hash=invoice.mer_cert_hash,
            gw_id=invoice.gw_id,
            acquirer_bin=invoice.acquirer_bin,
            ordered_at=instant(self.oi.date),
        )


def build_purchase(
    checked: CheckedInvoice,
    card: Card,
    *,
    rrpid: bytes,
    now: datetime,
    rng: Callable[[int], bytes],
    sale_kind: SaleKind = SaleKind.SALE,
) -> PurchaseDraft:
    """PReq (row 12): OIData, PIData sealed to the gateway of the invoice, and the content of the dual signature.

    Calling this is the buyer's consent to `checked`.

    :param rrpid: 20 fresh random bytes. :param rng: gives n random bytes, for exNonce, content key and nonce.
    :raises ProtocolError: invoiceExpired (W8).
    :raises ValueError: the card is not of the BIN that the invoice was asked for.
    """
    invoice, request = checked.invoice, checked.request
    require(now <= instant(invoice.not_after), ErrorCode.INVOICE_EXPIRED, "W8", "invoice must be in force")
    if not card.pan.has_bin(request.bin):
        raise ValueError("the card is not the one that the invoice was asked for")
    oi = OIData(
        version=fields.VERSION,
        xid=invoice.xid,
        lid_c=invoice.lid_c,
        lid_m=invoice.lid_m,
        chall_c=invoice.chall_c,
        chall_m=invoice.chall_m,
        rrpid=rrpid,
        invoice_hash=checked.invoice_hash,
        hod=invoice.hod,
        amount=invoice.amount,
        merchant_id=invoice.merchant_id,
        brand_id=request.brand_id,
        bin=request.bin,
        date=fields.to_time(now),
    )
    oi_data = encode(oi)
    h_oi_data = sha256(oi_data)
    pi_head = PIHead(
        version=fields.VERSION,
        xid=invoice.xid,
        lid_m=invoice.lid_m,
        merchant_id=invoice.merchant_id,
        mer_cert_hash=invoice.mer_cert_hash,
        gw_id=invoice.gw_id,
        gw_cert_hash=invoice.gw_cert_hash,
        amount=invoice.amount,
        hod=invoice.hod,
        invoice_hash=checked.invoice_hash,
        not_after=invoice.not_after,
        sale_kind=sale_kind,
        trans_stain=trans_stain(card.card_secret, invoice.xid, checked.invoice_hash),
    )
    pan_data = PANData(
        pan=card.pan.reveal(),
        expiry=card.expiry.reveal(),
        pan_secret=card.pan_secret,
        pin2=card.pin2.reveal() if card.pin2 is not None else None,
        cvv2=card.cvv2.reveal() if card.cvv2 is not None else None,
        ex_nonce=rng(32),
    )
    h_pi_data = sha256(encode(PIData(pi_head=pi_head, pan_data=pan_data)))
    plaintext = encode(PISealed(pi_head=pi_head, pan_data=pan_data, h_oi_data=h_oi_data))
    gateway = checked.gateway
    pi_envelope = seal(plaintext, gateway.certificate, gateway.strongest_suite, rng=rng)
    dual = DualSigTBS(
        version=fields.VERSION,
        h_pi_data=h_pi_data,
        h_oi_data=h_oi_data,
        xid=invoice.xid,
        lid_m=invoice.lid_m,
        merchant_id=invoice.merchant_id,
        mer_cert_hash=invoice.mer_cert_hash,
        gw_id=invoice.gw_id,
        gw_cert_hash=invoice.gw_cert_hash,
        amount=invoice.amount,
        invoice_hash=checked.invoice_hash,
        h_pi_envelope=sha256(pi_envelope),
        not_after=invoice.not_after,
        sale_kind=sale_kind,
    )
    return PurchaseDraft(
        dual_signature=Draft.of(CT_DUAL_SIGNATURE, dual, rrpid=rrpid, xid=invoice.xid),
        oi=oi,
        oi_data=oi_data,
        h_pi_data=h_pi_data,
        pi_envelope=pi_envelope,
        checked=checked,
    )
