"""The buyer's own records, as a real wallet writes them, are evidence from the moment the order is signed."""

from __future__ import annotations

from pathlib import Path

import pytest

from storefront.errors import ShopUnreachable
from storefront.evidence.bundle import write_bundle
from storefront.evidence.claims import Claim, Verdict
from storefront.evidence.judgement import Conclusion
from storefront.evidence.records import from_wallet
from storefront.wallet.records import PurchaseState
from tests.support.evidence_judges import Opinions, ask_both
from tests.support.payment_site import Site, wait_for
from tests.support.shop_front import BASKET, Customer, Front


def judged(front: Front, folder: Path, out: Path) -> Opinions:
    write_bundle(from_wallet(folder), front.site.pki.root.certificate, out)
    return ask_both(out)


def test_an_order_that_was_never_answered_proves_price_and_order(
    front: Front, customer: Customer, purchases: Path, tmp_path: Path
) -> None:
    with front.serving(fall="ordered"), customer.shopping(front, purchases) as buyer:
        checked = buyer.request_invoice(BASKET)
        with pytest.raises(ShopUnreachable):
            buyer.order(checked, **customer.typed)
    (folder,) = purchases.iterdir()
    opinions = judged(front, folder, tmp_path / "bundle")
    assert opinions.ours is not None
    assert opinions.ours.conclusion is Conclusion.INCOMPLETE
    assert opinions.decide(Claim.MERCHANT_DENIES_PRICE).verdict is Verdict.REFUTED
    assert opinions.decide(Claim.BUYER_DENIES_ORDER).verdict is Verdict.REFUTED
    assert opinions.decide(Claim.GATEWAY_DENIES_APPROVAL).verdict is Verdict.UNDECIDED


def test_a_purchase_that_the_gateway_closed_later_proves_that_the_money_is_back(
    site: Site, front: Front, customer: Customer, purchases: Path, tmp_path: Path
) -> None:
    site.switch.admin.add_fault("0200", "drop")
    with front.serving(), customer.shopping(front, purchases) as buyer:
        outcome = buyer.order(buyer.request_invoice(BASKET), **customer.typed)
        # no more often than a shop lets a card ask
        wait_for(lambda: buyer.resume(outcome.xid).state is PurchaseState.REVERSED, every=1.0)
    opinions = judged(front, purchases / outcome.xid.hex(), tmp_path / "bundle")
    assert opinions.ours is not None
    assert opinions.ours.conclusion is Conclusion.HOLDS
    assert opinions.decide(Claim.APPROVAL_WAS_REVERSED).verdict is Verdict.UPHELD
    assert opinions.decide(Claim.GATEWAY_DENIES_APPROVAL).verdict is Verdict.UPHELD
