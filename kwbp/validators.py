"""What a signing service asks before a key signs a protocol content: is it in form, and does it speak for this key?

One function a content type: `(content, signer_certificate) -> None`, where `content` is the DER to be signed. It reads
the content as strictly as its receiver will, reads the signed objects that the content carries along, and compares the
party that the content names with the party that the certificate names. So a merchant's key cannot be talked into
signing another merchant's invoice, nor the gateway's into an approval without references. Whether the statement is
*true* is for the caller to know; no signature of an object inside is verified here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from cryptography import x509

from kwbp.coherence import carries_references, claims_no_more, tells_one_story
from kwbp.common import instant, read_envelope, read_signed
from kwbp.gateway_certificates import PCertReqTBS, PCertResTBS
from kwbp.holder.messages import CertInqReqTBS, CertInqResTBS, RenewReqTBS, RenewResTBS, RevReqTBS
from kwbp.holder.request import HOLDERS
from kwbp.inquiry.answer import GIVEN_BACK
from kwbp.inquiry.messages import InqReqTBS, InqResTBS
from kwbp.messages import (
    AuthAckTBS,
    AuthReqTBS,
    AuthResTBS,
    DualSigTBS,
    ErrorTBS,
    InvoiceReqTBS,
    InvoiceTBS,
    ReceiptTBS,
)
from kwbp.parties import MerchantIdentity, gateway_data
from kwbp.password.messages import OTPReqTBS, OTPResTBS
from kwbp.receipt_ack import ReceiptAckTBS
from kwbp.registration.messages import CardConfirmReqTBS, CertResTBS, InitResTBS, RegFormResTBS
from kwbp.registration.signers import RA
from kwbp.settling.typed import TYPED
from kwbp.signing import merchant_of as _merchant
from kwbp.signing import require_role as _require_role
from kwbp.signing import require_statement as _require
from kwbp.structure import Structure, decode
from kwbp.wrapper import unwrap
from pki.names import identity_uris
from pki.oids import (
    CT_AUTH_ACK,
    CT_AUTH_REQ,
    CT_AUTH_RES,
    CT_CARD_CONFIRM_REQ,
    CT_CARD_INIT_RES,
    CT_CERT_INQ_REQ,
    CT_CERT_INQ_RES,
    CT_CERT_RES,
    CT_DUAL_SIGNATURE,
    CT_ERROR,
    CT_GW_CERT_RES,
    CT_INQ_REQ,
    CT_INQ_RES,
    CT_INVOICE,
    CT_INVOICE_REQ,
    CT_MER_CERT_RES,
    CT_MER_INIT_RES,
    CT_OTP_REQ,
    CT_OTP_RES,
    CT_P_CERT_REQ,
    CT_P_CERT_RES,
    CT_RECEIPT,
    CT_RECEIPT_ACK,
    CT_REG_FORM_RES,
    CT_RENEW_REQ,
    CT_RENEW_RES,
    CT_REV_REQ,
)
from pki.roles import Role, role_of

Validator = Callable[[bytes, x509.Certificate], None]


def validate_invoice_req(content: bytes, signer: x509.Certificate) -> None:
    """InvoiceReqTBS, for a card's key. The content names no card, so only form and role are judged."""
    _require_role(signer, Role.CARDHOLDER)
    decode(InvoiceReqTBS, content)


def validate_dual_signature(content: bytes, signer: x509.Certificate) -> None:
    """DualSigTBS, for a card's key. The content names no card, so only form and role are judged."""
    _require_role(signer, Role.CARDHOLDER)
    decode(DualSigTBS, content)


def validate_invoice(content: bytes, signer: x509.Certificate) -> None:
    """InvoiceTBS names the merchant, certificate and acquirer of the key, and stands for some time."""
    merchant = _merchant(signer)
    invoice = decode(InvoiceTBS, content)
    _require_invoice_of(merchant, invoice)
    _require(instant(invoice.issued_at) < instant(invoice.not_after), "invoice must stand for some time")


def validate_auth_req(content: bytes, signer: x509.Certificate) -> None:
    """AuthReqTBS names the merchant of the key and asks for what the invoice and the order inside it say."""
    merchant = _merchant(signer)
    request = decode(AuthReqTBS, content)
    invoice = read_signed(InvoiceTBS, CT_INVOICE, request.invoice)
    dual = read_signed(DualSigTBS, CT_DUAL_SIGNATURE, request.dual_sig).body
    envelope = read_envelope(request.pi_envelope)
    _require_invoice_of(merchant, invoice.body)
    _require(
        request.merchant_id == merchant.merchant_id and invoice.signer == signer,
        "request and invoice must be the key's own merchant's",
    )
    _require(
        (request.xid, request.amount, request.hod) == (invoice.body.xid, invoice.body.amount, invoice.body.hod),
        "request must ask for what the invoice says",
    )
    _require(
        (dual.xid, dual.amount, dual.invoice_hash, dual.h_oi_data, dual.h_pi_envelope)
        == (request.xid, request.amount, invoice.digest, request.h_oi_data, envelope.digest),
        "request must ask for what the buyer signed",
    )


def validate_auth_ack(content: bytes, signer: x509.Certificate) -> None:
    """AuthAckTBS names the merchant of the key."""
    merchant = _merchant(signer)
    _require(decode(AuthAckTBS, content).merchant_id == merchant.merchant_id, "acknowledgement must name the merchant")


def validate_receipt(content: bytes, signer: x509.Certificate) -> None:
    """ReceiptTBS carries a gateway's answer about the merchant of the key, and claims no more than the answer says."""
    merchant = _merchant(signer)
    receipt = decode(ReceiptTBS, content)
    answer = read_signed(AuthResTBS, CT_AUTH_RES, receipt.auth_res).body
    _require(
        (answer.merchant_id, answer.mer_cert_hash) == (merchant.merchant_id, merchant.cert_hash),
        "answer in the receipt must name the merchant and its certificate",
    )
    _require(
        (answer.xid, answer.chall_c) == (receipt.xid, receipt.chall_c),
        "answer must be about the purchase of the receipt",
    )
    _require(claims_no_more(receipt, answer), "receipt must not claim more than the answer says")


def validate_auth_res(content: bytes, signer: x509.Certificate) -> None:
    """AuthResTBS names the gateway and acquirer of the key; an approval carries the network's references."""
    _require_role(signer, Role.GATEWAY_SIGNING)
    gateway = gateway_data(signer)
    answer = decode(AuthResTBS, content)
    _require(
        (answer.gw_id, answer.acquirer_id) == (gateway.gateway_id, gateway.acquirer_bin),
        "answer must name the gateway and its acquirer",
    )
    _require(carries_references(answer), "an approval must carry rc, stan, rrn and maskedPan")


def validate_inq_req(content: bytes, signer: x509.Certificate) -> None:
    """InqReqTBS names the merchant of the key; for a card's key only form and role are judged."""
    _require_role(signer, Role.CARDHOLDER, Role.MERCHANT)
    inquiry = decode(InqReqTBS, content)
    if role_of(signer) is Role.MERCHANT:
        _require(inquiry.merchant_id == MerchantIdentity.of(signer).merchant_id, "inquiry must name the merchant")


def validate_inq_res(content: bytes, signer: x509.Certificate) -> None:
    """InqResTBS of a gateway rests on nobody else's word and agrees with the answer in it; a merchant's names it."""
    _require_role(signer, Role.GATEWAY_SIGNING, Role.MERCHANT)
    answer = decode(InqResTBS, content)
    if role_of(signer) is Role.MERCHANT:
        _require(answer.merchant_id == MerchantIdentity.of(signer).merchant_id, "answer must name the merchant")
        _require(
            answer.status not in GIVEN_BACK or answer.gateway_status is not None,
            "of money that goes back the merchant says what the gateway says",
        )
        return
    result = unwrap(answer.result, expected=(CT_AUTH_RES, CT_ERROR)) if answer.result is not None else None
    given = result is not None and result.msg_type == CT_AUTH_RES
    auth_res = read_signed(AuthResTBS, CT_AUTH_RES, result.body).body if result is not None and given else None
    _require(
        answer.gateway_status is None
        and tells_one_story(answer.status, has_result=result is not None, auth_res=auth_res),
        "status must agree with the answer that was given",
    )


def validate_error(content: bytes, signer: x509.Certificate) -> None:
    """ErrorTBS, for the key of a merchant, gateway or card, or the registration authority's. It names no party."""
    _require_role(signer, Role.MERCHANT, Role.GATEWAY_SIGNING, Role.CARDHOLDER, Role.SERVICE)
    if role_of(signer) is Role.SERVICE:
        _require(RA in identity_uris(signer), f"of services {RA} alone signs an Error with a key in a token")
    decode(ErrorTBS, content)


def validate_p_cert_req(content: bytes, signer: x509.Certificate) -> None:
    """PCertReqTBS names the merchant of the key."""
    merchant = _merchant(signer)
    _require(decode(PCertReqTBS, content).merchant_id == merchant.merchant_id, "request must name the merchant")


def validate_p_cert_res(content: bytes, signer: x509.Certificate) -> None:
    """PCertResTBS names the gateway and acquirer of the key."""
    _require_role(signer, Role.GATEWAY_SIGNING)
    gateway = gateway_data(signer)
    answer = decode(PCertResTBS, content)
    _require(
        (answer.gw_id, answer.acquirer_id) == (gateway.gateway_id, gateway.acquirer_bin),
        "answer must name the gateway and its acquirer",
    )


def _by(content_type: type[Structure], *roles: Role) -> Validator:
    """What names no signer, so only form and role are judged."""

    def validate(content: bytes, signer: x509.Certificate) -> None:
        _require_role(signer, *roles)
        decode(content_type, content)

    return validate


def _of_the_ra(content_type: type[Structure]) -> Validator:
    """What the registration authority says in registration: it names no signer, so form and identity are judged."""

    def validate(content: bytes, signer: x509.Certificate) -> None:
        _require_role(signer, Role.SERVICE)
        _require(RA in identity_uris(signer), f"content is signed by {RA}")
        decode(content_type, content)

    return validate


VALIDATORS: Final[Mapping[x509.ObjectIdentifier, Validator]] = MappingProxyType(
    {
        CT_INVOICE_REQ: validate_invoice_req,
        CT_INVOICE: validate_invoice,
        CT_DUAL_SIGNATURE: validate_dual_signature,
        CT_AUTH_REQ: validate_auth_req,
        CT_AUTH_RES: validate_auth_res,
        CT_AUTH_ACK: validate_auth_ack,
        CT_RECEIPT: validate_receipt,
        CT_INQ_REQ: validate_inq_req,
        CT_INQ_RES: validate_inq_res,
        CT_ERROR: validate_error,
        **TYPED,
        CT_P_CERT_REQ: validate_p_cert_req,
        CT_P_CERT_RES: validate_p_cert_res,
        CT_OTP_REQ: _by(OTPReqTBS, Role.CARDHOLDER),
        CT_OTP_RES: _by(OTPResTBS, Role.GATEWAY_SIGNING),
        CT_RECEIPT_ACK: _by(ReceiptAckTBS, Role.CARDHOLDER),
        CT_CERT_INQ_REQ: _by(CertInqReqTBS, *HOLDERS),
        CT_REV_REQ: _by(RevReqTBS, *HOLDERS),
        CT_RENEW_REQ: _by(RenewReqTBS, *HOLDERS),
        CT_CERT_INQ_RES: _of_the_ra(CertInqResTBS),
        CT_RENEW_RES: _of_the_ra(RenewResTBS),
        CT_CARD_INIT_RES: _of_the_ra(InitResTBS),
        CT_MER_INIT_RES: _of_the_ra(InitResTBS),
        CT_REG_FORM_RES: _of_the_ra(RegFormResTBS),
        CT_CARD_CONFIRM_REQ: _of_the_ra(CardConfirmReqTBS),
        CT_CERT_RES: _of_the_ra(CertResTBS),
        CT_MER_CERT_RES: _of_the_ra(CertResTBS),
        CT_GW_CERT_RES: _of_the_ra(CertResTBS),
    }
)
"""Every content type of the protocol. Each function raises ProtocolError: K1 or K4 for form, S1 for what it says."""


def _require_invoice_of(merchant: MerchantIdentity, invoice: InvoiceTBS) -> None:
    _require(
        (invoice.merchant_id, invoice.mer_cert_hash, invoice.acquirer_bin)
        == (merchant.merchant_id, merchant.cert_hash, merchant.acquirer_bin),
        "invoice must name the merchant, certificate and acquirer of the key",
    )
