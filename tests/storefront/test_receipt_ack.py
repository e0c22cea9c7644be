"""Row 17: the wallet acknowledges its receipt, the merchant keeps that once, and nothing hangs on it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from kwbp.codes import ErrorCode
from kwbp.common import read_signed
from kwbp.receipt_ack import ReceiptAckTBS, SentReceipt, build_receipt_ack
from kwbp.wrapper import wrap
from pki.der import sha256
from pki.oids import CT_RECEIPT_ACK
from storefront.errors import NoMessage
from storefront.merchant.documents import Document
from storefront.wallet import purchase as wallet
from storefront.wallet.purchase import Outcome, PurchaseState
from tests.support.payment_site import Site, now
from tests.support.shop_front import BASKET, Customer, Front

PATH = "/kwbp/receipt-ack"


def bought(front: Front, customer: Customer, purchases: Path) -> Outcome:
    with customer.shopping(front, purchases) as buyer:
        return buyer.order(buyer.request_invoice(BASKET), **customer.typed)


def message_of(signed: bytes) -> bytes:
    body = read_signed(ReceiptAckTBS, CT_RECEIPT_ACK, signed).body
    return wrap(CT_RECEIPT_ACK, signed, rrpid=body.rrpid, xid=body.xid)


def acknowledged(front: Front, xid: bytes) -> bytes | None:
    return front.document(xid, Document.RECEIPT_ACK)


def anew(front: Front, customer: Customer, xid: bytes) -> bytes:
    """Another acknowledgement of the same receipt by the same card."""
    receipt = front.document(xid, Document.RECEIPT)
    assert receipt is not None
    return customer.signed(build_receipt_ack(SentReceipt.load(receipt, front.merchant_id), now=now()))


def test_both_sides_keep_the_same_acknowledgement_of_the_receipt(
    front: Front, customer: Customer, purchases: Path
) -> None:
    with front.serving():
        outcome = bought(front, customer, purchases)
        kept = (purchases / outcome.xid.hex() / "receipt-ack.p7s").read_bytes()
        assert acknowledged(front, outcome.xid) == kept
        body = read_signed(ReceiptAckTBS, CT_RECEIPT_ACK, kept).body
        assert body.h_receipt == sha256((purchases / outcome.xid.hex() / "receipt.p7s").read_bytes())
        for again in (message_of(kept), anew(front, customer, outcome.xid)):
            assert front.post(PATH, again).status_code == 204
        assert acknowledged(front, outcome.xid) == kept  # the first one stays


def test_a_declined_order_is_acknowledged_as_well(site: Site, front: Front, purchases: Path) -> None:
    poor = Customer.of(site, balance=1)
    with front.serving():
        outcome = bought(front, poor, purchases)
        assert outcome.state is PurchaseState.DECLINED
        assert acknowledged(front, outcome.xid) is not None


def test_an_acknowledgement_that_was_lost_is_sent_again_by_the_next_resume(
    front: Front, customer: Customer, purchases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = wallet.post

    def lost(client: httpx.Client, path: str, message: bytes) -> object:
        if path == PATH:
            raise NoMessage("ConnectError")
        return send(client, path, message)

    with front.serving():
        with monkeypatch.context() as patched:
            patched.setattr(wallet, "post", lost)
            outcome = bought(front, customer, purchases)
        assert outcome.state is PurchaseState.PAID
        assert acknowledged(front, outcome.xid) is None
        with customer.shopping(front, purchases) as buyer:
            assert buyer.resume(outcome.xid).state is PurchaseState.PAID
        kept = (purchases / outcome.xid.hex() / "receipt-ack.p7s").read_bytes()
        assert acknowledged(front, outcome.xid) == kept


def test_v1_v2_what_is_no_acknowledgement_of_this_receipt_is_refused_and_not_kept(
    site: Site, front: Front, customer: Customer, purchases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with front.serving():
        with monkeypatch.context() as patched:
            patched.setattr(wallet.Buyer, "_acknowledge", lambda *_: None)
            outcome = bought(front, customer, purchases)
        stranger = anew(front, Customer.of(site), outcome.xid)
        told = front.refused(PATH, stranger).body
        assert (told.error_code, told.clause) == (ErrorCode.ROLE_NOT_ALLOWED, "V1")
        for xid in (bytes(20), None):
            unknown = wrap(CT_RECEIPT_ACK, b"\x30\x00", rrpid=bytes(20), xid=xid)
            told = front.refused(PATH, unknown).body
            assert (told.error_code, told.clause) == (ErrorCode.UNKNOWN_XID, "V2")
        assert acknowledged(front, outcome.xid) is None


def test_an_order_that_has_no_receipt_yet_is_not_acknowledged(front: Front, customer: Customer) -> None:
    with front.serving():
        request = customer.ask()
        order = customer.accept(request, front.post("/kwbp/invoice-request", customer.signed(request)).content, front)
        xid = order.checked.invoice.xid
        told = front.refused(PATH, wrap(CT_RECEIPT_ACK, b"\x30\x00", rrpid=bytes(20), xid=xid)).body
        assert (told.error_code, told.clause) == (ErrorCode.UNKNOWN_XID, "V2")


def test_the_operator_finds_it_in_the_evidence(site: Site, front: Front, customer: Customer, purchases: Path) -> None:
    with front.serving():
        outcome = bought(front, customer, purchases)
        with front.http(site.tls("operator")) as client:
            documents = client.get(f"/orders/{outcome.xid.hex()}/evidence").json()["documents"]
    assert "receipt-ack" in documents
