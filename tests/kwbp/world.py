"""A small world in which purchases happen: one buyer, two merchants, two gateways, software keys.

`World.purchase()` plays a whole honest purchase and keeps every object of it, so that a test can take one of them,
change one thing, and offer it to the party that must refuse.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any, Final

from cryptography import x509

from kwbp import gateway, merchant, wallet
from kwbp.codes import AuthCode, SaleKind
from kwbp.commitment import commitment_cn, pan_secret
from kwbp.common import Draft
from kwbp.messages import OrderLine
from kwbp.wrapper import unwrap
from pki.names import identity_uri
from pki.oids import CT_AUTH_ACK, CT_AUTH_REQ, CT_AUTH_RES, CT_INVOICE_REQ, CT_RECEIPT, MT_INVOICE, MT_PREQ
from pki.path import Trust
from shetab.types import Cvv2, Expiry, Pan, Pin
from tests.support.pki_factory import Credential, PkiFactory, rsa_key, unseal

PAN: Final = "6037701000000007"
BIN: Final = "603770"
EXPIRY: Final = "0612"  # Esfand 1406
ORIGIN: Final = "https://bookshop.example"
BRAND: Final = "Shetab"
BASKET: Final = (("book-1", 2), ("pen", 1))
LINES: Final = (("book-1", "کتاب", 2, 1_500_000), ("pen", "Pen", 1, 250_000))
TOTAL: Final = 3_250_000


def site(merchant_id: str, origin: str = ORIGIN) -> dict[str, tuple[x509.ExtensionType, bool]]:
    """The subjectAltName of a merchant that sells at `origin`."""
    names = [
        x509.UniformResourceIdentifier(identity_uri("merchant", merchant_id)),
        x509.UniformResourceIdentifier(origin),
    ]
    return {"subject_alternative_name": (x509.SubjectAlternativeName(names), False)}


def lines() -> list[OrderLine]:
    """The order lines that answer `BASKET`."""
    return [
        OrderLine(sku=sku, name=name, quantity=quantity, unit_price=price, amount=quantity * price)
        for sku, name, quantity, price in LINES
    ]


@dataclass
class Purchase:
    """Every object of one purchase, from InvoiceReq to the checked receipt."""

    request: Draft[Any]
    request_signed: bytes
    checked_request: merchant.CheckedInvoiceRequest
    invoice: merchant.InvoiceDraft
    invoice_signed: bytes
    invoice_message: bytes
    issued: merchant.IssuedInvoice
    checked_invoice: wallet.CheckedInvoice
    order: wallet.PurchaseDraft
    dual_signed: bytes
    preq_message: bytes
    record: wallet.PurchaseRecord
    checked_purchase: merchant.CheckedPurchase
    auth_req: Draft[Any]
    auth_req_signed: bytes
    auth_req_message: bytes
    sent: merchant.SentAuthReq
    verified: gateway.VerifiedAuthReq
    plaintext: bytes
    card: gateway.OpenedCard
    auth_res: Draft[Any]
    auth_res_signed: bytes
    answer: merchant.CheckedAuthRes
    auth_ack: Draft[Any]
    auth_ack_signed: bytes
    receipt: Draft[Any]
    receipt_signed: bytes
    checked_receipt: wallet.CheckedReceipt


class World:
    """The parties, their certificates, and one clock."""

    def __init__(self, pki: PkiFactory) -> None:
        self.pki = pki
        self.now: datetime = pki.now
        self.random = random.Random(8583)  # reproducible tests, no secrets
        self.card_secret, nonce = self.rng(32), self.rng(32)
        self.pan_secret = pan_secret(self.card_secret, nonce, b"cardholder-ca-key")
        self.card = wallet.Card(
            pan=Pan(PAN),
            expiry=Expiry(EXPIRY),
            card_secret=self.card_secret,
            pan_secret=self.pan_secret,
            pin2=Pin("12345"),
            cvv2=Cvv2("321"),
        )
        self.buyer = pki.cardholder(commitment_cn(self.pan_secret, self.card.pan, self.card.expiry))
        self.shop = pki.merchant("M-1", replace=site("M-1"))
        self.other_shop = pki.merchant("M-2", shop="Stationer", replace=site("M-2", "https://stationer.example"))
        self.gateway_signing = pki.gateway_signing("GW-1")
        self.gateway_encryption = pki.gateway_encryption("GW-1")
        self.other_gateway_signing = pki.gateway_signing("GW-2")
        self.other_gateway_encryption = pki.gateway_encryption("GW-2", key=rsa_key(1))

    def rng(self, size: int) -> bytes:
        """`size` bytes that differ each time."""
        return self.random.randbytes(size)

    @cached_property
    def trust(self) -> Trust:
        """What every party believes."""
        return self.pki.trust()

    @cached_property
    def merchant_identity(self) -> merchant.MerchantIdentity:
        return merchant.MerchantIdentity.of(self.shop.certificate)

    @cached_property
    def gateway_identity(self) -> gateway.GatewayIdentity:
        return gateway.GatewayIdentity.of(self.gateway_encryption.certificate)

    @cached_property
    def enrolled(self) -> gateway.EnrolledMerchant:
        return gateway.EnrolledMerchant(merchant_id="M-1", terminal_ids=frozenset({"T0000001"}), active=True)

    # One step of the protocol each, with everything that a test may want different as a parameter

    def ask(self, **changes: Any) -> Draft[Any]:
        """InvoiceReq."""
        arguments: dict[str, Any] = {
            "rrpid": self.rng(20),
            "chall_c": self.rng(32),
            "brand_id": BRAND,
            "bin_": BIN,
            "basket": BASKET,
            "now": self.now,
            "lid_c": b"cart-7",
            "ship_to": "Tehran",
            "language": "fa",
        }
        return wallet.build_invoice_request(**(arguments | changes))

    def check_request(self, message: bytes, **changes: Any) -> merchant.CheckedInvoiceRequest:
        arguments: dict[str, Any] = {
            "brands": {BRAND},
            "accepts_bin": lambda prefix: prefix == BIN,
            "trust": self.trust,
            "now": self.now,
        }
        return merchant.check_invoice_request(unwrap(message, expected=[CT_INVOICE_REQ]), **(arguments | changes))

    def offer(self, checked: merchant.CheckedInvoiceRequest, **changes: Any) -> merchant.InvoiceDraft:
        """Invoice."""
        arguments: dict[str, Any] = {
            "merchant": self.merchant_identity,
            "gateway": self.gateway_identity,
            "lines": lines(),
            "terms": "Delivery within three days.\nتحویل در سه روز",
            "lid_m": "order-7",
            "lifetime": timedelta(minutes=10),
            "now": self.now,
            "rng": self.rng,
            "deliver_by": self.now + timedelta(days=3),
        }
        return merchant.build_invoice(checked, **(arguments | changes))

    def check_invoice(self, message: bytes, request: Draft[Any], **changes: Any) -> wallet.CheckedInvoice:
        arguments: dict[str, Any] = {
            "request": request.body,
            "origin": ORIGIN,
            "trust": self.trust,
            "now": self.now,
        }
        return wallet.check_invoice(unwrap(message, expected=[MT_INVOICE]), **(arguments | changes))

    def check_purchase(
        self, message: bytes, issued: merchant.IssuedInvoice, **changes: Any
    ) -> merchant.CheckedPurchase:
        arguments: dict[str, Any] = {"issued": issued, "trust": self.trust, "now": self.now}
        received = merchant.receive_purchase(unwrap(message, expected=[MT_PREQ]))
        return merchant.check_purchase(received, **(arguments | changes))

    def check_auth_req(self, message: bytes, **changes: Any) -> gateway.VerifiedAuthReq:
        arguments: dict[str, Any] = {"gateway": self.gateway_identity, "trust": self.trust, "now": self.now}
        received = gateway.receive_auth_req(unwrap(message, expected=[CT_AUTH_REQ]))
        gateway.check_sender(received, self.enrolled, tls_merchant_id="M-1")
        return gateway.check_auth_req(received, **(arguments | changes))

    def check_opened(self, plaintext: bytes, order: gateway.VerifiedOrder, **changes: Any) -> gateway.OpenedCard:
        arguments: dict[str, Any] = {"accepts_bin": lambda prefix: prefix == BIN, "now": self.now}
        return gateway.check_opened(plaintext, order, **(arguments | changes))

    def answer(self, verified: Any, **changes: Any) -> Draft[Any]:
        """AuthRes."""
        arguments: dict[str, Any] = {
            "gateway": self.gateway_identity,
            "auth_code": AuthCode.APPROVED,
            "now": self.now,
            "ack_by": self.now + timedelta(seconds=60),
            "rc": "00",
            "stan": "000123",
            "rrn": "608012000123",
            "approval": "A1B2C3",
            "masked_pan": "603770******0007",
            "settle_date": "0321",
        }
        return gateway.build_auth_res(verified, **(arguments | changes))

    def check_answer(self, message: bytes, sent: merchant.SentAuthReq, **changes: Any) -> merchant.CheckedAuthRes:
        arguments: dict[str, Any] = {"sent": sent, "trust": self.trust, "now": self.now}
        return merchant.check_auth_res(unwrap(message, expected=[CT_AUTH_RES]), **(arguments | changes))

    def check_ack(self, message: bytes, sent: gateway.SentAuthRes, **changes: Any) -> Any:
        arguments: dict[str, Any] = {"sent": sent, "trust": self.trust, "now": self.now}
        return gateway.check_auth_ack(unwrap(message, expected=[CT_AUTH_ACK]), **(arguments | changes))

    def check_receipt(self, message: bytes, record: wallet.PurchaseRecord, **changes: Any) -> wallet.CheckedReceipt:
        arguments: dict[str, Any] = {"purchase": record, "trust": self.trust, "now": self.now}
        return wallet.check_receipt(unwrap(message, expected=[CT_RECEIPT]), **(arguments | changes))

    # A whole purchase

    def purchase(
        self,
        *,
        shop: Credential | None = None,
        offer: dict[str, Any] | None = None,
        sale_kind: SaleKind = SaleKind.SALE,
        answer: dict[str, Any] | None = None,
        particulars_ok: bool = True,
        sign_invoice: Callable[[bytes], bytes] | None = None,
    ) -> Purchase:
        """Play a purchase from the request to the receipt; every step is checked by the party that receives it."""
        shop = shop or self.shop
        request = self.ask()
        request_signed = self.buyer.sign(request.content_type, request.content)
        checked_request = self.check_request(request.message(request_signed))
        invoice = self.offer(checked_request, **(offer or {}))
        sign_invoice = sign_invoice or partial(shop.sign, invoice.invoice.content_type)
        invoice_signed = sign_invoice(invoice.invoice.content)
        invoice_message = invoice.message(invoice_signed, self.gateway_encryption.chain)
        checked_invoice = self.check_invoice(invoice_message, request)
        issued = invoice.issued(invoice_signed)
        order = wallet.build_purchase(
            checked_invoice, self.card, rrpid=self.rng(20), now=self.now, rng=self.rng, sale_kind=sale_kind
        )
        dual_signed = self.buyer.sign(order.dual_signature.content_type, order.dual_signature.content)
        preq_message = order.message(dual_signed)
        record = order.record(dual_signed)
        checked_purchase = self.check_purchase(preq_message, issued)
        auth_req = merchant.build_auth_req(checked_purchase, terminal_id="T0000001", rrpid=self.rng(20), now=self.now)
        auth_req_signed = shop.sign(auth_req.content_type, auth_req.content)
        auth_req_message = auth_req.message(auth_req_signed)
        sent = merchant.SentAuthReq.of(auth_req.body, auth_req_signed, checked_purchase)
        verified = self.check_auth_req(auth_req_message)
        plaintext = unseal(verified.envelope.der, rsa_key(0))
        card = self.check_opened(plaintext, verified)
        auth_res = self.answer(verified, **(answer or {}))
        auth_res_signed = self.gateway_signing.sign(auth_res.content_type, auth_res.content)
        checked_answer = self.check_answer(auth_res.message(auth_res_signed), sent)
        auth_ack = merchant.build_auth_ack(checked_answer, accepted=True, now=self.now)
        auth_ack_signed = shop.sign(auth_ack.content_type, auth_ack.content)
        self.check_ack(auth_ack.message(auth_ack_signed), gateway.SentAuthRes.load(auth_res_signed))
        receipt = merchant.build_receipt(checked_purchase, checked_answer, now=self.now, particulars_ok=particulars_ok)
        receipt_signed = shop.sign(receipt.content_type, receipt.content)
        checked_receipt = self.check_receipt(receipt.message(receipt_signed), record)
        return Purchase(
            request, request_signed, checked_request,
            invoice, invoice_signed, invoice_message, issued, checked_invoice,
            order, dual_signed, preq_message, record, checked_purchase,
            auth_req, auth_req_signed, auth_req_message, sent, verified,
            plaintext, card,
            auth_res, auth_res_signed, checked_answer,
            auth_ack, auth_ack_signed,
            receipt, receipt_signed, checked_receipt,
        )  # fmt: skip
