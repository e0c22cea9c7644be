"""Taking up an order from the store: the checked objects of `kwbp.merchant` rebuilt from what was checked then.

Nothing is checked again. Between the check and the restart a certificate may have expired or an invoice run out; the
order was accepted when they had not.
"""

from __future__ import annotations

from kwbp.common import read_signed
from kwbp.merchant import CheckedAuthRes, CheckedPurchase, IssuedInvoice, ReceivedPurchase
from kwbp.messages import AuthAckTBS, AuthReqTBS, AuthResTBS
from kwbp.wrapper import wrap
from pki.oids import CT_AUTH_ACK, CT_AUTH_REQ, CT_AUTH_RES


def purchase(received: ReceivedPurchase, issued: IssuedInvoice) -> CheckedPurchase:
    """The order that passed `check_purchase` when it came."""
    preq, dual = received.preq, received.dual
    return CheckedPurchase(
        oi=preq.oi_data,
        h_oi_data=dual.body.h_oi_data,
        dual=dual.body,
        dual_signature=preq.dual_sig,
        h_dual_sig=dual.digest,
        pi_envelope=preq.pi_envelope,
        issued=issued,
        card_certificate=dual.signer,
    )


def auth_res(signed: bytes) -> CheckedAuthRes:
    """The answer that passed `check_auth_res` when it came."""
    received = read_signed(AuthResTBS, CT_AUTH_RES, signed)
    return CheckedAuthRes(body=received.body, signed=signed, digest=received.digest)


def auth_req_message(signed: bytes) -> bytes:
    """The KwbpMessage around a stored AuthReq."""
    body = read_signed(AuthReqTBS, CT_AUTH_REQ, signed).body
    return wrap(CT_AUTH_REQ, signed, rrpid=body.rrpid, xid=body.xid)


def auth_ack_message(signed: bytes) -> bytes:
    """The KwbpMessage around a stored AuthAck."""
    body = read_signed(AuthAckTBS, CT_AUTH_ACK, signed).body
    return wrap(CT_AUTH_ACK, signed, rrpid=body.rrpid, xid=body.xid)
