"""InqReq of a card at a real gateway's public address: its own purchases, and nothing about anybody else's (row 18)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import card_inquiry as subject
from gateway import public_app
from kwbp.codes import AuthCode, ErrorCode, PurchaseStatus
from kwbp.commitment import commitment_cn
from kwbp.error_message import ReceivedError, read_error
from kwbp.inquiry import GatewayStatus, SentInquiry, build_inquiry, check_gateway_status
from kwbp.wrapper import MEDIA_TYPE, unwrap
from pki.oids import CT_ERROR, CT_INQ_RES
from pki.roles import Role
from runtime.client import http_client
from runtime.settings import Home, Settings
from tests.support.payment_parties import Buyer, Purchase, Shop, now
from tests.support.payment_site import ACQUIRER, OPENING, Site, wait_for
from tests.support.pki_factory import Credential


class Desk:
    """A gateway with its public address."""

    def __init__(self, site: Site, home: Home, url: str) -> None:
        self.site, self.home, self.url = site, home, url
        public = Settings.load(home).gateway.public_url
        assert public is not None
        self.public = public

    def client(self, **changes: Any) -> httpx.Client:
        return http_client(changes.get("tls"), self.public, ca=self.site.home.trust_anchors)

    def post(self, body: bytes, path: str = "/v1/inquiry", media_type: str = MEDIA_TYPE) -> httpx.Response:
        with self.client() as client:
            return client.post(path, content=body, headers={"content-type": media_type})

    def inquiry(
        self, signer: Credential, xid: bytes, merchant_id: str, *, ago: timedelta = timedelta()
    ) -> tuple[bytes, bytes]:
        """SignedData and KwbpMessage."""
        draft = build_inquiry(
            rrpid=os.urandom(20), xid=xid, merchant_id=merchant_id, chall=os.urandom(32), now=now() - ago
        )
        signed = signer.sign(draft.content_type, draft.content, signing_time=now() - ago)
        return signed, draft.message(signed)

    def asked(self, purchase: Purchase, signer: Credential | None = None) -> GatewayStatus:
        signed, message = self.inquiry(signer or purchase.buyer.credential, purchase.xid, purchase.shop.merchant_id)
        response = self.post(message)
        assert (response.status_code, response.headers["content-type"]) == (200, MEDIA_TYPE), response.text
        return check_gateway_status(
            unwrap(response.content, expected=(CT_INQ_RES,)),
            sent=SentInquiry.load(signed),
            gateway_id="GW-1",
            acquirer_bin=ACQUIRER,
            trust=self.site.pki.trust(now()),
            now=now(),
        )

    def refused(self, message: bytes) -> ReceivedError:
        answer = unwrap(self.post(message).content, expected=(CT_ERROR,))
        return read_error(answer, sent=message, role=Role.GATEWAY_SIGNING, trust=self.site.pki.trust(now()), now=now())


@pytest.fixture(scope="module")
def desk(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    home = site.gateway_home(tmp_path_factory.mktemp("desk") / "home")
    with site.gateway(home) as url:
        yield Desk(site, home, url)


@pytest.fixture
def shop(site: Site, desk: Desk) -> Shop:
    shop = site.new_shop()
    site.register(desk.url, shop)
    return shop


def test_the_card_of_a_purchase_learns_how_it_ended(desk: Desk, site: Site, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer)
    answer = shop.collect(desk.url, purchase)
    assert desk.asked(purchase).status is PurchaseStatus.IN_PROGRESS  # not acknowledged: it may go either way
    shop.acknowledge(desk.url, purchase.ack(answer))
    told = desk.asked(purchase)
    assert told.auth_res is not None
    assert (told.status, told.auth_res.auth_code) == (PurchaseStatus.CONCLUDED, AuthCode.APPROVED)


def test_an_order_that_nobody_acknowledged_is_told_to_be_given_back(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    """The silent shop of the dispute: it took the order and was never heard of again."""
    home, shop = site.gateway_home(tmp_path / "home", ack_timeout=0.5), site.new_shop()
    with site.gateway(home) as url:
        site.register(url, shop)
        purchase = site.purchase(shop, buyer)
        shop.collect(url, purchase)
        own = Desk(site, home, url)
        wait_for(lambda: shop.order(url, purchase.xid)["state"] == "REVERSED")
        assert own.asked(purchase).status is PurchaseStatus.REVERSED
    assert buyer.balance == OPENING


def test_a_renewed_certificate_of_the_card_counts(desk: Desk, site: Site, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer)
    shop.acknowledge(desk.url, purchase.ack(shop.collect(desk.url, purchase)))
    card = buyer.card
    renewed = site.pki.cardholder(commitment_cn(card.pan_secret, card.pan, card.expiry))
    assert desk.asked(purchase, renewed).status is PurchaseStatus.CONCLUDED


def test_a_refusal_does_not_tell_whether_a_purchase_exists(desk: Desk, site: Site, shop: Shop, buyer: Buyer) -> None:
    purchase, other = site.purchase(shop, buyer), site.buyer()
    shop.collect(desk.url, purchase)
    answers = []
    for xid, merchant_id in (
        (purchase.xid, shop.merchant_id),  # another card's
        (os.urandom(20), shop.merchant_id),  # nobody's
        (purchase.xid, site.new_shop().merchant_id),
    ):
        _, message = desk.inquiry(other.credential, xid, merchant_id)
        refusal = desk.refused(message)
        assert refusal.signer is not None
        body = refusal.body
        answers.append((body.error_code, body.clause, len(desk.post(message).content)))
    assert set(answers) == {(ErrorCode.UNKNOWN_XID, "Q2", answers[0][2])}


def test_what_is_not_signed_by_a_card_uses_no_key(desk: Desk, site: Site, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer)
    shop.collect(desk.url, purchase)
    before, written = site.key_uses("gateway-signing"), (desk.home.audit / "gateway.jsonl").read_bytes()
    _, honest = desk.inquiry(buyer.credential, purchase.xid, shop.merchant_id)
    cases = {
        "K5": desk.inquiry(shop.credential, purchase.xid, shop.merchant_id)[1],  # even the merchant of the order
        "K6": honest[:-1] + bytes([honest[-1] ^ 1]),
        "K7": desk.inquiry(buyer.credential, purchase.xid, shop.merchant_id, ago=timedelta(seconds=130))[1],
        "K1": b"junk",
    }
    for check, message in cases.items():
        refusal = desk.refused(message)
        assert (refusal.signer, refusal.body.clause) == (None, check)
    assert site.key_uses("gateway-signing") == before
    assert (desk.home.audit / "gateway.jsonl").read_bytes() == written  # strangers fill no disk


def test_a_revoked_card_is_told_nothing(site: Site, tmp_path: Path) -> None:
    buyer, shop = site.buyer(), site.new_shop()
    home = site.gateway_home(tmp_path / "home")
    with site.gateway(home) as url:
        site.register(url, shop)
        purchase = site.purchase(shop, buyer)
        shop.collect(url, purchase)
        site.pki.revoke(buyer.credential)
        site.publish()
        own = Desk(site, home, url)
        _, message = own.inquiry(buyer.credential, purchase.xid, shop.merchant_id)
        assert own.refused(message).body.error_code is ErrorCode.REVOKED_CERTIFICATE


def test_no_other_route_is_there(desk: Desk, site: Site, shop: Shop, buyer: Buyer) -> None:
    """Neither without a certificate, nor with one: this address asks for none and hands none on."""
    purchase = site.purchase(shop, buyer)
    for path in ("/v1/auth", "/v1/ack", "/v1/password", "/v1/certificates", "/v1/settling"):
        assert desk.post(purchase.message, path).status_code == 404
    with desk.client() as client:
        documents = "/docs", "/redoc", "/openapi.json"
        for path in (f"/v1/orders/{purchase.xid.hex()}", "/v1/merchants", "/metrics", "/health/ready", *documents):
            assert client.get(path).status_code == 404
    with http_client(site.tls("operator"), desk.public) as client:
        assert client.get("/v1/merchants").status_code == 404
    with pytest.raises(httpx.HTTPError), http_client(None, desk.url, ca=site.home.trust_anchors) as client:
        client.post("/v1/inquiry", content=purchase.message)  # and the merchants' address takes nobody without one


def test_a_card_is_counted(site: Site, tmp_path: Path, buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "INQUIRIES_OF_A_CARD", 2)
    monkeypatch.setattr(subject, "INQUIRIES_OF_CARDS", 2)
    home, shop = site.gateway_home(tmp_path / "home"), site.new_shop()
    with site.gateway(home) as url:
        site.register(url, shop)
        own = Desk(site, home, url)
        purchase, other = site.purchase(shop, buyer), site.purchase(shop, site.buyer())
        for each in (purchase, other):
            shop.acknowledge(url, each.ack(shop.collect(url, each)))
        own.asked(purchase)
        own.asked(purchase)
        before = site.key_uses("gateway-signing")
        for each in (purchase, other):  # the card's own count, and that of all
            _, message = own.inquiry(each.buyer.credential, each.xid, shop.merchant_id)
            refusal = own.refused(message)
            assert (refusal.signer, refusal.body.error_code) == (None, ErrorCode.RATE_LIMITED)
        assert site.key_uses("gateway-signing") == before


def test_an_address_is_counted(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_app, "REQUESTS_OF_AN_ADDRESS", 2)
    home = site.gateway_home(tmp_path / "home")
    with site.gateway(home) as url:
        own = Desk(site, home, url)
        statuses = [own.post(b"junk", media_type="text/plain").status_code for _ in range(3)]
    assert statuses == [415, 415, 429]
