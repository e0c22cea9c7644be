"""A bundle out of the gateway's own records: two judges accept it as one party's, and no card is in it."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway import app as gateway_app
from gateway.evidence import evidence_of
from kwbp.inquiry import build_inquiry
from runtime.client import http_client, raise_problem
from runtime.language import Language
from runtime.problems import Problem
from storefront.errors import BundleRefused, EvidenceError
from storefront.evidence.bundle import write_bundle
from storefront.evidence.claims import Claim, Verdict
from storefront.evidence.folder import read_folder
from storefront.evidence.judgement import judge
from storefront.evidence.records import from_gateway_book
from storefront.evidence.statements import About, State
from tests.storefront.test_money_shop import Till, buy
from tests.support.evidence_judges import ask_both
from tests.support.payment_parties import Buyer, Purchase, Shop, now, signed_by
from tests.support.payment_site import Site
from tests.support.shop_front import Customer, Front


@pytest.fixture
def shop(site: Site, gateway: str) -> Shop:
    shop = site.new_shop()
    site.register(gateway, shop)
    return shop


@pytest.fixture
def buyer(site: Site) -> Buyer:
    return site.buyer()


def held(site: Site, gateway: str, purchase: Purchase) -> dict[str, Any]:
    query = {"merchant_id": purchase.shop.merchant_id}
    with http_client(site.tls("operator"), gateway) as client:
        path = f"/v1/orders/{purchase.xid.hex()}/evidence"
        answer: dict[str, Any] = raise_problem(client.get(path, params=query)).json()
    return answer


def inquire(gateway: str, purchase: Purchase) -> None:
    shop = purchase.shop
    draft = build_inquiry(
        rrpid=os.urandom(20), xid=purchase.xid, merchant_id=shop.merchant_id, chall=os.urandom(32), now=now()
    )
    assert shop.post(gateway, "/v1/inquiry", draft.message(signed_by(shop.credential, draft))).status_code == 200


def paid(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> Purchase:
    purchase = site.purchase(shop, buyer)
    answer = shop.collect(gateway, purchase)
    inquire(gateway, purchase)  # still under way: not kept
    shop.acknowledge(gateway, purchase.ack(answer))
    inquire(gateway, purchase)
    return purchase


def test_both_judges_accept_it(site: Site, gateway: str, shop: Shop, buyer: Buyer, tmp_path: Path) -> None:
    purchase = paid(site, gateway, shop, buyer)
    out = tmp_path / "bundle"
    verdict = write_bundle(from_gateway_book(held(site, gateway, purchase)), site.pki.root.certificate, out)
    assert (verdict["outcome"], verdict["later"], verdict["xid"]) == ("approved", "concluded", purchase.xid.hex())
    opinions = ask_both(out)
    assert opinions.ours is not None, opinions.refusal
    states = {about: each.state for about, each in opinions.ours.statements.items()}
    proven = (About.OFFER, About.ORDER, About.PAYMENT, About.ANSWER, About.ACKNOWLEDGEMENT, About.STATUS)
    assert {states[about] for about in proven} == {State.PROVEN}
    assert {states[about] for about in (About.REQUEST, About.RECEIPT, About.CONTRACT)} == {State.ABSENT}
    assert State.BROKEN not in states.values()
    for claim in (Claim.BUYER_DENIES_ORDER, Claim.BUYER_DENIES_PAYMENT, Claim.MERCHANT_DENIES_RESULT):
        assert opinions.decide(claim).verdict is Verdict.REFUTED
    gaps = [each.text(Language.EN) for each in opinions.ours.gaps]
    assert "no sealed card data: the order names them by their hash alone" in gaps


def test_a_declined_order(site: Site, gateway: str, shop: Shop, tmp_path: Path) -> None:
    purchase = site.purchase(shop, site.buyer(balance=1))
    shop.collect(gateway, purchase)
    verdict = write_bundle(from_gateway_book(held(site, gateway, purchase)), site.pki.root.certificate, tmp_path / "b")
    assert verdict["outcome"] == "declined"
    assert ask_both(tmp_path / "b").ours is not None


def test_no_card_is_in_it(site: Site, gateway: str, shop: Shop, buyer: Buyer, tmp_path: Path) -> None:
    purchase = paid(site, gateway, shop, buyer)
    out = tmp_path / "bundle"
    write_bundle(from_gateway_book(held(site, gateway, purchase)), site.pki.root.certificate, out)
    card = buyer.card
    assert card.pin2 is not None
    content = b"\n".join(path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file())
    assert card.pan.reveal().encode() not in content
    assert card.pin2.reveal().encode() not in content
    assert not (out / "pi-envelope.p7m").exists()
    assert purchase.checked.pi_envelope not in content


def test_a_bundle_of_others_needs_the_sealed_card_data_as_before(
    site: Site, gateway: str, shop: Shop, buyer: Buyer, tmp_path: Path
) -> None:
    """Only a bundle that has nothing of buyer's and merchant's own may do without."""
    purchase = paid(site, gateway, shop, buyer)
    out = tmp_path / "bundle"
    write_bundle(from_gateway_book(held(site, gateway, purchase)), site.pki.root.certificate, out)
    (out / "auth-req.p7s").write_bytes(purchase.signed)
    digests = out / "digests.txt"
    digests.write_text(f"{digests.read_text()}{sha256(purchase.signed).hexdigest()} auth-req.p7s\n")
    with pytest.raises(BundleRefused):
        judge(read_folder(out))
    assert ask_both(out).ours is None


def test_an_order_that_was_refused_with_an_error_proves_nothing(
    site: Site, gateway: str, shop: Shop, buyer: Buyer
) -> None:
    purchase = site.purchase(shop, buyer, card=replace(buyer.card, pan_secret=os.urandom(32)))
    shop.collect(gateway, purchase)
    with pytest.raises(EvidenceError):
        from_gateway_book(held(site, gateway, purchase))
    with pytest.raises(EvidenceError):
        from_gateway_book({"documents": {"auth_res": ""}})


def test_the_operator_alone_gets_it(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    purchase = paid(site, gateway, shop, buyer)
    query = {"merchant_id": shop.merchant_id}
    with http_client(shop.tls, gateway) as client:
        assert client.get(f"/v1/orders/{purchase.xid.hex()}/evidence", params=query).status_code == 403
    with http_client(site.tls("operator"), gateway) as client:
        missing = client.get(f"/v1/orders/{os.urandom(20).hex()}/evidence", params=query)
        assert missing.status_code == 404
    with pytest.raises(Problem):
        raise_problem(missing)


def test_orders_are_answered_while_evidence_is_gathered(
    site: Site, gateway: str, shop: Shop, buyer: Buyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lists of years are many: reading them takes its time, and nobody's who pays."""
    purchase, gathering, released = paid(site, gateway, shop, buyer), threading.Event(), threading.Event()

    def slow(*asked: Any) -> Any:
        gathering.set()
        assert released.wait(30)
        return evidence_of(*asked)

    monkeypatch.setattr(gateway_app, "evidence_of", slow)
    with ThreadPoolExecutor() as pool:
        evidence = pool.submit(held, site, gateway, purchase)
        try:
            assert gathering.wait(30)
            assert shop.order(gateway, purchase.xid)["state"] == "ACKED"
        finally:
            released.set()
        assert "auth_res" in evidence.result()["documents"]


def test_what_moved_the_money_later_is_in_it(site: Site, gateway: str, tmp_path: Path) -> None:
    front, customer = Front.of(site, gateway, tmp_path / "merchant"), Customer.of(site)
    with front.serving():
        till, xid = Till(front), buy(front, customer, tmp_path / "purchases")
        till.ask(xid, "one", "refund", amount=1_000_000)
    with http_client(site.tls("operator"), gateway) as client:
        path = f"/v1/orders/{xid}/evidence"
        found = raise_problem(client.get(path, params={"merchant_id": front.merchant_id})).json()
    assert len(found["money"]) == 1
    out = tmp_path / "bundle"
    write_bundle(from_gateway_book(found), site.pki.root.certificate, out)
    opinions = ask_both(out)
    assert opinions.ours is not None, opinions.refusal
    assert opinions.ours.statements[About.MONEY].state is State.PROVEN
    # And the certificates are judged by the bundle's own chain, as those of the purchase are.
    (authority,) = (out / "chain").glob("merchant-ca-*.pem")
    states = said(without(out, authority, tmp_path / "no-authority"))
    assert (states[About.OFFER], states[About.MONEY]) == (State.BROKEN, State.BROKEN)


def test_nothing_is_proven_at_a_time_of_the_exporters_choice(
    site: Site, gateway: str, shop: Shop, buyer: Buyer, tmp_path: Path
) -> None:
    """The answer says when it was; a gateway has no order information, which would say it otherwise."""
    purchase, out = paid(site, gateway, shop, buyer), tmp_path / "bundle"
    write_bundle(from_gateway_book(held(site, gateway, purchase)), site.pki.root.certificate, out)
    found = said(without(out, out / "auth-res.p7s", tmp_path / "no-answer"))
    assert {found[About.ORDER], found[About.PAYMENT]} == {State.BROKEN}


def test_a_file_that_every_bundle_has_is_missed_by_both(
    site: Site, gateway: str, shop: Shop, buyer: Buyer, tmp_path: Path
) -> None:
    purchase, out = paid(site, gateway, shop, buyer), tmp_path / "bundle"
    write_bundle(from_gateway_book(held(site, gateway, purchase)), site.pki.root.certificate, out)
    opinions = ask_both(without(out, out / "verdict.json", tmp_path / "no-verdict"))
    assert (opinions.ours, opinions.script.returncode) == (None, 2)


def said(folder: Path) -> dict[About, State]:
    opinions = ask_both(folder)
    assert opinions.ours is not None, opinions.refusal
    return {about: each.state for about, each in opinions.ours.statements.items()}


def without(bundle: Path, file: Path, made: Path) -> Path:
    """The bundle as somebody makes it who leaves a file out and says nothing of it."""
    shutil.copytree(bundle, made)
    name = str(file.relative_to(bundle))
    (made / name).unlink()
    digests = made / "digests.txt"
    digests.write_text("".join(f"{line}\n" for line in digests.read_text().splitlines() if line[65:] != name))
    return made
