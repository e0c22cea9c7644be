"""InvoiceReq, which the wallet signs, and Invoice, which it judges before anything else is signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from kwbp import fields
from kwbp.codes import ErrorCode
from kwbp.common import (
    Draft,
    Received,
    check_live,
    instant,
    read_signed,
    require,
    verify_path,
    verify_signer,
)
from kwbp.errors import ProtocolError
from kwbp.messages import (
    BasketLine,
    InvoiceMessage,
    InvoiceReqTBS,
    InvoiceTBS,
    OrderDetails,
)
from kwbp.money import Money
from kwbp.parties import GatewayIdentity, MerchantIdentity
from kwbp.structure import decode
from kwbp.wrapper import KwbpMessage, check_header
from pki.der import sha256
from pki.errors import UNREADABLE
from pki.oids import (
    CT_INVOICE,
    CT_INVOICE_REQ,
    MT_INVOICE,
)
from pki.path import Trust
from pki.roles import Role


def build_invoice_request(
    *,
    rrpid: bytes,
    chall_c: bytes,
    brand_id: str,
    bin_: str,
    basket: Sequence[tuple[str, int]],
    now: datetime,
    lid_c: bytes | None = None,
    ship_to: str | None = None,
    language: str | None = None,
) -> Draft[InvoiceReqTBS]:
    """InvoiceReq (row 9), to be signed by the card.

    :param rrpid: 20 fresh random bytes. :param chall_c: 32 fresh random bytes.
    :param bin_: first 6 to 8 digits of the card that will pay.
    :param basket: (sku, quantity) of each line, in the order in which the invoice shall list them.
    :raises ProtocolError: a field is out of form (K1).
    """
    body = InvoiceReqTBS(
        version=fields.VERSION,
        rrpid=rrpid,
        lid_c=lid_c,
        chall_c=chall_c,
        brand_id=brand_id,
        bin=bin_,
        basket=[BasketLine(sku=sku, quantity=quantity) for sku, quantity in basket],
        ship_to=ship_to,
        language=language,
        date=fields.to_time(now),
    )
    return Draft.of(CT_INVOICE_REQ, body, rrpid=rrpid, xid=None)


@dataclass(frozen=True, slots=True)
class CheckedInvoice:
    """An invoice that passed every check of row 10.

    Show the buyer `order`, `invoice` and `merchant` of this object: what it holds is what was signed. `signed`
    is the merchant's SignedData, `invoice_hash` its SHA-256, `order_details` the DER of `order`.
    """

    invoice: InvoiceTBS
    signed: bytes
    invoice_hash: bytes
    order: OrderDetails
    order_details: bytes
    request: InvoiceReqTBS
    merchant: MerchantIdentity
    gateway: GatewayIdentity


def check_invoice(
    message: KwbpMessage,
    *,
    request: InvoiceReqTBS,
    origin: str | None,
    trust: Trust,
    now: datetime,
    bci_seen: int = 0,
) -> CheckedInvoice:
    """Invoice (row 10): K1, K2, K4 to K7, then W1 to W9.

    :param message: from `unwrap(…, expected=[MT_INVOICE])`.
    :param request: the InvoiceReq that it answers.
    :param origin: site on which the buyer shops, `https://host[:port]`; None where there is none, and W5 is left out.
    :param bci_seen: highest Brand CRL Identifier number seen so far.
    :raises ProtocolError: see `kwbp.checks`.
    """
    envelope = decode(InvoiceMessage, message.body)
    received = read_signed(InvoiceTBS, CT_INVOICE, envelope.invoice)
    invoice = received.body
    order = decode(OrderDetails, envelope.order_details)
    gateway_certificate = _read_certificate(envelope.gateway_certificate)
    gateway_chain = tuple(_read_certificate(der) for der in envelope.gateway_chain)
    check_header(message, MT_INVOICE, rrpid=invoice.rrpid, xid=invoice.xid)
    verify_signer(received, role=Role.MERCHANT, trust=trust, now=now)
    check_live(received, invoice.issued_at, now=now)

    require(
        (invoice.rrpid, invoice.lid_c, invoice.chall_c) == (request.rrpid, request.lid_c, request.chall_c),
        ErrorCode.CHALLENGE_MISMATCH,
        "W1",
        "RRPID, LID-C and Chall-C must be those of the request",
    )
    require(
        sha256(envelope.order_details) == invoice.hod,
        ErrorCode.HASH_MISMATCH,
        "W2",
        "hod must be the hash of OrderDetails",
    )
    _check_order(order, invoice, request)
    merchant = _check_merchant(received)
    if origin is not None:
        require(
            origin in merchant.origins,
            ErrorCode.INVALID_CERTIFICATE,
            "W5",
            "the merchant's certificate must name this site",
        )
    gateway = _check_gateway(invoice, gateway_certificate, gateway_chain, trust=trust, now=now)
    require(
        gateway.acquirer_bin == merchant.acquirer_bin,
        ErrorCode.GATEWAY_MISMATCH,
        "W7",
        "gateway and merchant must belong to one acquirer",
    )
    require(
        instant(invoice.issued_at) < instant(invoice.not_after) and now <= instant(invoice.not_after),
        ErrorCode.INVOICE_EXPIRED,
        "W8",
        "invoice must be in force",
    )
    require(invoice.bci_number >= bci_seen, ErrorCode.BCI_STALE, "W9", f"BCI must not be older than {bci_seen}")
    return CheckedInvoice(
        invoice=invoice,
        signed=envelope.invoice,
        invoice_hash=received.digest,
        order=order,
        order_details=envelope.order_details,
        request=request,
        merchant=merchant,
        gateway=gateway,
    )


def _read_certificate(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except UNREADABLE:
        raise ProtocolError(ErrorCode.DECODING_FAILURE, "K1", "a certificate of the gateway is not DER") from None


def _check_order(order: OrderDetails, invoice: InvoiceTBS, request: InvoiceReqTBS) -> None:
    """W3: lines add up to the total, the total is the signed amount, the goods are the basket."""
    sums = [line.quantity * line.unit_price for line in order.lines]
    require(
        [line.amount for line in order.lines] == sums and order.total == Money.rial(sum(sums)) == invoice.amount,
        ErrorCode.AMOUNT_MISMATCH,
        "W3",
        "lines must add up to the total, and the total must be the signed amount",
    )
    asked = [(line.sku, line.quantity) for line in request.basket]
    require(
        [(line.sku, line.quantity) for line in order.lines] == asked and order.ship_to == request.ship_to,
        ErrorCode.INVOICE_MISMATCH,
        "W3",
        "order must be the basket that was asked for, to the same address",
    )


def _check_merchant(received: Received[InvoiceTBS]) -> MerchantIdentity:
    """W4: the invoice names its own signer, who may sell online."""
    invoice = received.body
    merchant = MerchantIdentity.of(received.signer)
    require(merchant.online, ErrorCode.NOT_ONLINE_MERCHANT, "W4", "merchant must be allowed to sell online")
    require(
        (invoice.merchant_id, invoice.mer_cert_hash, invoice.acquirer_bin)
        == (merchant.merchant_id, merchant.cert_hash, merchant.acquirer_bin),
        ErrorCode.INVOICE_MISMATCH,
        "W4",
        "invoice must name the merchant, certificate and acquirer of its signer",
    )
    return merchant


def _check_gateway(
    invoice: InvoiceTBS,
    certificate: x509.Certificate,
    chain: tuple[x509.Certificate, ...],
    *,
    trust: Trust,
    now: datetime,
) -> GatewayIdentity:
    """W6: the certificate to seal to is the one that the merchant signed, and a gateway's."""
    verify_path(certificate, chain, role=Role.GATEWAY_ENCRYPTION, trust=trust, now=now, check="W6")
    gateway = GatewayIdentity.of(certificate)
    require(
        (invoice.gw_id, invoice.gw_cert_hash) == (gateway.gateway_id, gateway.cert_hash),
        ErrorCode.GATEWAY_MISMATCH,
        "W6",
        "gwID and gwCertHash must be those of the gateway's certificate",
    )
    return gateway
