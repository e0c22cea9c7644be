"""InvoiceReq, which the merchant judges, and Invoice, which it signs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from kwbp import fields
from kwbp.codes import ErrorCode
from kwbp.common import (
    Draft,
    check_live,
    read_signed,
    require,
    verify_signer,
)
from kwbp.messages import (
    InvoiceMessage,
    InvoiceReqTBS,
    InvoiceTBS,
    OrderDetails,
    OrderLine,
)
from kwbp.money import Money
from kwbp.parties import GatewayIdentity, MerchantIdentity
from kwbp.structure import encode
from kwbp.wrapper import KwbpMessage, check_header, wrap
from pki.der import sha256
from pki.oids import (
    CT_INVOICE,
    CT_INVOICE_REQ,
    MT_INVOICE,
)
from pki.path import Trust
from pki.roles import Role


@dataclass(frozen=True, slots=True)
class CheckedInvoiceRequest:
    """An InvoiceReq that passed. `card_cert_hash`: SHA-256 of the card's certificate; the same must sign the order."""

    body: InvoiceReqTBS
    signed: bytes
    card_cert_hash: bytes


def check_invoice_request(
    message: KwbpMessage,
    *,
    brands: Collection[str],
    accepts_bin: Callable[[str], bool],
    trust: Trust,
    now: datetime,
) -> CheckedInvoiceRequest:
    """InvoiceReq (row 9): K1, K2, K4 to K7, then I1 and I2. Whether the basket can be sold (I3) is the shop's question.

    :param message: from `unwrap(…, expected=[CT_INVOICE_REQ])`; its RRPID must be fresh (K3, the server's).
    :param accepts_bin: whether cards of an issuer number of 6 to 8 digits are taken.
    :raises ProtocolError: see `kwbp.checks`; messageNotSupported for a brand or BIN that is not taken.
    """
    received = read_signed(InvoiceReqTBS, CT_INVOICE_REQ, message.body)
    body = received.body
    check_header(message, CT_INVOICE_REQ, rrpid=body.rrpid, xid=None)
    verify_signer(received, role=Role.CARDHOLDER, trust=trust, now=now)
    check_live(received, body.date, now=now)
    require(body.brand_id in brands, ErrorCode.MESSAGE_NOT_SUPPORTED, "I1", "brand is not accepted here")
    require(accepts_bin(body.bin), ErrorCode.MESSAGE_NOT_SUPPORTED, "I2", "card issuer is not accepted here")
    return CheckedInvoiceRequest(
        body=body, signed=message.body, card_cert_hash=received.signer.fingerprint(hashes.SHA256())
    )


@dataclass(frozen=True, slots=True)
class InvoiceDraft:
    """An offer before its signature: sign `invoice.content`, send `message(signed, …)`, keep `issued(signed)`."""

    invoice: Draft[InvoiceTBS]
    order_details: bytes
    gateway: GatewayIdentity
    request: CheckedInvoiceRequest

    def message(self, signed: bytes, gateway_chain: Sequence[x509.Certificate]) -> bytes:
        """DER `KwbpMessage` with the Invoice (row 10).

        :param signed: the merchant's SignedData.
        :param gateway_chain: CA certificates above the gateway's encryption certificate, without the root.
        """
        body = InvoiceMessage(
            invoice=signed,
            order_details=self.order_details,
            gateway_certificate=self.gateway.certificate.public_bytes(Encoding.DER),
            gateway_chain=[certificate.public_bytes(Encoding.DER) for certificate in gateway_chain],
        )
        return wrap(MT_INVOICE, encode(body), rrpid=self.invoice.rrpid, xid=self.invoice.xid)

    def issued(self, signed: bytes) -> IssuedInvoice:
        """What to keep for `check_purchase`; `signed` is the merchant's SignedData."""
        request = self.request
        return IssuedInvoice(
            invoice=self.invoice.body,
            signed=signed,
            invoice_hash=sha256(signed),
            brand_id=request.body.brand_id,
            bin=request.body.bin,
            card_cert_hash=request.card_cert_hash,
            gateway=self.gateway,
        )


@dataclass(frozen=True, slots=True)
class IssuedInvoice:
    """What the merchant's server holds of an invoice when the order comes back.

    `signed` is the own SignedData as sent, `invoice_hash` its SHA-256; brand, BIN and `card_cert_hash` are those of the
    InvoiceReq.
    """

    invoice: InvoiceTBS
    signed: bytes
    invoice_hash: bytes
    brand_id: str
    bin: str
    card_cert_hash: bytes
    gateway: GatewayIdentity

    @classmethod
    def load(cls, signed: bytes, invoice_request: bytes, gateway: GatewayIdentity) -> IssuedInvoice:
        """Rebuild it from the two SignedData that the server stored, its own and the buyer's, both checked then."""
        invoice = read_signed(InvoiceTBS, CT_INVOICE, signed)
        request = read_signed(InvoiceReqTBS, CT_INVOICE_REQ, invoice_request)
        return cls(
            invoice=invoice.body,
            signed=signed,
            invoice_hash=invoice.digest,
            brand_id=request.body.brand_id,
            bin=request.body.bin,
            card_cert_hash=request.signer.fingerprint(hashes.SHA256()),
            gateway=gateway,
        )


def build_invoice(
    request: CheckedInvoiceRequest,
    *,
    merchant: MerchantIdentity,
    gateway: GatewayIdentity,
    lines: Sequence[OrderLine],
    terms: str,
    lid_m: str,
    lifetime: timedelta,
    now: datetime,
    rng: Callable[[int], bytes],
    deliver_by: datetime | None = None,
    bci_number: int = 0,
) -> InvoiceDraft:
    """Invoice (row 10): a fresh XID, Chall-M and salt, OrderDetails, and the content to be signed by the merchant.

    :param lines: one line for each line of the basket, in its order; `amount` = `quantity` x `unit_price`, in rial.
    :param terms: the promise to deliver, in words. :param lid_m: the shop's own order number, at most 20 bytes.
    :param lifetime: how long the offer stands. :param rng: gives n random bytes.
    :raises ProtocolError: a field is out of form, an amount out of range (K1).
    """
    total = Money.rial(sum(line.amount for line in lines))
    order_details = encode(OrderDetails(salt=rng(32), lines=list(lines), ship_to=request.body.ship_to, total=total))
    body = InvoiceTBS(
        version=fields.VERSION,
        rrpid=request.body.rrpid,
        xid=rng(20),
        lid_c=request.body.lid_c,
        lid_m=lid_m,
        chall_c=request.body.chall_c,
        chall_m=rng(32),
        merchant_id=merchant.merchant_id,
        mer_cert_hash=merchant.cert_hash,
        acquirer_bin=merchant.acquirer_bin,
        gw_id=gateway.gateway_id,
        gw_cert_hash=gateway.cert_hash,
        amount=total,
        hod=sha256(order_details),
        terms=terms,
        deliver_by=fields.to_time(deliver_by) if deliver_by is not None else None,
        issued_at=fields.to_time(now),
        not_after=fields.to_time(now + lifetime),
        bci_number=bci_number,
    )
    return InvoiceDraft(
        invoice=Draft.of(CT_INVOICE, body, rrpid=body.rrpid, xid=body.xid),
        order_details=order_details,
        gateway=gateway,
        request=request,
    )
