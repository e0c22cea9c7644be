"""G1 to G7: an AuthReq, judged with public keys and hashes alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509

from kwbp.codes import ErrorCode, SaleKind
from kwbp.common import (
    Received,
    check_live,
    check_not_future,
    instant,
    read_envelope,
    read_signed,
    require,
    verify_signature,
    verify_signer,
)
from kwbp.errors import ProtocolError
from kwbp.messages import AuthReqTBS, DualSigTBS, InvoiceTBS
from kwbp.parties import GatewayIdentity, MerchantIdentity
from kwbp.wrapper import KwbpMessage, check_header
from pki.cms_enveloped import AuthEnveloped
from pki.oids import CT_AUTH_REQ, CT_DUAL_SIGNATURE, CT_INVOICE
from pki.path import Trust
from pki.roles import Role


@dataclass(frozen=True, slots=True)
class ReceivedAuthReq:
    """An AuthReq of known structure, inside and out (G1). Not verified.

    `xid`, `merchant_id` and `digest` (hAuthReq) are for the look-ups of G2 and G3.
    """

    request: Received[AuthReqTBS]
    invoice: Received[InvoiceTBS]
    dual: Received[DualSigTBS]
    envelope: AuthEnveloped

    @property
    def xid(self) -> bytes:
        """The purchase it says it is about, 20 bytes."""
        return self.request.body.xid

    @property
    def merchant_id(self) -> str:
        """The merchant it says it is from."""
        return self.request.body.merchant_id

    @property
    def digest(self) -> bytes:
        """hAuthReq: SHA-256 of the SignedData."""
        return self.request.digest


def receive_auth_req(message: KwbpMessage) -> ReceivedAuthReq:
    """G1: structure of an AuthReq and of each object inside (K1, K2, K4). No signature is looked at, no key used.

    :param message: from `unwrap(…, expected=[CT_AUTH_REQ])`; its RRPID must be fresh (K3, the service's).
    :raises ProtocolError: see `kwbp.checks`.
    """
    received = read_auth_req(message.body)
    check_header(message, CT_AUTH_REQ, rrpid=received.request.body.rrpid, xid=received.xid)
    return received


def read_auth_req(signed: bytes) -> ReceivedAuthReq:
    """As `receive_auth_req`, from the SignedData alone: for a stored request, which has no wrapper any more."""
    request = read_signed(AuthReqTBS, CT_AUTH_REQ, signed)
    body = request.body
    return ReceivedAuthReq(
        request=request,
        invoice=read_signed(InvoiceTBS, CT_INVOICE, body.invoice),
        dual=read_signed(DualSigTBS, CT_DUAL_SIGNATURE, body.dual_sig),
        envelope=read_envelope(body.pi_envelope),
    )


@dataclass(frozen=True, slots=True)
class EnrolledMerchant:
    """A merchant in the gateway's registry."""

    merchant_id: str
    terminal_ids: frozenset[str]
    active: bool


def check_sender(received: ReceivedAuthReq, merchant: EnrolledMerchant | None, *, tls_merchant_id: str) -> None:
    """G2: the merchant is active, owns the terminal, and is the one at the other end of the TLS connection.

    :param merchant: the registry's record of `received.merchant_id`, None if there is none.
    :param tls_merchant_id: merchant id in the client certificate of the connection.
    :raises ProtocolError: roleNotAllowed.
    """
    body = received.request.body
    if merchant is None or not merchant.active or merchant.merchant_id != body.merchant_id:
        raise ProtocolError(ErrorCode.ROLE_NOT_ALLOWED, "G2", "merchant must be active at this gateway")
    require(
        body.terminal_id in merchant.terminal_ids,
        ErrorCode.ROLE_NOT_ALLOWED,
        "G2",
        "terminal must be the merchant's",
    )
    require(
        tls_merchant_id == body.merchant_id == MerchantIdentity.of(received.request.signer).merchant_id,
        ErrorCode.ROLE_NOT_ALLOWED,
        "G2",
        "merchant must be the TLS peer and the signer",
    )


_CHECKED: Final = object()


@dataclass(frozen=True, kw_only=True)
class VerifiedOrder:
    """A buyer's order that may be opened: dual signature verified, meant for this gateway and for this envelope.

    Only `check_auth_req` and `check_sealed_order` make one; the constructor refuses everybody else with TypeError.
    """

    dual: DualSigTBS
    dual_signature: Received[DualSigTBS]
    envelope: AuthEnveloped
    hod: bytes
    gateway: GatewayIdentity
    _made_by_checks: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._made_by_checks is not _CHECKED:
            raise TypeError("a verified order is made by check_auth_req or check_sealed_order")

    @property
    def cardholder_certificate(self) -> x509.Certificate:
        """The certificate that signed the order; its commonName commits to the card."""
        return self.dual_signature.signer


@dataclass(frozen=True, kw_only=True)
class VerifiedAuthReq(VerifiedOrder):
    """An AuthReq that passed G1 and G4 to G7: merchant and buyer both stand behind it."""

    received: ReceivedAuthReq
    merchant: MerchantIdentity

    @property
    def auth_req(self) -> AuthReqTBS:
        """The merchant's request."""
        return self.received.request.body

    @property
    def invoice(self) -> InvoiceTBS:
        """The merchant's offer."""
        return self.received.invoice.body


def check_auth_req(
    received: ReceivedAuthReq, *, gateway: GatewayIdentity, trust: Trust, now: datetime
) -> VerifiedAuthReq:
    """G4 to G7, in this order, after G1 (`receive_auth_req`), G2 (`check_sender`) and G3 (the service's store).

    Uses public keys only.

    :param gateway: this gateway's own encryption certificate.
    :raises ProtocolError: see `kwbp.checks`.
    """
    merchant = _check_merchant(received.request, gateway, trust=trust, now=now)
    _check_invoice(received, merchant, gateway, now=now)
    _check_cardholder(received.dual, trust=trust, now=now, check_revocation=True)
    _check_agreement(received, merchant)
    _check_sealing(received.dual.body, received.envelope, gateway, now=now)
    return VerifiedAuthReq(
        dual=received.dual.body,
        dual_signature=received.dual,
        envelope=received.envelope,
        hod=received.request.body.hod,
        gateway=gateway,
        received=received,
        merchant=merchant,
        _made_by_checks=_CHECKED,
    )


def check_sealed_order(
    dual_signature: bytes,
    pi_envelope: bytes,
    hod: bytes,
    *,
    gateway: GatewayIdentity,
    trust: Trust,
    now: datetime,
    check_revocation: bool,
) -> VerifiedOrder:
    """G1, G6 and G7 as far as the two objects tell: what the keeper of the decryption key asks before opening.

    It does not take the gateway process's word that the signatures were checked.

    :param dual_signature: the card's SignedData. :param pi_envelope: the AuthEnvelopedData.
    :param hod: AuthReq.hod, 32 bytes, compared with the sealed one in `check_opened`.
    :param check_revocation: False where CRLs are not at hand and revocation was the caller's to check.
    :raises ProtocolError: see `kwbp.checks`.
    """
    dual = read_signed(DualSigTBS, CT_DUAL_SIGNATURE, dual_signature)
    envelope = read_envelope(pi_envelope)
    _check_cardholder(dual, trust=trust, now=now, check_revocation=check_revocation)
    _check_sealing(dual.body, envelope, gateway, now=now)
    return VerifiedOrder(
        dual=dual.body,
        dual_signature=dual,
        envelope=envelope,
        hod=hod,
        gateway=gateway,
        _made_by_checks=_CHECKED,
    )


def _check_merchant(
    request: Received[AuthReqTBS], gateway: GatewayIdentity, *, trust: Trust, now: datetime
) -> MerchantIdentity:
    """G4, and K7 on the request."""
    verify_signer(request, role=Role.MERCHANT, trust=trust, now=now, path_check="G4", signature_check="G4")
    check_live(request, request.body.date, now=now)
    merchant = MerchantIdentity.of(request.signer)
    require(merchant.online, ErrorCode.NOT_ONLINE_MERCHANT, "G4", "merchant must be allowed to sell online")
    require(
        request.body.merchant_id == merchant.merchant_id,
        ErrorCode.ROLE_NOT_ALLOWED,
        "G4",
        "request must name its signer",
    )
    require(
        merchant.acquirer_bin == gateway.acquirer_bin,
        ErrorCode.GATEWAY_MISMATCH,
        "G4",
        "merchant must belong to the acquirer of this gateway",
    )
    return merchant


def _check_invoice(
    received: ReceivedAuthReq, merchant: MerchantIdentity, gateway: GatewayIdentity, *, now: datetime
) -> None:
    """G5: the offer is by the same merchant and certificate (whose path G4 verified), and for this gateway."""
    request, invoice = received.request.body, received.invoice.body
    require(
        received.invoice.signer == received.request.signer,
        ErrorCode.INVOICE_MISMATCH,
        "G5",
        "invoice must be signed with the certificate that signed the request",
    )
    verify_signature(received.invoice, check="G5")
    check_not_future(received.invoice, now=now)
    require(invoice.amount == request.amount, ErrorCode.AMOUNT_MISMATCH, "G5", "amount must be that of the invoice")
    require(
        (invoice.xid, invoice.merchant_id, invoice.mer_cert_hash, invoice.hod)
        == (request.xid, request.merchant_id, merchant.cert_hash, request.hod),
        ErrorCode.INVOICE_MISMATCH,
        "G5",
        "invoice and request must name the same XID, merchant, certificate and hod",
    )
    require(
        (invoice.gw_id, invoice.gw_cert_hash, invoice.acquirer_bin)
        == (gateway.gateway_id, gateway.cert_hash, gateway.acquirer_bin),
        ErrorCode.GATEWAY_MISMATCH,
        "G5",
        "invoice must name this gateway",
    )
    require(now <= instant(invoice.not_after), ErrorCode.INVOICE_EXPIRED, "G5", "invoice must be in force")


def _check_cardholder(dual: Received[DualSigTBS], *, trust: Trust, now: datetime, check_revocation: bool) -> None:
    """G6. A dual signature may be minutes old when it gets here (the merchant retries); its notAfter bounds its age."""
    verify_signer(
        dual,
        role=Role.CARDHOLDER,
        trust=trust,
        now=now,
        path_check="G6",
        signature_check="G6",
        check_revocation=check_revocation,
    )
    check_not_future(dual, now=now)


def _check_agreement(received: ReceivedAuthReq, merchant: MerchantIdentity) -> None:
    """G7, first half: buyer, invoice and request say the same."""
    request, invoice, dual = received.request.body, received.invoice.body, received.dual.body
    require(dual.amount == request.amount, ErrorCode.AMOUNT_MISMATCH, "G7", "amount must be what the buyer signed")
    require(dual.h_oi_data == request.h_oi_data, ErrorCode.HASH_MISMATCH, "G7", "hOIData must be what the buyer signed")
    require(
        (dual.xid, dual.lid_m, dual.merchant_id, dual.mer_cert_hash, dual.invoice_hash, instant(dual.not_after))
        == (
            request.xid,
            invoice.lid_m,
            request.merchant_id,
            merchant.cert_hash,
            received.invoice.digest,
            instant(invoice.not_after),
        ),
        ErrorCode.INVOICE_MISMATCH,
        "G7",
        "buyer must have signed this XID, merchant and invoice",
    )
    require(
        request.capture_now == (dual.sale_kind is SaleKind.SALE),
        ErrorCode.INVOICE_MISMATCH,
        "G7",
        "captureNow must be what the buyer agreed to",
    )


def _check_sealing(dual: DualSigTBS, envelope: AuthEnveloped, gateway: GatewayIdentity, *, now: datetime) -> None:
    """G7, second half: the buyer meant this gateway, this envelope, and still means it."""
    require(
        (dual.gw_id, dual.gw_cert_hash) == (gateway.gateway_id, gateway.cert_hash),
        ErrorCode.GATEWAY_MISMATCH,
        "G7",
        "buyer must have signed this gateway",
    )
    require(
        dual.h_pi_envelope == envelope.digest and envelope.is_for(gateway.certificate),
        ErrorCode.ENVELOPE_MISMATCH,
        "G7",
        "envelope must be the one that the buyer signed, and sealed to this gateway",
    )
    require(
        envelope.suite in gateway.suites,
        ErrorCode.ENVELOPE_MISMATCH,
        "G7",
        "envelope must use a sealing suite that the gateway's certificate names",
    )
    require(now <= instant(dual.not_after), ErrorCode.INVOICE_EXPIRED, "G7", "order must be in force")
