"""Taking up an order from the store: the checked objects of `kwbp.merchant` rebuilt from what was checked then.

Nothing is checked again. Between the check and the restart a certificate may have expired or an invoice run out; the
order was accepted when they had not.

The steps of a payment follow each other quickly, and each wants the same objects: those that were rebuilt from the same
bytes lately are remembered. Whoever has made or checked one hands it in (`keep_issued`, `keep_purchase`), so that it is
not read again at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, Generic, TypeVar

from cryptography import x509

from kwbp.common import read_signed
from kwbp.merchant import CheckedAuthRes, CheckedPurchase, IssuedInvoice, SentAuthReq, receive_purchase
from kwbp.messages import AuthAckTBS, AuthReqTBS, AuthResTBS, InvoiceMessage, InvoiceReqTBS
from kwbp.parties import GatewayIdentity
from kwbp.structure import decode
from kwbp.wrapper import unwrap, wrap
from pki.oids import CT_AUTH_ACK, CT_AUTH_REQ, CT_AUTH_RES, CT_INVOICE_REQ, MT_INVOICE, MT_PREQ
from storefront.errors import DocumentMissing
from storefront.merchant.documents import Document
from storefront.merchant.store import OrderStore

T = TypeVar("T")

_REMEMBERED: Final = 128
"""Payments that are under way at a time, about; each of some 30 KB."""


class _Remembered(Generic[T]):
    """The last few objects, by the bytes that they were made of. For one thread."""

    def __init__(self, make: Callable[..., T]) -> None:
        self._make = make
        self._kept: dict[tuple[bytes, ...], T] = {}

    def of(self, *parts: bytes) -> T:
        """What `make` makes of `parts`; what it raises is not kept."""
        found = self._kept.get(parts)
        if found is None:
            found = self._make(*parts)
            self.keep(found, *parts)
        return found

    def keep(self, found: T, *parts: bytes) -> None:
        """Remember what `make` would make of `parts`."""
        while len(self._kept) >= _REMEMBERED:
            self._kept.pop(next(iter(self._kept)), None)
        self._kept[parts] = found


def issued(store: OrderStore, xid: bytes) -> IssuedInvoice:
    """The invoice of an order, as the buyer got it; raises DocumentMissing."""
    return issued_of(store.documents(xid))


def issued_of(documents: Mapping[Document, bytes]) -> IssuedInvoice:
    """As `issued`, from all documents of the order."""
    return _invoices.of(*_required(documents, Document.INVOICE_ANSWER, Document.INVOICE_REQUEST))


def keep_issued(found: IssuedInvoice, documents: Mapping[Document, bytes]) -> None:
    """Remember what was issued just now, with these documents."""
    _invoices.keep(found, *_required(documents, Document.INVOICE_ANSWER, Document.INVOICE_REQUEST))


def purchase(store: OrderStore, xid: bytes) -> CheckedPurchase:
    """The order that passed `check_purchase` when it came; raises DocumentMissing."""
    return purchase_of(store.documents(xid))


def purchase_of(documents: Mapping[Document, bytes]) -> CheckedPurchase:
    """As `purchase`, from all documents of the order."""
    return _purchases.of(*_required(documents, *_OF_PURCHASE))


def keep_purchase(found: CheckedPurchase, documents: Mapping[Document, bytes]) -> None:
    """Remember what was checked just now, of an order with these documents."""
    _purchases.keep(found, *_required(documents, *_OF_PURCHASE))


_OF_PURCHASE: Final = (Document.PURCHASE, Document.INVOICE_ANSWER, Document.INVOICE_REQUEST)


def _required(documents: Mapping[Document, bytes], *kinds: Document) -> list[bytes]:
    try:
        return [documents[kind] for kind in kinds]
    except KeyError as missing:
        raise DocumentMissing(f"the order book has no {missing.args[0]} of an order") from None


def _issued(answer: bytes, request: bytes) -> IssuedInvoice:
    sent = decode(InvoiceMessage, unwrap(answer, expected=(MT_INVOICE,)).body)
    gateway = GatewayIdentity.of(x509.load_der_x509_certificate(sent.gateway_certificate))
    return IssuedInvoice.load(sent.invoice, request, gateway)


def _purchase(preq_message: bytes, answer: bytes, request: bytes) -> CheckedPurchase:
    received = receive_purchase(unwrap(preq_message, expected=(MT_PREQ,)))
    preq, dual = received.preq, received.dual
    return CheckedPurchase(
        oi=preq.oi_data,
        h_oi_data=dual.body.h_oi_data,
        dual=dual.body,
        dual_signature=preq.dual_sig,
        h_dual_sig=dual.digest,
        pi_envelope=preq.pi_envelope,
        issued=_invoices.of(answer, request),
        card_certificate=dual.signer,
    )


_invoices: Final = _Remembered(_issued)
_purchases: Final = _Remembered(_purchase)


def card(store: OrderStore, xid: bytes) -> x509.Certificate:
    """The card's certificate that asked for the invoice of an order; no other one can order on it (M5)."""
    return read_signed(InvoiceReqTBS, CT_INVOICE_REQ, store.required(xid, Document.INVOICE_REQUEST)).signer


@lru_cache(maxsize=_REMEMBERED)
def auth_req(signed: bytes) -> AuthReqTBS:
    """A stored AuthReq."""
    return read_signed(AuthReqTBS, CT_AUTH_REQ, signed).body


@lru_cache(maxsize=_REMEMBERED)
def auth_res(signed: bytes) -> CheckedAuthRes:
    """The answer that passed `check_auth_res` when it came."""
    received = read_signed(AuthResTBS, CT_AUTH_RES, signed)
    return CheckedAuthRes(body=received.body, signed=signed, digest=received.digest)


@lru_cache(maxsize=_REMEMBERED)
def auth_ack(signed: bytes) -> AuthAckTBS:
    """A stored AuthAck."""
    return read_signed(AuthAckTBS, CT_AUTH_ACK, signed).body


def sent(signed: bytes, of: CheckedPurchase) -> SentAuthReq:
    """What the answer to a stored AuthReq is judged by."""
    return SentAuthReq.of(auth_req(signed), signed, of)


def auth_req_message(signed: bytes) -> bytes:
    """The KwbpMessage around a stored AuthReq."""
    body = auth_req(signed)
    return wrap(CT_AUTH_REQ, signed, rrpid=body.rrpid, xid=body.xid)


def auth_ack_message(signed: bytes) -> bytes:
    """The KwbpMessage around a stored AuthAck."""
    body = auth_ack(signed)
    return wrap(CT_AUTH_ACK, signed, rrpid=body.rrpid, xid=body.xid)
