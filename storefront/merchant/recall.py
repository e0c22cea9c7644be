"""Taking up an order from the store: the checked objects of `kwbp.merchant` rebuilt from what was checked then.

Nothing is checked again. Between the check and the restart a certificate may have expired or an invoice run out; the
order was accepted when they had not.
"""

from __future__ import annotations

from cryptography import x509

from kwbp.common import read_signed
from kwbp.merchant import CheckedAuthRes, CheckedPurchase, IssuedInvoice, receive_purchase
from kwbp.messages import AuthAckTBS, AuthReqTBS, AuthResTBS, InvoiceMessage, InvoiceReqTBS
from kwbp.parties import GatewayIdentity
from kwbp.structure import decode
from kwbp.wrapper import unwrap, wrap
from pki.oids import CT_AUTH_ACK, CT_AUTH_REQ, CT_AUTH_RES, CT_INVOICE_REQ, MT_INVOICE, MT_PREQ
from storefront.merchant.documents import Document
from storefront.merchant.store import OrderStore


def issued(store: OrderStore, xid: bytes) -> IssuedInvoice:
    """The invoice of an order, as the buyer got it."""
    answer = unwrap(store.required(xid, Document.INVOICE_ANSWER), expected=(MT_INVOICE,))
    sent = decode(InvoiceMessage, answer.body)
    gateway = GatewayIdentity.of(x509.load_der_x509_certificate(sent.gateway_certificate))
    return IssuedInvoice.load(sent.invoice, store.required(xid, Document.INVOICE_REQUEST), gateway)


def purchase(store: OrderStore, xid: bytes) -> CheckedPurchase:
    """The order that passed `check_purchase` when it came."""
    received = receive_purchase(unwrap(store.required(xid, Document.PURCHASE), expected=(MT_PREQ,)))
    preq, dual = received.preq, received.dual
    return CheckedPurchase(
        oi=preq.oi_data,
        h_oi_data=dual.body.h_oi_data,
        dual=dual.body,
        dual_signature=preq.dual_sig,
        h_dual_sig=dual.digest,
        pi_envelope=preq.pi_envelope,
        issued=issued(store, xid),
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
