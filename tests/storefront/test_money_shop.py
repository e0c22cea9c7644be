"""A real shop, a real gateway and the bank, after the authorisation: a refund reaches the buyer, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from storefront.errors import NotAsShown
from storefront.wallet.purchase import PurchaseState
from storefront.wallet.shown import offered
from storefront.wallet.texts import Language, label
from tests.support.payment_site import OPENING, Site, wait_for
from tests.support.shop_front import BASKET, TOTAL, Customer, Front, answer_lost, unreachable


def buy(front: Front, customer: Customer, purchases: Path) -> str:
    """A sale; its XID."""
    with customer.shopping(front, purchases) as buyer:
        return buyer.order(buyer.request_invoice(BASKET), **customer.typed).xid.hex()


def hold(front: Front, customer: Customer, purchases: Path) -> str:
    """An authorisation that only holds the money, as the buyer signed it; its XID."""
    with customer.shopping(front, purchases) as buyer:
        outcome = buyer.order(buyer.request_invoice(BASKET), **customer.typed, hold=True)
    assert outcome.state is PurchaseState.PAID
    return outcome.xid.hex()


class Till:
    """The merchant's people at their server."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def post(self, path: str, wish: str, **asked: Any) -> httpx.Response:
        with self._front.http(self._front.site.tls("operator")) as client:
            return client.post(path, json={"wish": wish, **asked}, timeout=60)

    def ask(self, xid: str, wish: str, operation: str, **asked: Any) -> dict[str, Any]:
        response = self.post(f"/orders/{xid}/money", wish, operation=operation, **asked)
        assert response.status_code in (200, 202), response.text
        document: dict[str, Any] = response.json()
        return document

    def batch(self, wish: str, operation: str) -> dict[str, Any]:
        document: dict[str, Any] = self.post("/batches", wish, operation=operation).json()
        return document

    def get(self, path: str) -> dict[str, Any]:
        with self._front.http(self._front.site.tls("operator")) as client:
            document: dict[str, Any] = client.get(path).json()
        return document


def test_a_sale_is_refunded_in_part_and_the_refund_taken_back(
    front: Front, customer: Customer, purchases: Path
) -> None:
    with front.serving():
        till, xid = Till(front), buy(front, customer, purchases)
        done = till.ask(xid, "return-1", "refund", amount=1_000_000)
        assert (done["state"], done["standing"]["state"]) == ("approved", "partly-refunded")
        assert customer.balance == OPENING - TOTAL + 1_000_000
        assert till.ask(xid, "return-1", "refund", amount=1_000_000)["changed_at"] == done["changed_at"]
        assert customer.balance == OPENING - TOTAL + 1_000_000
        refused = till.post(f"/orders/{xid}/money", "return-2", operation="refund", amount=TOTAL)
        assert (refused.status_code, refused.json()["clause"]) == (409, "H9")
        assert "from 1 to 3,950,000 rial" in refused.json()["detail"]
        assert till.ask(xid, "oops", "unrefund")["standing"]["refunded"] == 0
        assert customer.balance == OPENING - TOTAL
    with front.serving():
        assert [each["state"] for each in till.get(f"/orders/{xid}/money")["requests"]] == ["approved"] * 2


def test_what_was_only_held_is_captured_in_part_and_the_rest_let_go(
    front: Front, customer: Customer, purchases: Path
) -> None:
    with front.serving():
        till, xid = Till(front), hold(front, customer, purchases)
        assert till.get(f"/orders/{xid}/money")["standing"]["state"] == "held"
        assert till.ask(xid, "ship-1", "capture", amount=2_000_000)["standing"]["captured"] == 2_000_000
        done = till.ask(xid, "rest", "cancel", amount=2_000_000)
        assert (done["state"], done["standing"]["authorised"]) == ("approved", 2_000_000)
        assert customer.balance == OPENING - 2_000_000
        assert till.ask(xid, "not-shipped", "uncapture")["standing"]["state"] == "held"
        assert till.ask(xid, "nothing", "cancel")["standing"]["state"] == "cancelled"
        assert customer.balance == OPENING


def test_who_was_not_shown_that_money_is_held_signs_no_such_order(
    front: Front, customer: Customer, purchases: Path
) -> None:
    with front.serving(), customer.shopping(front, purchases) as buyer:
        checked = buyer.request_invoice(BASKET)
        for shown, hold in ((False, True), (True, False)):
            contents = offered(checked.signed, checked.order_details, hold=shown)
            assert (label("hold", Language.EN) in contents.told(Language.EN)) is shown
            with pytest.raises(NotAsShown):
                buyer.order(checked, **customer.typed, shown=contents, hold=hold)
    assert not purchases.exists()
    assert front.line.count("/v1/auth") == 0


@pytest.mark.parametrize("fault", [unreachable, answer_lost])
def test_a_lost_answer_refunds_once(front: Front, customer: Customer, purchases: Path, fault: Any) -> None:
    with front.serving():
        till, xid = Till(front), buy(front, customer, purchases)
        front.line.faults += [fault, fault]
        assert till.ask(xid, "return", "refund", amount=1_000_000)["state"] == "approved"
    requests = [body for path, body in front.line.sent if path == "/v1/settling"]
    assert (len(requests), len(set(requests))) == (3, 1)
    assert customer.balance == OPENING - TOTAL + 1_000_000


@pytest.mark.parametrize("step", ["money kept", "money answered"])
def test_a_shop_that_falls_refunds_once(front: Front, customer: Customer, purchases: Path, step: str) -> None:
    with front.serving():
        xid = buy(front, customer, purchases)
    with front.serving(fall=step):
        Till(front).post(f"/orders/{xid}/money", "return", operation="refund", amount=1_000_000)
    with front.serving():
        done = Till(front).ask(xid, "return", "refund", amount=1_000_000)
        assert (done["state"], done["standing"]["refunded"]) == ("approved", 1_000_000)
    assert len({body for path, body in front.line.sent if path == "/v1/settling"}) == 1
    assert customer.balance == OPENING - TOTAL + 1_000_000


def test_a_silent_bank_is_unknown_until_it_answers(
    site: Site, front: Front, customer: Customer, purchases: Path
) -> None:
    front.rules["money_patience"] = 0.2
    with front.serving():
        till, xid = Till(front), buy(front, customer, purchases)
        site.switch.admin.add_fault("0200", "drop")
        response = till.post(f"/orders/{xid}/money", "slow", operation="refund", amount=1_000_000)
        assert (response.status_code, response.json()["state"]) == (202, "open")
        other = till.post(f"/orders/{xid}/money", "other", operation="refund", amount=1)
        assert (other.status_code, other.json()["clause"]) == (409, "H5")
        wait_for(lambda: till.get(f"/orders/{xid}/money")["requests"][0]["state"] == "approved", within=60)
    assert customer.balance == OPENING - TOTAL + 1_000_000


@pytest.mark.slow
def test_killed_while_it_asks_it_refunds_once(front: Front, customer: Customer, purchases: Path) -> None:
    with front.process():
        xid = buy(front, customer, purchases)
    with front.process(fatal="money answered") as dying:
        with pytest.raises(httpx.TransportError):
            Till(front).post(f"/orders/{xid}/money", "return", operation="refund", amount=1_000_000)
        front.wait_killed(dying)
    with front.process():
        done = Till(front).ask(xid, "return", "refund", amount=1_000_000)
        assert done["state"] == "approved"
    assert customer.balance == OPENING - TOTAL + 1_000_000


def test_only_the_operator_may_ask(front: Front, customer: Customer, purchases: Path) -> None:
    with front.serving():
        xid = buy(front, customer, purchases)
        for tls in (None, front.tls):
            with front.http(tls) as client:
                asked = {"wish": "steal", "operation": "refund"}
                assert client.post(f"/orders/{xid}/money", json=asked).status_code in (401, 403)
        till = Till(front)
        assert till.post(f"/orders/{'0' * 40}/money", "none", operation="refund").json()["type"].endswith("unknown-xid")
        assert till.post(f"/orders/{xid}/money", "x", operation="steal").status_code == 422
        assert till.post(f"/orders/{xid}/money", "x", operation="refund", amount="5").status_code == 422
