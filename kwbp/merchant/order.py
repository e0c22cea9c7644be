"""M1 and M3 to M8: the buyer's order, judged without any secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes

from kwbp.codes import ErrorCode
from kwbp.common import (
    Received,
    check_live,
    instant,
    read_envelope,
    read_signed,
    require,
    verify_signer,
)
from kwbp.merchant.offer import IssuedInvoice
from kwbp.messages import (
    DualSigTBS,
    InvoiceTBS,
    OIData,
    PReq,
)
from kwbp.structure import decode, encode
from kwbp.wrapper import KwbpMessage, check_header
from pki.cms_enveloped import AuthEnveloped
from pki.der import sha256
from pki.oids import (
    CT_DUAL_SIGNATURE,
    MT_PREQ,
)
from pki.path import Trust
from pki.roles import Role


@dataclass(frozen=True, slots=True)
class ReceivedPurchase:
    """A PReq of known structure (M1). Not verified; look its `xid` up (M2), then call `check_purchase`."""

    preq: PReq
    dual: Received[DualSigTBS]
    envelope: AuthEnveloped

    @property
    def xid(self) -> bytes:
        """The purchase it says it is about."""
        return self.preq.oi_data.xid


def receive_purchase(message: KwbpMessage) -> ReceivedPurchase:
    """M1: structure of a PReq and of what is inside (K1, K2, K4). No signature, no certificate is looked at.

    :param message: from `unwrap(…, expected=[MT_PREQ])`; its RRPID must be fresh (K3, the server's).
    :raises ProtocolError: see `kwbp.checks`.
    """
    preq = decode(PReq, message.body)
    dual = read_signed(DualSigTBS, CT_DUAL_SIGNATURE, preq.dual_sig)
    envelope = read_envelope(preq.pi_envelope)
    check_header(message, MT_PREQ, rrpid=preq.oi_data.rrpid, xid=preq.oi_data.xid)
    return ReceivedPurchase(preq=preq, dual=dual, envelope=envelope)


@dataclass(frozen=True, slots=True)
class CheckedPurchase:
    """A PReq that passed M1 and M3 to M8: the buyer ordered and paid what this merchant offered.

    `dual_signature` and `pi_envelope` go into AuthReq as they came.
    """

    oi: OIData
    h_oi_data: bytes
    dual: DualSigTBS
    dual_signature: bytes
    h_dual_sig: bytes
    pi_envelope: bytes
    issued: IssuedInvoice
    card_certificate: x509.Certificate


def check_purchase(
    received: ReceivedPurchase, *, issued: IssuedInvoice, trust: Trust, now: datetime
) -> CheckedPurchase:
    """M3 to M8, after M1 (`receive_purchase`) and M2 (the server knows the XID, and it is INVOICED).

    :raises ProtocolError: see `kwbp.checks`.
    """
    preq, dual, invoice = received.preq, received.dual.body, issued.invoice
    oi = preq.oi_data
    require(
        (oi.chall_m, oi.chall_c, oi.lid_c, oi.lid_m)
        == (invoice.chall_m, invoice.chall_c, invoice.lid_c, invoice.lid_m),
        ErrorCode.CHALLENGE_MISMATCH,
        "M3",
        "Chall-M, Chall-C and LIDs must be those of the invoice",
    )
    _check_order_information(oi, issued)
    _check_card(received.dual, oi.date, issued, trust=trust, now=now)
    _check_dual_signature(dual, preq, invoice, issued.invoice_hash, now=now)
    _check_envelope(dual, received.envelope, issued)
    return CheckedPurchase(
        oi=oi,
        h_oi_data=dual.h_oi_data,
        dual=dual,
        dual_signature=preq.dual_sig,
        h_dual_sig=received.dual.digest,
        pi_envelope=preq.pi_envelope,
        issued=issued,
        card_certificate=received.dual.signer,
    )


def _check_order_information(oi: OIData, issued: IssuedInvoice) -> None:
    """M4."""
    invoice = issued.invoice
    require(
        oi.invoice_hash == issued.invoice_hash,
        ErrorCode.INVOICE_MISMATCH,
        "M4",
        "invoiceHash must be the hash of the invoice as it was signed",
    )
    require(oi.amount == invoice.amount, ErrorCode.AMOUNT_MISMATCH, "M4", "amount must be that of the invoice")
    require(oi.hod == invoice.hod, ErrorCode.HASH_MISMATCH, "M4", "hod must be that of the invoice")
    require(
        (oi.xid, oi.merchant_id, oi.brand_id, oi.bin)
        == (invoice.xid, invoice.merchant_id, issued.brand_id, issued.bin),
        ErrorCode.INVOICE_MISMATCH,
        "M4",
        "XID, merchant, brand and BIN must be those of the invoice and its request",
    )


def _check_card(
    dual: Received[DualSigTBS], date: asn1.GeneralizedTime, issued: IssuedInvoice, *, trust: Trust, now: datetime
) -> None:
    """M5 and M6; then K7, with the date of OIData, since DualSigTBS has none (M7 ties the two together)."""
    verify_signer(dual, role=Role.CARDHOLDER, trust=trust, now=now, path_check="M5", signature_check="M6")
    require(
        dual.signer.fingerprint(hashes.SHA256()) == issued.card_cert_hash,
        ErrorCode.INVOICE_MISMATCH,
        "M5",
        "order must be signed by the card that asked for the invoice",
    )
    check_live(dual, date, now=now)


def _check_dual_signature(
    dual: DualSigTBS, preq: PReq, invoice: InvoiceTBS, invoice_hash: bytes, *, now: datetime
) -> None:
    """M7."""
    require(
        (dual.h_oi_data, dual.h_pi_data) == (sha256(encode(preq.oi_data)), preq.h_pi_data),
        ErrorCode.HASH_MISMATCH,
        "M7",
        "dual signature must cover this OIData and this H(PIData)",
    )
    require(dual.amount == invoice.amount, ErrorCode.AMOUNT_MISMATCH, "M7", "amount must be that of the invoice")
    require(
        (dual.xid, dual.lid_m, dual.merchant_id, dual.mer_cert_hash, dual.invoice_hash, instant(dual.not_after))
        == (
            invoice.xid,
            invoice.lid_m,
            invoice.merchant_id,
            invoice.mer_cert_hash,
            invoice_hash,
            instant(invoice.not_after),
        ),
        ErrorCode.INVOICE_MISMATCH,
        "M7",
        "dual signature must be about this XID, merchant and invoice",
    )
    require(now <= instant(dual.not_after), ErrorCode.INVOICE_EXPIRED, "M7", "invoice must be in force")


def _check_envelope(dual: DualSigTBS, envelope: AuthEnveloped, issued: IssuedInvoice) -> None:
    """M8: without opening anything, the merchant sees to whom the card data are sealed."""
    invoice, gateway = issued.invoice, issued.gateway
    require(
        (dual.gw_id, dual.gw_cert_hash)
        == (invoice.gw_id, invoice.gw_cert_hash)
        == (gateway.gateway_id, gateway.cert_hash),
        ErrorCode.GATEWAY_MISMATCH,
        "M8",
        "gateway must be the one that the invoice names",
    )
    require(
        dual.h_pi_envelope == envelope.digest and envelope.is_for(gateway.certificate),
        ErrorCode.ENVELOPE_MISMATCH,
        "M8",
        "envelope must be the one that was signed, and sealed to that gateway",
    )
    require(
        envelope.suite in gateway.suites,
        ErrorCode.ENVELOPE_MISMATCH,
        "M8",
        "envelope must use a sealing suite that the gateway's certificate names",
    )
