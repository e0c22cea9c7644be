"""Taking up an order from the store: the checked objects of `kwbp.merchant` rebuilt from what was checked then.

Nothing is checked again. Between the check and the restart a certificate may have expired or an invoice run out; the
order was accepted when they had not.

The steps of a payment follow each other quickly, and each wants the same objects: those that were rebuilt from the same
bytes lately are remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from cryptography import x509

from kwbp.common import read_signed
from kwbp.merchant import CheckedAuthRes, CheckedPurchase, IssuedInvoice, receive_purchase
from kwbp.messages import AuthAckTBS, AuthReqTBS, AuthResTBS, InvoiceMessage, InvoiceReqTBS
from kwbp.parties import GatewayIdentity
from kwbp.structure import decode
from kwbp.wrapper import unwrap, wrap
from pki.oids import CT_AUTH_ACK, CT_AUTH_REQ, CT_AUTH_RES, CT_INVOICE_REQ, MT_INVOICE, MT_PREQ
from storefront.errors import DocumentMissing
from storefront.merchant.documents import Document
from storefront.merchant.store import OrderStore

_REMEMBERED: Final = 128
"""Payments that are under way at a time, about; each of some 30 KB."""


def issued(store: OrderStore, xid: bytes) -> IssuedInvoice:
    """The invoice of an order, as the buyer got it; raises DocumentMissing."""
    return _issued(*_required(store.documents(xid), Document.INVOICE_ANSWER, Document.INVOICE_REQUEST))


def purchase(store: OrderStore, xid: bytes) -> CheckedPurchase:
    """The order that passed `check_purchase` when it came; raises DocumentMissing."""
    return purchase_of(store.documents(xid))


def purchase_of(documents: Mapping[Document, bytes]) -> CheckedPurchase:
    """As `purchase`, from all documents of the order."""
    return _purchase(*_required(documents, Document.PURCHASE, Document.INVOICE_ANSWER, Document.INVOICE_REQUEST))


def _required(documents: Mapping[Document, bytes], *kinds: Document) -> list[bytes]:
    try:
        return [documents[kind] for kind in kinds]
    except KeyError as missing:
        raise DocumentMissing(f"the order book has no {missing.args[0]} of an order") from None


@lru_cache(maxsize=_REMEMBERED)
def _issued(answer: bytes, request: bytes) -> IssuedInvoice:
    sent = decode(InvoiceMessage, unwrap(answer, expected=(MT_INVOICE,)).body)
    gateway = GatewayIdentity.of(x509.load_der_x509_certificate(sent.gateway_certificate))
    return IssuedInvoice.load(sent.invoice, request, gateway)


@lru_cache(maxsize=_REMEMBERED)
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
        issued=_issued(answer, request),
        card_certificate=dual.signer,
    )


def card(store: OrderStore, xid: bytes) -> x509.Certificate:
    """The card's certificate that asked for the invoice of an order; no other one can order on it (M5)."""
    return read_signed(InvoiceReqTBS, CT_INVOICE_REQ, store.required(xid, Document.INVOICE_REQUEST)).signer


def auth_req(signed: bytes) -> AuthReqTBS:
    """A stored AuthReq."""
    return read_signed(AuthReqTBS, CT_AUTH_REQ, signed).body


def auth_res(signed: bytes) -> CheckedAuthRes:
    """The answer that passed `check_auth_res` when it came."""
    received = read_signed(AuthResTBS, CT_AUTH_RES, signed)
    return CheckedAuthRes(body=received.body, signed=signed, digest=received.digest)


def auth_ack(signed: bytes) -> AuthAckTBS:
    """A stored AuthAck."""
    return read_signed(AuthAckTBS, CT_AUTH_ACK, signed).body


def auth_req_message(signed: bytes) -> bytes:
    """The KwbpMessage around a stored AuthReq."""
    body = auth_req(signed)
    return wrap(CT_AUTH_REQ, signed, rrpid=body.rrpid, xid=body.xid)


def auth_ack_message(signed: bytes) -> bytes:
    """The KwbpMessage around a stored AuthAck."""
    body = auth_ack(signed)
    return wrap(CT_AUTH_ACK, signed, rrpid=body.rrpid, xid=body.xid)
