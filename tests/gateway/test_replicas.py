"""Gateways on one PostgreSQL: an order is one order at all, and what one leaves behind another finishes.

Each is a process of its own with a home of its own (journal, name, connection to the switch); the database is the same.
Two stay up for all tests. Others join them, get an order each, and are killed (SIGKILL) or stopped (SIGSTOP) right
after a step of it: several at once, because what another one does about that is mostly to wait.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from kwbp.codes import AuthCode, BatchOperation, BatchStatus
from kwbp.settling import BatchTotals, sale_entry, totals_of, within
from kwbp.wrapper import MEDIA_TYPE
from runtime.client import http_client
from runtime.settings import Home
from shetab.subfields import ZONE_KEY_KINDS, ZoneKeyKind
from shetab.zone_keys import next_index
from tests.gateway import settling_shop
from tests.gateway.test_key_exchange import keys, theirs
from tests.gateway.test_settling_batches import next_second
from tests.support.databases import cluster, gateway_database
from tests.support.payment_parties import Buyer, Purchase, Shop, auth_res_of
from tests.support.payment_site import OPENING, GatewayProcess, Site, wait_for

AMOUNT: Final = 150_000
CREDIT: Final = 30_000
LEASE: Final = 2.0
"""Seconds: how long a gateway that is not heard of is waited for."""
_KNOWN_AFTER: Final = 1.1
"""Seconds: a gateway looks every second for what others registered."""
pytestmark = pytest.mark.slow


class Shared:
    """A database, and gateways on it."""

    def __init__(self, site: Site, folder: Path) -> None:
        self._site = site
        self._folder = folder
        self._settings: dict[str, Any] = {"database": gateway_database("postgresql", folder), "lease": LEASE}
        self._homes: list[Home] = []

    def home(self) -> Home:
        """Of one more gateway."""
        home = self._site.gateway_home(self._folder / f"home-{len(self._homes)}", **self._settings)
        self._homes.append(home)
        return home

    @contextlib.contextmanager
    def gateways(self, *fatal: str, how: signal.Signals = signal.SIGKILL) -> Iterator[list[GatewayProcess]]:
        """One more gateway for each of these steps, after which it sends itself the signal; "" for none."""
        with running(self._site, [(self, step) for step in fatal], how) as started:
            yield started


@contextlib.contextmanager
def running(
    site: Site, wanted: Iterable[tuple[Shared, str]], how: signal.Signals = signal.SIGKILL
) -> Iterator[list[GatewayProcess]]:
    """Gateways that start at once, each with its database and step."""
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(site.gateway_process(shared.home(), fatal=step, how=how, ready=False))
            for shared, step in wanted
        ]
        for each in started:
            wait_for(partial(site._is_ready, each.url))
        yield started


@pytest.fixture(scope="module")
def shared(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    return Shared(site, tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def pair(shared: Shared) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    """Two gateways that stay."""
    with shared.gateways("", "") as (one, other):
        yield one, other


@dataclass(frozen=True)
class Case:
    """An order of a shop and a buyer of its own, the gateway that it is given to first, and one that stays."""

    site: Site
    step: str
    purchase: Purchase
    first: str
    staying: str
    process: GatewayProcess

    @property
    def buyer(self) -> Buyer:
        return self.purchase.buyer

    @property
    def shop(self) -> Shop:
        return self.purchase.shop

    @property
    def sales(self) -> int:
        """Sales of this merchant that moved money, taken back since or not."""
        return sales(self.site, self.shop)

    def answer(self) -> bytes:
        """Of the gateway that stays, asked until it says one."""
        return collected(self.shop, self.staying, self.purchase)

    def comes_to(self, state: str) -> None:
        wait_for(lambda: self.shop.order(self.staying, self.purchase.xid)["state"] == state, every=0.1)

    def dies_of_the_order(self) -> None:
        with contextlib.suppress(httpx.TransportError):  # what it does after the answer may end it before it has left
            self.shop.post(self.first, "/v1/auth", self.purchase.message)
        self.process.wait_killed()


def cases(
    site: Site, wanted: Iterable[tuple[str, GatewayProcess]], staying: GatewayProcess | None = None
) -> list[Case]:
    """For each step and gateway a purchase, of a shop that the gateway which stays knows, and by now all others."""
    made = []
    for step, process in wanted:
        shop = site.new_shop()
        stays = (staying or process).url
        site.register(stays, shop)
        made.append(Case(site, step, site.purchase(shop, site.buyer(), AMOUNT), process.url, stays, process))
    time.sleep(_KNOWN_AFTER)
    return made


def at_once(judge: Callable[[Case], None], judged_cases: list[Case]) -> None:
    """Judge all cases at the same time; the first that fails says its step."""
    with ThreadPoolExecutor(len(judged_cases)) as pool:
        judged = [(each.step, pool.submit(judge, each)) for each in judged_cases]
    for step, each in judged:
        assert each.exception() is None, f"{step}: {each.exception()!r}"


def sales(site: Site, shop: Shop) -> int:
    return sum(
        each.kind == "sale" and each.merchant == shop.merchant_id and each.state in ("approved", "reversed")
        for each in site.switch.admin.transactions()
    )


def collected(shop: Shop, url: str, purchase: Purchase) -> bytes:
    """The answer of a gateway that may say for a while that another one works on the order."""
    answers: list[bytes] = []

    def answered() -> bool:
        with contextlib.suppress(Exception):
            answers.append(shop.collect(url, purchase))
        return bool(answers)

    wait_for(answered, every=0.2)
    return answers[0]


# --- both alive -------------------------------------------------------------------------------------------------------


def test_an_order_is_one_order_at_both(site: Site, pair: tuple[GatewayProcess, GatewayProcess], buyer: Buyer) -> None:
    """The same bytes to both at once, for several orders: one debit each, and the same answer from both."""
    one, other = pair
    shop = site.new_shop()
    site.register(one.url, shop)
    purchases = [site.purchase(shop, buyer, AMOUNT) for _ in range(6)]
    wait_for(lambda: auth_res_or_none(shop, other.url, purchases[0]) is not None, every=0.2)
    with ThreadPoolExecutor(12) as pool:
        asked = [(each, pool.submit(collected, shop, url, each)) for each in purchases for url in (one.url, other.url)]
        answers: dict[bytes, set[bytes]] = {}
        for purchase, told in asked:
            answers.setdefault(purchase.xid, set()).add(told.result(60))
    for purchase in purchases:
        (answer,) = answers[purchase.xid]
        assert purchase.checked_answer(answer).approved
        assert shop.acknowledge(other.url, purchase.ack(answer)) == b""
        assert shop.order(one.url, purchase.xid)["state"] == "ACKED"
    assert (buyer.balance, sales(site, shop)) == (OPENING - 6 * AMOUNT, 6)


def test_what_one_registers_the_other_knows(
    site: Site, pair: tuple[GatewayProcess, GatewayProcess], buyer: Buyer
) -> None:
    one, other = pair
    shop = site.new_shop()
    site.register(one.url, shop)
    purchase = site.purchase(shop, buyer, AMOUNT)
    wait_for(lambda: auth_res_or_none(shop, other.url, purchase) is not None, every=0.2)
    site.register(other.url, shop, active=False)
    wait_for(lambda: auth_res_or_none(shop, one.url, site.purchase(shop, buyer, AMOUNT)) is None, every=0.5)


def auth_res_or_none(shop: Shop, url: str, purchase: Purchase) -> Any:
    """What was answered, if it was an AuthRes and no refusal of the merchant."""
    with contextlib.suppress(Exception):
        return auth_res_of(shop.collect(url, purchase))
    return None


def test_zone_keys_that_both_are_told_to_change_are_changed_one_after_the_other(
    site: Site, pair: tuple[GatewayProcess, GatewayProcess]
) -> None:
    """Payments through both go on meanwhile, and both have the same keys as the switch afterwards."""
    one, other = pair
    before = keys(site, one.url)
    paying = cases(site, [("", other)] * 4, one)

    def change(url: str) -> bool:
        with contextlib.suppress(Exception):  # refused: the other one is at it
            return bool(keys(site, url, change=True))
        return False

    with ThreadPoolExecutor(6) as pool:
        changes = [pool.submit(change, each.url) for each in pair]
        answers = [pool.submit(collected, each.shop, each.first, each.purchase) for each in paying]
        outcomes = [each.purchase.checked_answer(told.result(60)) for each, told in zip(paying, answers, strict=True)]
        changed = sum(each.result(60) for each in changes)
    assert changed >= 1
    assert all(outcome.approved for outcome in outcomes)
    after = keys(site, one.url)
    assert in_use(keys(site, other.url)) == in_use(after)
    for kind in ZONE_KEY_KINDS:
        index = before[kind]["index"]
        for _ in range(changed):
            index = next_index(index)
        assert after[kind]["index"] == index
        assert agreed(site, kind, (index, after[kind]["check_value"]))


def in_use(keys: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Without the replaced ones that are still taken, whose time may end between two looks."""
    return {name: {**key, "replaced_still_valid": None} for name, key in keys.items()}


def agreed(site: Site, kind: ZoneKeyKind, ours: tuple[int, str]) -> bool:
    """Whether the switch comes to use the same key: its answer may be on the way."""
    wait_for(lambda: theirs(site, kind) == ours)
    return True


def test_a_batch_that_both_are_told_to_close_counts_what_both_collected(
    site: Site, pair: tuple[GatewayProcess, GatewayProcess], buyer: Buyer
) -> None:
    shop = site.new_shop()
    site.register(pair[0].url, shop)
    time.sleep(_KNOWN_AFTER)
    draft = settling_shop.batch_draft(shop, BatchOperation.OPEN, 1)
    assert settling_shop.batch(shop, pair[0].url, draft).status is BatchStatus.OPEN
    entries = [sale_entry(settling_shop.collected(site, each.url, shop, buyer, AMOUNT).auth_res) for each in pair]
    until = next_second()
    totals: BatchTotals = totals_of(within(entries, begins=None, until=until))
    close = settling_shop.batch_draft(shop, BatchOperation.CLOSE, 1, until=until, totals=totals)
    message = settling_shop.request_message(shop, close)
    with ThreadPoolExecutor(4) as pool:
        told = [pool.submit(settling_shop.answered, shop, each.url, message) for each in (*pair, *pair)]
    (answer,) = {each.result() for each in told}
    closed = settling_shop.batch_answer(shop, message, answer, close)
    assert (closed.status, closed.totals.net) == (BatchStatus.CLOSED, 2 * AMOUNT)


# --- killed -----------------------------------------------------------------------------------------------------------


def test_what_a_killed_gateway_had_in_hand_another_one_brings_to_its_end(
    site: Site, shared: Shared, pair: tuple[GatewayProcess, GatewayProcess]
) -> None:
    """Nothing was sent: run again. It may have been sent: given back. Its answer was stored: given as it was."""

    def unsent(case: Case) -> None:
        case.dies_of_the_order()
        assert case.purchase.checked_answer(case.answer()).approved
        assert (case.buyer.balance, case.sales) == (OPENING - AMOUNT, 1)

    def perhaps_sent(case: Case) -> None:
        case.dies_of_the_order()
        answer = case.answer()
        assert auth_res_of(answer).auth_code is AuthCode.NO_REPLY
        case.comes_to("REVERSED")
        assert case.answer() == answer
        assert (case.buyer.balance, case.sales) == (OPENING, int(case.step != "sent"))

    def stored(case: Case) -> None:
        case.dies_of_the_order()
        answer = case.answer()
        assert case.purchase.checked_answer(answer).approved
        assert case.shop.acknowledge(case.staying, case.purchase.ack(answer)) == b""
        assert (case.buyer.balance, case.sales) == (OPENING - AMOUNT, 1)

    judges = dict.fromkeys(("received", "verified"), unsent)
    judges |= dict.fromkeys(("sent", "answered", "signed"), perhaps_sent) | {"stored": stored}
    with shared.gateways(*judges) as dying:
        at_once(
            lambda case: judges[case.step](case),
            cases(site, zip(judges, dying, strict=True), pair[1]),
        )
    assert site.switch.admin.is_balanced()


def test_killed_when_it_had_taken_an_acknowledgement_or_a_credit_the_other_knows_it_once(
    site: Site, shared: Shared, pair: tuple[GatewayProcess, GatewayProcess]
) -> None:
    def acknowledged(case: Case) -> None:
        """Taken with accepted TRUE: the same bytes are taken again, and nothing is given back."""
        answer = collected(case.shop, case.first, case.purchase)
        ack = case.purchase.ack(answer)
        with pytest.raises(httpx.TransportError):
            case.shop.post(case.first, "/v1/ack", ack)
        case.process.wait_killed()
        assert case.shop.acknowledge(case.staying, ack) == b""
        assert case.shop.order(case.staying, case.purchase.xid)["state"] == "ACKED"
        assert case.answer() == answer
        assert case.buyer.balance == OPENING - AMOUNT

    def refused(case: Case) -> None:
        """Taken with accepted FALSE: the other gives the money back."""
        ack = case.purchase.ack(collected(case.shop, case.first, case.purchase), accepted=False)
        with pytest.raises(httpx.TransportError):
            case.shop.post(case.first, "/v1/ack", ack)
        case.process.wait_killed()
        assert case.shop.acknowledge(case.staying, ack) == b""
        case.comes_to("REVERSED")
        assert (case.buyer.balance, case.sales) == (OPENING, 1)

    def credit(case: Case) -> None:
        sale = settling_shop.collected(site, case.first, case.shop, case.buyer, AMOUNT)
        draft = sale.credit(CREDIT)
        message = settling_shop.request_message(case.shop, draft)
        with pytest.raises(httpx.TransportError):
            sale.sent(message)
        case.process.wait_killed()
        sale.url = case.staying
        while (answer := case.shop.post(case.staying, "/v1/settling", message)).status_code == 503:
            time.sleep(0.2)  # the lost one may be at it yet, as far as anybody knows
        assert sale.judged(draft, message, answer.content).approved
        assert case.buyer.balance == OPENING - AMOUNT + CREDIT

    judged = [("acknowledged", acknowledged), ("acknowledged", refused)]
    judged += [("settling-sent", credit), ("settling-answered", credit)]
    with shared.gateways(*(step for step, _ in judged)) as dying:
        named = [f"{step}, {judge.__name__}" for step, judge in judged]
        judges = dict(zip(named, (judge for _, judge in judged), strict=True))
        at_once(lambda case: judges[case.step](case), cases(site, zip(named, dying, strict=True), pair[1]))
    assert site.switch.admin.is_balanced()


def test_killed_during_a_reversal_the_other_finishes_it_once(site: Site, tmp_path: Path) -> None:
    """Each on a database of its own: of gateways that share one any does what is due."""
    steps = ("reversal-queued", "reversal-attempt", "reversal-answered", "reversal-finished")
    databases = [Shared(site, tmp_path / step) for step in steps]
    site.switch.admin.add_fault("0200", "drop", count=len(steps))
    with running(site, zip(databases, steps, strict=True)) as dying:
        lost = cases(site, zip(steps, dying, strict=True))
        at_once(Case.dies_of_the_order, lost)
    with running(site, [(each, "") for each in databases]) as staying:

        def given_back(case: Case) -> None:
            case.comes_to("REVERSED")
            assert auth_res_of(case.answer()).auth_code is AuthCode.NO_REPLY
            assert (case.buyer.balance, case.sales) == (OPENING, 1)

        at_once(given_back, [replace(case, staying=each.url) for case, each in zip(lost, staying, strict=True)])
    assert site.switch.admin.is_balanced()


# --- stopped ----------------------------------------------------------------------------------------------------------


def test_stopped_at_a_step_it_contradicts_nothing_that_the_other_did_meanwhile(
    site: Site, shared: Shared, pair: tuple[GatewayProcess, GatewayProcess]
) -> None:
    """Before SENT the other collects. After it the other gives back: not sent, not approved, not told otherwise."""

    def judge(case: Case) -> None:
        with first_answer(case) as waiting:
            answer = case.answer()
            if case.step == "verified":
                assert case.purchase.checked_answer(answer).approved
            else:
                assert auth_res_of(answer).auth_code is AuthCode.NO_REPLY
                case.comes_to("REVERSED")
            case.process.go_on()
            # Before SENT it does not know; asked again, it gives the other's answer.
            assert waiting.result(60) == (None if case.step == "verified" else answer)
            assert collected(case.shop, case.first, case.purchase) == answer
        if case.step == "verified":
            assert (case.buyer.balance, case.sales) == (OPENING - AMOUNT, 1)
        else:
            wait_for(lambda: case.shop.order(case.first, case.purchase.xid)["state"] == "REVERSED")
            assert (case.buyer.balance, case.sales) == (OPENING, int(case.step != "sent"))

    steps = ("verified", "sent", "answered")
    with shared.gateways(*steps, how=signal.SIGSTOP) as stopped:
        at_once(judge, cases(site, zip(steps, stopped, strict=True), pair[1]))
    assert site.switch.admin.is_balanced()


@contextlib.contextmanager
def first_answer(case: Case) -> Iterator[Future[bytes | None]]:
    """Of the gateway that was given the order and stands still by now; None if that is a problem."""

    def asked() -> bytes | None:
        with http_client(case.shop.tls, case.first, timeout=120) as client:
            answer = client.post("/v1/auth", content=case.purchase.message, headers={"content-type": MEDIA_TYPE})
            return answer.content if answer.status_code == 200 else None

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(asked)
        case.process.wait_stopped()
        try:
            yield waiting
        finally:
            case.process.go_on()


# --- the database -----------------------------------------------------------------------------------------------------


def test_while_the_database_is_away_nothing_is_sent_and_no_outcome_is_lost(
    site: Site, shared: Shared, pair: tuple[GatewayProcess, GatewayProcess]
) -> None:
    """One order comes while it is away; of another the switch has answered, and the answer cannot be written.

    A gateway that is started meanwhile waits.
    """
    started = contextlib.ExitStack()
    with started, shared.gateways("answered", how=signal.SIGSTOP) as (stopped,):
        (case,) = cases(site, [("answered", stopped)], pair[1])
        new = site.purchase(case.shop, case.buyer, AMOUNT)
        with first_answer(case) as waiting:
            cluster().kill()
            try:
                case.process.go_on()
                assert waiting.result(60) is None
                asked = case.shop.post(case.staying, "/v1/auth", new.message)
                assert (asked.status_code, asked.headers["retry-after"]) == (503, "1")
                assert case.sales == 1
                waits = started.enter_context(site.gateway_process(shared.home(), ready=False))
                log = waits.home.log / "gateway.log"
                wait_for(lambda: log.exists() and "waiting for the database" in log.read_text("utf-8"))
            finally:
                cluster().resume()
        wait_for(lambda: site._is_ready(case.staying))  # its line needs trace numbers
        wait_for(lambda: site._is_ready(waits.url))
        assert new.checked_answer(collected(case.shop, case.staying, new)).approved
        assert auth_res_of(collected(case.shop, case.first, case.purchase)).auth_code is AuthCode.NO_REPLY
        case.comes_to("REVERSED")
    assert (case.buyer.balance, case.sales) == (OPENING - AMOUNT, 2)
    assert site.switch.admin.is_balanced()
