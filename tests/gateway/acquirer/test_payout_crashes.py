"""A gateway killed at each step of paying a merchant out: the day is paid once, and the ledger is what it must be.

Each process dies right after one step is durable and before its operator is told; the next one is asked the same again.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.client import http_client
from tests.gateway.settling_shop import collected
from tests.support.payment_parties import Buyer
from tests.support.payment_site import GatewayProcess, Site, wait_for
from tests.support.pki_factory import IBAN

pytestmark = pytest.mark.slow


def test_killed_at_every_step_a_day_is_paid_out_once(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    home = site.gateway_home(tmp_path / "home", payer_iban=IBAN, dual_control="off")  # who sends is told elsewhere
    shop = site.new_shop()
    operator = site.tls("operator")

    def said(url: str, method: str, path: str, **more: Any) -> httpx.Response:
        with http_client(operator, url) as client:
            return client.request(method, f"/v1/{path}", **more)

    def killed(dying: GatewayProcess, path: str, **more: Any) -> None:
        with pytest.raises(httpx.TransportError):
            said(dying.url, "POST", path, **more)
        dying.wait_killed()

    day = site.switch.admin.business_day()
    with site.gateway(home) as url:
        site.register(url, shop, iban=IBAN)
        collected(site, url, shop, buyer, 150_000)
        site.switch.admin.cut_over(day + timedelta(days=1))

        def closed() -> bool:
            said(url, "POST", "reconciliations:compare", json={})
            return all(row["state"] == "CLOSED" for row in said(url, "GET", "reconciliations").json())

        try:
            wait_for(closed, every=0.2)
        finally:
            site.switch.admin.cut_over(None)

    with site.gateway_process(home, fatal="payout-created") as dying:
        killed(dying, "payouts", json={})
    with site.gateway_process(home, fatal="payment-file-kept") as dying:
        assert said(dying.url, "POST", "payouts", json={}).json() == {"made": [], "left": []}
        killed(dying, "payment-files")
    with site.gateway_process(home, fatal="payment-file-sent") as dying:
        assert said(dying.url, "POST", "payment-files").status_code == 409
        (made,) = said(dying.url, "GET", "payment-files").json()
        send: dict[str, Any] = {"path": f"payment-files/{made['number']}:send", "json": {"digest": made["digest"]}}
        killed(dying, **send)
    with site.gateway_process(home, fatal="payouts-answered") as dying:
        (payout,) = said(dying.url, "POST", **send).json()
        assert (payout["state"], payout["amount"]) == ("SENT", 150_000)
        answer = f"reference,status,reason\n{payout['reference']},PAID,\n".encode()
        killed(dying, "bank-answers", content=answer)
    with site.gateway_process(home) as last:
        (paid,) = said(last.url, "POST", "bank-answers", content=answer).json()
        assert said(last.url, "GET", "payouts").json() == [paid]
        assert (paid["state"], paid["sent_at"]) == ("PAID", payout["sent_at"])
        assert said(last.url, "GET", "ledger-verification").json() == []
        accounts = {row["account"]: row["balance"] for row in said(last.url, "GET", "ledger").json()}
        assert accounts == dict.fromkeys(
            ("intermediary", "payouts", "receivable:switch", f"payable:{shop.merchant_id}"), 0
        )


def test_killed_at_every_step_what_came_late_is_booked_once(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    """The network counts a sale in a day that is finished; each gateway dies as it asks the network again for it."""
    home = site.gateway_home(tmp_path / "home", payer_iban=IBAN)
    shop, day = site.new_shop(), site.switch.admin.business_day()
    operator = site.tls("operator")

    def said(url: str, method: str, path: str, **more: Any) -> Any:
        with http_client(operator, url) as client:
            return client.request(method, f"/v1/{path}", **more).json()

    compare: dict[str, Any] = {"method": "POST", "path": "reconciliations:compare", "json": {}, "params": {"wait": 20}}
    try:
        with site.gateway(home) as url:
            site.register(url, shop, iban=IBAN)
            collected(site, url, shop, buyer, 150_000)
            site.switch.admin.cut_over(day + timedelta(days=1))
            said(url, **compare)
            said(url, "POST", "payouts", json={})
            site.switch.admin.cut_over(day)
            collected(site, url, shop, buyer, 70_000)
        site.switch.admin.cut_over(day + timedelta(days=1))
        # The one that finds the network past the day is killed too: it judges twice before the day is closed.
        steps = ("reconciliation-kept", "reconciliation-answered", "reconciliation-judged", "reconciliation-judged")
        for step in steps:
            with site.gateway_process(home, fatal=step) as dying:
                with contextlib.suppress(httpx.TransportError):
                    said(dying.url, **compare)
                dying.wait_killed()
        with site.gateway_process(home) as last:
            said(last.url, **compare)
            (row,) = said(last.url, "GET", "reconciliations")
            assert (row["state"], row["booked"]) == ("CLOSED", 220_000)
            accounts = {each["account"]: each["balance"] for each in said(last.url, "GET", "ledger")}
            assert (accounts["receivable:switch"], accounts["intermediary"]) == (0, 220_000)
            assert said(last.url, "GET", "ledger-verification") == []
    finally:
        site.switch.admin.cut_over(None)
