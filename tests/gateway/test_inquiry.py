"""InqReq at a real gateway (row 18): a merchant learns where its own purchases stand, and nobody else's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway import inquiry as subject
from gateway.inquiry import STATUS
from gateway.states import OrderState
from gateway.store import OrderStore
from kwbp.codes import AuthCode, ErrorCode, PurchaseStatus
from kwbp.error_message import read_error
from kwbp.inquiry import GatewayStatus, SentInquiry, build_inquiry, check_gateway_status
from kwbp.wrapper import MEDIA_TYPE, unwrap
from pki.oids import CT_ERROR, CT_INQ_RES
from pki.roles import Role
from tests.gateway.conftest import NOW, new_order, run
from tests.support.payment_parties import Buyer, Purchase, Shop, error_of, now, signed_by
from tests.support.payment_site import ACQUIRER, OPENING, Site, wait_for


def inquiry(shop: Shop, xid: bytes, *, merchant_id: str | None = None) -> tuple[bytes, bytes]:
    """InqReq of a shop: SignedData and KwbpMessage."""
    draft = build_inquiry(
        rrpid=os.urandom(20), xid=xid, merchant_id=merchant_id or shop.merchant_id, chall=os.urandom(32), now=now()
    )
    signed = signed_by(shop.credential, draft)
    return signed, draft.message(signed)


def asked(gateway: str, purchase: Purchase) -> GatewayStatus:
    shop = purchase.shop
    signed, message = inquiry(shop, purchase.xid)
    response = shop.post(gateway, "/v1/inquiry", message)
    assert (response.status_code, response.headers["content-type"]) == (200, MEDIA_TYPE), response.text
    return check_gateway_status(
        unwrap(response.content, expected=(CT_INQ_RES,)),
        sent=SentInquiry.load(signed),
        gateway_id="GW-1",
        acquirer_bin=ACQUIRER,
        trust=shop.site.pki.trust(now()),
        now=now(),
    )


def test_every_state_of_an_order_is_one_of_the_protocol() -> None:
    assert set(STATUS) == set(OrderState)
    assert set(STATUS.values()) == set(PurchaseStatus)


def test_an_approval_is_told_once_it_was_acknowledged(gateway: str, site: Site, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer)
    answer = shop.collect(gateway, purchase)
    before = asked(gateway, purchase)
    assert (before.status, before.result) == (PurchaseStatus.IN_PROGRESS, None)
    assert shop.acknowledge(gateway, purchase.ack(answer)) == b""
    after = asked(gateway, purchase)
    assert after.auth_res is not None
    assert (after.status, after.auth_res.auth_code) == (PurchaseStatus.CONCLUDED, AuthCode.APPROVED)
    assert after.auth_res.rrn == purchase.checked_answer(answer).body.rrn


def test_a_decline_is_told(gateway: str, site: Site, shop: Shop) -> None:
    purchase = site.purchase(shop, site.buyer(balance=1))
    shop.collect(gateway, purchase)
    told = asked(gateway, purchase)
    assert told.auth_res is not None
    assert (told.status, told.auth_res.auth_code) == (PurchaseStatus.CONCLUDED, AuthCode.DECLINED)


def test_an_outcome_that_nobody_knew_is_told_until_the_money_is_back(
    gateway: str, site: Site, shop: Shop, buyer: Buyer
) -> None:
    site.switch.admin.add_fault("0200", "drop")
    site.switch.admin.add_fault("042x", "ignore", count=1000)
    purchase = site.purchase(shop, buyer)
    try:
        shop.collect(gateway, purchase)
        assert asked(gateway, purchase).status is PurchaseStatus.REVERSING
    finally:
        site.switch.admin.clear_faults()
    wait_for(lambda: asked(gateway, purchase).status is PurchaseStatus.REVERSED)
    told = asked(gateway, purchase)
    assert told.auth_res is not None
    assert told.auth_res.auth_code is AuthCode.NO_REPLY
    assert buyer.balance == OPENING


def test_a_decline_that_was_told_as_noreply_is_told_as_nothing_debited(
    gateway: str, site: Site, shop: Shop, buyer: Buyer
) -> None:
    """Response code 91: the issuer was not there. "What noReply says stands" would never end the asking."""
    site.switch.admin.add_fault("0200", "refuse", rc="91")
    purchase = site.purchase(shop, buyer)
    shop.collect(gateway, purchase)
    told = asked(gateway, purchase)
    assert told.auth_res is not None
    assert (told.status, told.auth_res.auth_code) == (PurchaseStatus.REVERSED, AuthCode.NO_REPLY)
    assert buyer.balance == OPENING


def test_an_order_that_was_given_up_before_it_was_sent_is_told_as_nothing_debited(book: OrderStore) -> None:
    """Nobody was answered about it, so there is no answer that could stand."""
    order = run(book.receive(new_order(), NOW))
    assert subject.status_of(order) is PurchaseStatus.IN_PROGRESS
    run(book.abandon(NOW, untouched_since=NOW))
    given_up = book.find(order.key)
    assert given_up is not None
    assert (given_up.state, subject.status_of(given_up)) == (OrderState.DECLINED, PurchaseStatus.REVERSED)


def test_a_purchase_that_never_came_is_unknown(gateway: str, site: Site, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer)
    _, message = inquiry(shop, purchase.xid)
    refusal = error_of(shop.post(gateway, "/v1/inquiry", message).content, message, site)
    assert (refusal.error_code, refusal.clause) == (ErrorCode.UNKNOWN_XID, "Q2")


def test_nobody_learns_of_anothers_purchase(gateway: str, site: Site, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer)
    shop.collect(gateway, purchase)
    other = site.new_shop()
    _, own_name = inquiry(other, purchase.xid)
    refusal = error_of(other.post(gateway, "/v1/inquiry", own_name).content, own_name, site)
    assert (refusal.error_code, refusal.clause) == (ErrorCode.UNKNOWN_XID, "Q2")
    _, false_name = inquiry(other, purchase.xid, merchant_id=shop.merchant_id)
    refusal = error_of(other.post(gateway, "/v1/inquiry", false_name).content, false_name, site)
    assert (refusal.error_code, refusal.clause) == (ErrorCode.ROLE_NOT_ALLOWED, "Q1")
    # the right signature over another merchant's connection
    _, stolen = inquiry(shop, purchase.xid)
    refusal = error_of(other.post(gateway, "/v1/inquiry", stolen).content, stolen, site)
    assert (refusal.error_code, refusal.clause) == (ErrorCode.ROLE_NOT_ALLOWED, "Q1")


def test_what_is_no_inquiry_is_refused_without_a_signature(gateway: str, site: Site, shop: Shop, buyer: Buyer) -> None:
    message = site.purchase(shop, buyer).message
    answer = unwrap(shop.post(gateway, "/v1/inquiry", message).content, expected=(CT_ERROR,))
    refusal = read_error(answer, sent=message, role=Role.GATEWAY_SIGNING, trust=site.pki.trust(now()), now=now())
    assert (refusal.body.error_code, refusal.body.clause) == (ErrorCode.MESSAGE_NOT_SUPPORTED, "K2")
    assert refusal.signer is None


def test_inquiries_are_counted_for_each_merchant(
    site: Site, tmp_path: Path, shop: Shop, buyer: Buyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "INQUIRIES_A_MINUTE", 1)
    with site.gateway(site.gateway_home(tmp_path / "home")) as url:
        site.register(url, shop)
        purchase = site.purchase(shop, buyer)
        shop.collect(url, purchase)
        asked(url, purchase)
        _, message = inquiry(shop, purchase.xid)
        refusal = error_of(shop.post(url, "/v1/inquiry", message).content, message, site)
        assert (refusal.error_code, refusal.clause) == (ErrorCode.RATE_LIMITED, "Q1")
        other = site.new_shop()
        _, message = inquiry(other, purchase.xid)
        refusal = error_of(other.post(url, "/v1/inquiry", message).content, message, site)
        assert refusal.error_code is ErrorCode.UNKNOWN_XID
