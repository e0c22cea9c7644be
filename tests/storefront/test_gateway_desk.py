"""The buyer asks the gateway itself: the shop is silent, or says something else (row 18, dispute)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ca.hierarchy import load_hierarchy
from ca.status_client import StatusCache
from kwbp.codes import AuthCode, ErrorCode, PurchaseStatus
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.wrapper import MEDIA_TYPE
from pki.oids import CT_ERROR
from runtime import server
from runtime.client import http_client
from runtime.settings import Home, Settings
from storefront.errors import GatewayUnreachable, ShopUnreachable, WalletError
from storefront.evidence.bundle import write_bundle
from storefront.evidence.records import from_wallet
from storefront.wallet.gateway_desk import GatewayDesk
from storefront.wallet.purchase import PurchaseState
from storefront.wallet.records import PurchaseFolder
from tests.support.evidence_judges import ask_both
from tests.support.payment_parties import Shop, now
from tests.support.payment_site import OPENING, Site, wait_for
from tests.support.pki_factory import Credential
from tests.support.ports import free_port
from tests.support.shop_front import BASKET, TOTAL, Customer, Front


@pytest.fixture(scope="module")
def gateway_home(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Home:
    return site.gateway_home(tmp_path_factory.mktemp("gateway") / "home", ack_timeout=2.0)


@pytest.fixture(scope="module")
def gateway(site: Site, gateway_home: Home) -> Iterator[str]:
    """A gateway that gives an approval back after two seconds without an acknowledgement."""
    with site.gateway(gateway_home) as url:
        yield url


@contextmanager
def desk(customer: Customer, home: Home, purchases: Path, *, at: str | None = None) -> Iterator[GatewayDesk]:
    site = customer.bank.site
    hierarchy = load_hierarchy(site.home.pki)
    repository = f"http://127.0.0.1:{site.settings['repository']['port']}"
    status = StatusCache(repository, hierarchy.anchors, hierarchy.intermediates)
    url = at or Settings.load(home).gateway.public_url
    assert url is not None
    with http_client(None, url, ca=site.home.trust_anchors) as client:
        try:
            yield GatewayDesk(customer.card, client, trust=status.trust, folder=purchases, clock=now, rng=os.urandom)
        finally:
            status.close()


def only(purchases: Path) -> PurchaseFolder:
    (path,) = purchases.iterdir()
    return PurchaseFolder(path)


def test_a_shop_that_is_never_heard_of_again(
    front: Front, customer: Customer, purchases: Path, gateway_home: Home
) -> None:
    """It collected, acknowledged, and was gone: the buyer has paid, and has the gateway's signature for it."""
    front.rules["patience"] = 1.0
    with front.serving(fall="acknowledged"), customer.shopping(front, purchases) as buyer:
        invoice = buyer.request_invoice(BASKET)
        assert buyer.order(invoice, **customer.typed).state is PurchaseState.PENDING
    xid = invoice.invoice.xid
    with desk(customer, gateway_home, purchases) as gateway:
        word = gateway.ask(xid)
        assert (word.status, word.state, word.amount) == (PurchaseStatus.CONCLUDED, PurchaseState.PAID, TOTAL)
        assert word.answer is not None
        assert word.answer.auth_code is AuthCode.APPROVED
    folder = only(purchases)
    assert folder.state is PurchaseState.PAID
    assert not folder.has_receipt
    out = purchases.parent / "bundle"
    verdict = write_bundle(from_wallet(folder.path), customer.bank.site.pki.root.certificate, out)
    assert (verdict["outcome"], verdict["later"]) == ("approved", "concluded")
    assert ask_both(out).ours is not None
    with front.serving(), customer.shopping(front, purchases) as buyer:
        outcome = buyer.resume(xid)  # the shop is back: now there is a receipt as well
        assert (outcome.state, outcome.receipt is not None) == (PurchaseState.PAID, True)
    assert only(purchases).has_receipt


def test_a_shop_that_never_acknowledged_has_sold_nothing(
    front: Front, customer: Customer, purchases: Path, gateway_home: Home, gateway: str, site: Site
) -> None:
    front.rules["patience"] = 1.0
    with front.serving(fall="answered"), customer.shopping(front, purchases) as buyer:
        invoice = buyer.request_invoice(BASKET)
        assert buyer.order(invoice, **customer.typed).state is PurchaseState.PENDING
    xid = invoice.invoice.xid
    shop = Shop(site, front.merchant_id, front.terminal_id, front.credential, front.tls)
    with desk(customer, gateway_home, purchases) as asking:
        assert asking.ask(xid).state is PurchaseState.PENDING
        wait_for(lambda: shop.order(gateway, xid)["state"] == "REVERSED")
        assert asking.ask(xid).state is PurchaseState.REVERSED
    assert customer.balance == OPENING
    with front.serving(), customer.shopping(front, purchases) as buyer:
        assert buyer.resume(xid).state is PurchaseState.REVERSED  # whatever the shop says now


def test_an_order_that_never_reached_the_gateway_stays_open(
    front: Front, customer: Customer, purchases: Path, gateway_home: Home
) -> None:
    with front.serving(), customer.shopping(front, purchases) as buyer:
        invoice = buyer.request_invoice(BASKET)
    with customer.shopping(front, purchases) as buyer, pytest.raises(ShopUnreachable):
        buyer.order(invoice, **customer.typed)
    with desk(customer, gateway_home, purchases) as gateway:
        word = gateway.ask(invoice.invoice.xid)
        assert word.refusal is not None
        assert (word.state, word.refusal.code) == (PurchaseState.SIGNED, ErrorCode.UNKNOWN_XID)
        with pytest.raises(WalletError):
            gateway.ask(os.urandom(20))
    assert not (only(purchases).path / "gateway-status.p7s").exists()


def test_a_receipt_stays_what_it_is(front: Front, customer: Customer, purchases: Path, gateway_home: Home) -> None:
    with front.serving(), customer.shopping(front, purchases) as buyer:
        paid = buyer.order(buyer.request_invoice(BASKET), **customer.typed)
    with desk(customer, gateway_home, purchases) as gateway:
        word = gateway.ask(paid.xid)
    assert (word.state, word.status) == (PurchaseState.PAID, PurchaseStatus.CONCLUDED)
    out = purchases.parent / "bundle"
    write_bundle(from_wallet(only(purchases).path), customer.bank.site.pki.root.certificate, out)
    assert ask_both(out).ours is not None


def erring(site: Site, signer: Credential | None) -> AbstractContextManager[str]:
    """An address that refuses whatever it is sent, signed by `signer`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        draft = build_error(ProtocolError(ErrorCode.UNKNOWN_XID, "Q2", "unknown"), refused=body, now=now())
        content = draft.content
        signed = content if signer is None else signer.sign(CT_ERROR, content, signing_time=now())
        headers = [(b"content-type", MEDIA_TYPE.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": draft.message(signed)})

    return server.start(app, tls=site.home.tls_files("gateway"), client_certificate="none")


def test_only_the_gateway_of_the_order_is_believed(
    front: Front, customer: Customer, purchases: Path, gateway_home: Home, site: Site
) -> None:
    with front.serving(), customer.shopping(front, purchases) as buyer:
        paid = buyer.order(buyer.request_invoice(BASKET), **customer.typed)
    for signer in (None, site.pki.gateway_signing("GW-2", acquirer_bin="603770")):
        with (
            erring(site, signer) as url,
            desk(customer, gateway_home, purchases, at=url) as gateway,
            pytest.raises(GatewayUnreachable),
        ):
            gateway.ask(paid.xid)
    with desk(customer, gateway_home, purchases, at=f"https://127.0.0.1:{free_port()}") as gateway:
        with pytest.raises(GatewayUnreachable):
            gateway.ask(paid.xid)
