"""A gateway killed at a step of rows 19 to 22: what the merchant asked for is done once, and it gets its answer.

As in `test_crashes`: the process kills itself right after the step, is started again on the same order book, and the
merchant sends the same bytes again.
"""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from kwbp.codes import BatchOperation, BatchStatus
from kwbp.settling import sale_entry, totals_of
from tests.gateway.settling_shop import batch, batch_answer, batch_draft, collected, request_message
from tests.gateway.test_settling_batches import next_second
from tests.gateway.test_settling_faults import recorded
from tests.gateway.test_settling_requests import AMOUNT
from tests.support.payment_parties import Buyer
from tests.support.payment_site import OPENING, Site, wait_for

CREDIT = 30_000
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("step", ["settling-taken", "settling-sent", "settling-answered", "settling-signed"])
def test_killed_at_a_step_the_request_is_done_once(site: Site, tmp_path: Path, buyer: Buyer, step: str) -> None:
    home, shop = site.gateway_home(tmp_path / "home"), site.new_shop()
    with site.gateway_process(home, fatal=step) as dying:
        site.register(dying.url, shop)
        sale = collected(site, dying.url, shop, buyer, AMOUNT)
        draft = sale.credit(CREDIT)
        message = request_message(shop, draft)
        with pytest.raises(httpx.TransportError):
            sale.sent(message)
        dying.wait_killed()
    with site.gateway_process(home) as again:
        sale.url = again.url
        assert sale.judged(draft, message, sale.sent(message)).approved
        assert sale.sent(message) == sale.sent(message)
        # nothing of the earlier run is left that could be done a second time
        sale.done(sale.credit(1))
    assert buyer.balance == OPENING - AMOUNT + CREDIT + 1
    assert recorded(site, sale) == ["approved", "approved"]
    assert site.switch.admin.is_balanced()


def test_killed_before_it_was_sent_nobody_has_to_ask_again(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    home, shop = site.gateway_home(tmp_path / "home", answer_timeout=1.0), site.new_shop()
    with site.gateway_process(home, fatal="settling-taken") as dying:
        site.register(dying.url, shop)
        sale = collected(site, dying.url, shop, buyer, AMOUNT)
        with pytest.raises(httpx.TransportError):
            sale.sent(request_message(shop, sale.credit(CREDIT)))
        dying.wait_killed()
    assert buyer.balance == OPENING - AMOUNT
    with site.gateway_process(home):
        wait_for(lambda: buyer.balance == OPENING - AMOUNT + CREDIT)
    assert recorded(site, sale) == ["approved"]


def test_killed_after_a_batch_was_closed_the_merchant_gets_the_answer(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    home, shop = site.gateway_home(tmp_path / "home"), site.new_shop()
    with site.gateway(home) as url:
        site.register(url, shop)
        batch(shop, url, batch_draft(shop, BatchOperation.OPEN, 1))
        sale = collected(site, url, shop, buyer, AMOUNT)
    until = next_second()
    entries = [sale_entry(sale.auth_res)]
    draft = batch_draft(shop, BatchOperation.CLOSE, 1, until=until, totals=totals_of(entries))
    message = request_message(shop, draft)
    with site.gateway_process(home, fatal="batch-kept") as dying:
        with pytest.raises(httpx.TransportError):
            shop.post(dying.url, "/v1/settling", message)
        dying.wait_killed()
    with site.gateway(home) as url:
        answer = shop.post(url, "/v1/settling", message).content
        assert batch_answer(shop, message, answer, draft).status is BatchStatus.CLOSED
        assert shop.post(url, "/v1/settling", message).content == answer
