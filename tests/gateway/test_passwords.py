"""OTPReq at a real gateway (row 11): from the merchant through token and switch to the bank, and back, signed."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway import passwords as subject
from gateway import refusals
from gateway.merchants import Merchant, MerchantRegistry
from gateway.password_book import PasswordBook
from gateway.store import OrderStore
from kwbp import fields
from kwbp.codes import ErrorCode
from kwbp.error_message import read_error
from kwbp.money import Money
from kwbp.parties import GatewayIdentity
from kwbp.password import (
    AskedPassword,
    OTPReqTBS,
    OTPResTBS,
    PasswordRequestDraft,
    SentPasswordRequest,
    check_password_answer,
)
from kwbp.password import seal_password_request as sealed
from kwbp.structure import encode
from kwbp.wrapper import MEDIA_TYPE, unwrap, wrap
from pki.cms_enveloped import seal
from pki.oids import CT_ERROR, CT_OTP_REQ, CT_OTP_RES
from pki.roles import Role
from runtime.client import http_client
from shetab.types import Pin
from switch.inbox import ShortMessage
from tests.gateway.conftest import run
from tests.gateway.test_secrecy import leaks, telling_buyer
from tests.support.payment_parties import Buyer, Shop, error_of, now
from tests.support.payment_site import Site, wait_for
from tests.support.pki_factory import Credential


@dataclass
class Holder:
    """A buyer in front of an invoice, who has no password yet."""

    site: Site
    shop: Shop
    buyer: Buyer
    amount: int = 150_000

    def __post_init__(self) -> None:
        self.xid = os.urandom(20)

    def request(
        self, *, signer: Credential | None = None, ago: timedelta = timedelta(), **changes: Any
    ) -> SentPasswordRequest:
        gateway, card = GatewayIdentity.of(self.site.encryption.certificate), self.buyer.card
        body = OTPReqTBS(
            **{
                "version": fields.VERSION,
                "rrpid": os.urandom(20),
                "xid": self.xid,
                "merchant_id": self.shop.merchant_id,
                "gw_id": gateway.gateway_id,
                "gw_cert_hash": gateway.cert_hash,
                "amount": Money.rial(self.amount),
                "invoice_hash": os.urandom(32),
                "pan": card.pan.reveal(),
                "expiry": card.expiry.reveal(),
                "pan_secret": card.pan_secret,
                "ex_nonce": os.urandom(32),
                "date": fields.to_time(now() - ago),
                **changes,
            }
        )
        draft = PasswordRequestDraft(CT_OTP_REQ, body, encode(body))
        signed = (signer or self.buyer.credential).sign(CT_OTP_REQ, draft.content, signing_time=now() - ago)
        return sealed(draft, signed, gateway, rng=os.urandom)

    def ask(self, url: str, sent: SentPasswordRequest, shop: Shop | None = None) -> bytes:
        response = (shop or self.shop).post(url, "/v1/password", sent.message)
        assert response.status_code == 200, response.text
        return response.content

    def told(self, answer: bytes, sent: SentPasswordRequest) -> OTPResTBS:
        message = unwrap(answer, expected=(CT_OTP_RES,))
        return check_password_answer(message, sent=sent, trust=self.site.pki.trust(now()), now=now())

    @property
    def messages(self) -> list[ShortMessage]:
        return self.site.switch.admin.messages(self.buyer.issued.card_id)

    @property
    def password(self) -> Pin:
        return Pin.parse(self.messages[-1].password)


@pytest.fixture
def holder(site: Site, shop: Shop, buyer: Buyer) -> Holder:
    return Holder(site, shop, buyer)


def refusal(holder: Holder, url: str, sent: SentPasswordRequest, shop: Shop | None = None) -> tuple[ErrorCode, str]:
    error = error_of(holder.ask(url, sent, shop), sent.message, holder.site)
    return error.error_code, error.clause


def test_the_holder_is_told_and_the_wallet_learns_where(gateway: str, holder: Holder) -> None:
    sent = holder.request()
    told = holder.told(holder.ask(gateway, sent), sent)
    (message,) = holder.messages
    assert told.sent_to == f"{message.number[:4]}*****{message.number[-2:]}"
    assert (message.merchant, message.amount) == (holder.shop.merchant_id, 150_000)
    assert fields.to_time(message.valid_until) == told.valid_until


def test_a_repeat_gets_the_same_bytes_and_no_second_message(gateway: str, holder: Holder) -> None:
    sent = holder.request()
    assert holder.ask(gateway, sent) == holder.ask(gateway, sent)
    assert len(holder.messages) == 1


def test_the_same_at_once_is_asked_of_the_bank_once(gateway: str, holder: Holder) -> None:
    sent = holder.request()
    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(lambda _: holder.ask(gateway, sent), range(8)))
    assert (len(answers), len(holder.messages)) == (1, 1)


def test_a_media_type_is_known_in_any_case(gateway: str, holder: Holder) -> None:
    sent = holder.request()
    with http_client(holder.shop.tls, gateway) as client:
        headers = {"content-type": f"{MEDIA_TYPE.upper()}; charset=binary"}
        answer = client.post("/v1/password", content=sent.message, headers=headers)
        assert client.post("/v1/password", content=sent.message).status_code == 415
    holder.told(answer.content, sent)


def test_a_restart_changes_neither(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    home, holder = site.gateway_home(tmp_path / "home"), Holder(site, site.new_shop(), buyer)
    sent = holder.request()
    with site.gateway(home) as url:
        site.register(url, holder.shop)
        first = holder.ask(url, sent)
    with site.gateway(home) as url:
        assert holder.ask(url, sent) == first
    assert len(holder.messages) == 1


@pytest.mark.parametrize("fatal", ["password asked", "password given", "password told"])
def test_a_gateway_that_falls_asks_again_and_the_holder_is_told_once(
    site: Site, tmp_path: Path, buyer: Buyer, fatal: str
) -> None:
    home, holder = site.gateway_home(tmp_path / "home"), Holder(site, site.new_shop(), buyer)
    sent = holder.request()
    with site.gateway_process(home, fatal=fatal) as process:
        site.register(process.url, holder.shop)
        with pytest.raises(Exception):  # noqa: B017  # whatever the broken connection looks like
            holder.ask(process.url, sent)
        process.wait_killed()
    with site.gateway(home) as url:
        holder.told(holder.ask(url, sent), sent)
    assert len(holder.messages) == 1


@pytest.mark.parametrize("fault", ["drop", "ignore"])
def test_a_bank_that_is_not_heard_is_asked_again(site: Site, tmp_path: Path, buyer: Buyer, fault: Any) -> None:
    home, holder = site.gateway_home(tmp_path / "home", answer_timeout=0.5), Holder(site, site.new_shop(), buyer)
    sent = holder.request()
    with site.gateway(home) as url:
        site.register(url, holder.shop)
        site.switch.admin.add_fault("0600", fault)
        assert holder.shop.post(url, "/v1/password", sent.message).status_code == 503
        wait_for(lambda: holder.shop.post(url, "/v1/password", sent.message).status_code == 200)
        holder.told(holder.ask(url, sent), sent)
    assert len(holder.messages) == 1


def test_p3_p4_whatever_is_wrong_inside_is_refused_alike(gateway: str, site: Site, holder: Holder) -> None:
    other = site.new_shop()
    site.register(gateway, other)
    wrong: list[Callable[[], tuple[ErrorCode, str]]] = [
        lambda: refusal(holder, gateway, holder.request(), other),  # passed on by somebody else
        lambda: refusal(holder, gateway, holder.request(gw_id="GW-2")),
        lambda: refusal(holder, gateway, holder.request(pan_secret=os.urandom(32))),
        lambda: refusal(holder, gateway, holder.request(signer=holder.shop.credential)),
        lambda: refusal(holder, gateway, holder.request(ago=timedelta(seconds=130))),
    ]
    assert [each() for each in wrong] == [(ErrorCode.DECODING_FAILURE, "P3")] * len(wrong)
    assert holder.messages == []


def test_p2_what_is_sealed_to_another_gateway_uses_no_key(gateway: str, site: Site, holder: Holder) -> None:
    identity = GatewayIdentity.of(site.pki.gateway_encryption("GW-2", acquirer_bin="603770").certificate)
    sent = holder.request()
    body = unwrap(sent.message, expected=(CT_OTP_REQ,)).body
    before = site.key_uses("gateway-encryption")
    elsewhere = wrap(CT_OTP_REQ, holder_seal(body, identity), rrpid=sent.rrpid, xid=sent.xid)
    error = error_of(holder.ask(gateway, replace(sent, message=elsewhere)), elsewhere, site, signed=False)
    assert (error.error_code, error.clause) == (ErrorCode.ENVELOPE_MISMATCH, "P2")
    bare = wrap(CT_OTP_REQ, b"\x30\x00", rrpid=sent.rrpid, xid=sent.xid)
    assert error_of(holder.ask(gateway, replace(sent, message=bare)), bare, site, signed=False).clause == "K4"
    assert site.key_uses("gateway-encryption") == before


def holder_seal(plaintext: bytes, gateway: GatewayIdentity) -> bytes:
    return seal(plaintext, gateway.certificate, gateway.strongest_suite, rng=os.urandom)


def test_a_revoked_card_gets_no_password(site: Site, tmp_path: Path) -> None:
    holder = Holder(site, site.new_shop(), site.buyer())
    site.pki.revoke(holder.buyer.credential)
    site.publish()
    with site.gateway(site.gateway_home(tmp_path / "home")) as url:
        site.register(url, holder.shop)
        assert refusal(holder, url, holder.request()) == (ErrorCode.REVOKED_CERTIFICATE, "K5")
    assert holder.messages == []


def test_while_the_status_of_certificates_cannot_be_had_no_key_is_used(
    gateway: str, site: Site, holder: Holder
) -> None:
    crls, sent, before = site.home.pki / "crls", holder.request(), site.key_uses("gateway-encryption")
    crls.rename(crls.with_name("crls-away"))
    try:
        assert holder.shop.post(gateway, "/v1/password", sent.message).status_code == 503
    finally:
        crls.with_name("crls-away").rename(crls)
    assert site.key_uses("gateway-encryption") == before
    holder.told(holder.ask(gateway, sent), sent)


def test_what_can_be_sent_no_more_is_forgotten(tmp_path: Path) -> None:
    """A card that asks every minute would fill the book otherwise."""
    first, start = asked(), now()

    async def days(book: PasswordBook) -> list[bytes | None]:
        kept = []
        for later in (timedelta(), timedelta(hours=23), timedelta(days=2)):
            each = asked() if later else first
            await book.ask(each, "603770", start + later, route="switch")
            await book.answered(each, b"answer")
            kept.append(await book.answer("M1", first.h_otp_req))
        return kept

    async def opened() -> list[bytes | None]:
        with OrderStore.open(tmp_path / "gateway.sqlite") as store:
            await MerchantRegistry(store).register(Merchant("M1", "T1", "Shop", "5999"), start)
            return await days(PasswordBook(store))

    assert run(opened()) == [b"answer", b"answer", None]


def asked() -> AskedPassword:
    return AskedPassword(os.urandom(20), os.urandom(20), "M1", Money.rial(1), os.urandom(32))


def test_k3_an_rrpid_is_used_once(gateway: str, holder: Holder) -> None:
    sent = holder.request()
    holder.ask(gateway, sent)
    again = holder.request(rrpid=sent.rrpid)
    assert refusal(holder, gateway, again) == (ErrorCode.BAD_MESSAGE_HEADER, "K3")


def test_p9_requests_of_a_card_and_of_a_merchant_are_counted(
    gateway: str, site: Site, holder: Holder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for _ in range(subject.REQUESTS_OF_A_CARD):
        sent = holder.request()
        holder.told(holder.ask(gateway, sent), sent)
    assert refusal(holder, gateway, holder.request()) == (ErrorCode.RATE_LIMITED, "P9")
    monkeypatch.setattr(subject, "REQUESTS_A_MINUTE", 1)
    with site.gateway(site.gateway_home(tmp_path / "home")) as url:
        site.register(url, holder.shop)
        fresh = Holder(site, holder.shop, site.buyer())
        fresh.ask(url, fresh.request())
        before = site.key_uses("gateway-encryption")
        assert refusal(fresh, url, fresh.request()) == (ErrorCode.RATE_LIMITED, "P9")
        assert site.key_uses("gateway-encryption") == before


def test_what_the_bank_refuses_is_not_explained(gateway: str, site: Site, holder: Holder) -> None:
    site.switch.admin.block_card(holder.buyer.issued.card_id)
    assert refusal(holder, gateway, holder.request()) == (ErrorCode.UNSPECIFIED_FAILURE, "P4")
    site.switch.admin.add_fault("0600", "alter", changed={48: "no date"})
    site.switch.admin.unblock_card(holder.buyer.issued.card_id)
    assert refusal(holder, gateway, holder.request()) == (ErrorCode.UNSPECIFIED_FAILURE, "P4")
    site.switch.admin.clear_faults()
    site.switch.admin.add_fault("0600", "alter", changed={39: "65"})
    assert refusal(holder, gateway, holder.request()) == (ErrorCode.RATE_LIMITED, "P9")


def test_an_inactive_merchant_passes_nothing_on(gateway: str, site: Site, holder: Holder) -> None:
    site.register(gateway, holder.shop, active=False)
    assert refusal(holder, gateway, holder.request()) == (ErrorCode.ROLE_NOT_ALLOWED, "P3")


def test_junk_of_wallets_takes_no_signed_refusal_from_the_merchants_orders(
    site: Site, tmp_path: Path, buyer: Buyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody who has an invoice can make a shop pass on junk; a shop believes no bare refusal of an order."""
    monkeypatch.setattr(refusals, "_BUDGET", 1)
    shop, identity = site.new_shop(), GatewayIdentity.of(site.encryption.certificate)
    with site.gateway(site.gateway_home(tmp_path / "home")) as url:
        site.register(url, shop)
        for _ in range(2):
            junk = wrap(CT_OTP_REQ, holder_seal(b"junk", identity), rrpid=os.urandom(20), xid=os.urandom(20))
            shop.post(url, "/v1/password", junk)
        purchase = site.purchase(shop, buyer)
        site.register(url, shop, active=False)
        answer = unwrap(shop.post(url, "/v1/auth", purchase.message).content, expected=(CT_ERROR,))
    trust = site.pki.trust(now())
    error = read_error(answer, sent=purchase.message, role=Role.GATEWAY_SIGNING, trust=trust, now=now())
    assert error.signer is not None


def test_bytes_that_are_no_message(gateway: str, holder: Holder) -> None:
    response = holder.shop.post(gateway, "/v1/password", b"junk")
    assert unwrap(response.content, expected=(CT_ERROR,)).msg_type == CT_ERROR


def test_neither_password_nor_card_are_in_a_file(site: Site, tmp_path: Path) -> None:
    """Of gateway, bank, HSM service: order books, logs, journals."""
    home, holder = site.gateway_home(tmp_path / "home"), Holder(site, site.new_shop(), telling_buyer(site))
    with site.gateway_process(home) as process:
        site.register(process.url, holder.shop)
        holder.ask(process.url, holder.request())
        holder.ask(process.url, holder.request(pan_secret=os.urandom(32)))
        password = holder.password
        typed = replace(holder.buyer, card=replace(holder.buyer.card, pin2=password))
        held = leaks(home.path, typed)
    assert held == []
    assert leaks(home.path, typed) == []
    canary = password.reveal().encode()
    for folder in (site.home.audit, site.home.log, site.home.db, home.db, home.log, home.audit):
        for path in folder.rglob("*"):
            assert not path.is_file() or canary not in path.read_bytes(), path.name
