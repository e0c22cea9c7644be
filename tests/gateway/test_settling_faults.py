"""An outcome that nobody knows is told as open, never as declined, and in the end the money is in one place."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from kwbp.codes import AuthCode
from kwbp.settling import CheckedSettlingAnswer
from switch.faults import Kind
from tests.gateway.settling_shop import Collected, collected, request_message
from tests.gateway.test_settling_requests import AMOUNT, gets
from tests.support.payment_parties import Buyer, Shop, error_of
from tests.support.payment_site import ANSWER_TIMEOUT, OPENING, Site, wait_for

CREDIT = 30_000


@pytest.fixture
def sale(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> Collected:
    return collected(site, gateway, shop, buyer, AMOUNT)


def recorded(site: Site, order: Collected) -> list[str]:
    """What the switch recorded of the order's credits."""
    reference = f"KWBP2 {order.purchase.xid.hex()} CREDIT"
    return [each.state for each in site.switch.admin.transactions(reference=reference)]


@pytest.mark.parametrize("kind", ["ignore", "drop", "corrupt_mac", "wrong_stan"])
def test_no_answer_that_can_be_believed_is_told_as_open_and_then_concluded(
    site: Site, sale: Collected, shop: Shop, buyer: Buyer, kind: Kind
) -> None:
    site.switch.admin.add_fault("0200", kind)
    site.switch.admin.add_fault("0201", "ignore", count=2)
    draft = sale.credit(CREDIT)
    message = request_message(shop, draft)
    told: list[CheckedSettlingAnswer] = []

    def final() -> bool:
        told.append(sale.judged(draft, message, sale.sent(message)))
        return not told[-1].open

    assert not final()
    assert (told[0].body.auth_code, told[0].approved) == (AuthCode.NO_REPLY, False)
    # while it is open, nothing else of the order is taken in
    refusal = sale.refused(sale.credit(1))
    assert (refusal.error_code.protocol_name, refusal.clause) == ("unknownOutcome", "H5")
    wait_for(final)
    assert told[-1].approved
    assert {each.signed for each in told[:-1]} == {told[0].signed}
    assert (buyer.balance, gets(site, shop)) == (OPENING - AMOUNT + CREDIT, AMOUNT - CREDIT)
    assert recorded(site, sale) == ["approved"]
    assert site.switch.admin.is_balanced()


def test_the_switch_is_asked_again_although_nobody_waits(site: Site, sale: Collected, shop: Shop, buyer: Buyer) -> None:
    site.switch.admin.add_fault("0200", "ignore")
    draft = sale.credit(CREDIT)
    message = request_message(shop, draft)
    assert sale.judged(draft, message, sale.sent(message)).open
    wait_for(lambda: buyer.balance == OPENING - AMOUNT + CREDIT)
    wait_for(lambda: sale.judged(draft, message, sale.sent(message)).approved)


def test_a_line_that_breaks_leaves_the_outcome_open(site: Site, sale: Collected, shop: Shop, buyer: Buyer) -> None:
    site.switch.admin.add_fault("0200", "disconnect")
    draft = sale.credit(CREDIT)
    message = request_message(shop, draft)
    assert sale.judged(draft, message, sale.sent(message)).open
    wait_for(lambda: sale.judged(draft, message, sale.sent(message)).approved)
    assert buyer.balance == OPENING - AMOUNT + CREDIT
    assert recorded(site, sale) == ["approved"]


def test_an_answer_that_comes_too_late_changes_nothing_and_the_repeat_gets_it(
    site: Site, sale: Collected, shop: Shop, buyer: Buyer
) -> None:
    site.switch.admin.add_fault("0200", "delay", seconds=ANSWER_TIMEOUT + 1)
    draft = sale.credit(CREDIT)
    message = request_message(shop, draft)
    assert sale.judged(draft, message, sale.sent(message)).open
    wait_for(lambda: not sale.judged(draft, message, sale.sent(message)).open)
    assert sale.judged(draft, message, sale.sent(message)).approved
    assert recorded(site, sale) == ["approved"]


@pytest.mark.parametrize("rc", ["91", "96"])
def test_a_switch_that_could_not_work_on_a_repeat_has_said_nothing_of_the_first(
    site: Site, sale: Collected, shop: Shop, buyer: Buyer, rc: str
) -> None:
    """The first one was booked and its answer lost: "malfunction" to its repeat is no decline of it."""
    site.switch.admin.add_fault("0200", "drop")
    site.switch.admin.add_fault("0201", "alter", changed={39: rc})
    draft = sale.credit(CREDIT)
    message = request_message(shop, draft)
    assert sale.judged(draft, message, sale.sent(message)).open
    assert buyer.balance == OPENING - AMOUNT + CREDIT
    told: list[CheckedSettlingAnswer] = []

    def final() -> bool:
        told.append(sale.judged(draft, message, sale.sent(message)))
        return not told[-1].open

    wait_for(final)
    assert told[-1].approved
    assert recorded(site, sale) == ["approved"]


def test_the_same_request_twenty_times_at_once_is_done_once(
    site: Site, sale: Collected, shop: Shop, buyer: Buyer
) -> None:
    message = request_message(shop, sale.credit(CREDIT))
    with ThreadPoolExecutor(20) as pool:
        answers = set(pool.map(sale.sent, [message] * 20))
    assert len(answers) == 1
    assert buyer.balance == OPENING - AMOUNT + CREDIT
    assert recorded(site, sale) == ["approved"]


def test_two_requests_under_one_rrpid_are_not_one(site: Site, sale: Collected, shop: Shop) -> None:
    draft = sale.credit(CREDIT)
    assert sale.ask(draft).approved
    other = request_message(shop, sale.credit(CREDIT + 1), rrpid=draft.body.rrpid)
    refusal = error_of(sale.sent(other), other, site)
    assert (refusal.error_code.protocol_name, refusal.clause) == ("badMessageHeader", "H3")
    first = request_message(shop, sale.credit(1), rrpid=sale.purchase.sent.rrpid)  # that of the AuthReq
    assert error_of(sale.sent(first), first, site).clause == "H3"
