"""Money after the authorisation: whatever happens on the way, all books hold the same money in the end.

A state machine of Hypothesis plays merchants that capture, cancel, refund and take back, over the real shop, gateway,
switch and bank (`site`), while answers are lost, repeated, altered or refused and parties lose power after any step.
After each move no rial is made or lost and nobody is debited more than was signed. At the end the network is honest,
and then Σ shop = Σ gateway = Σ switch = Σ accounts, order by order and day by day; batch and business day close.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import date, timedelta
from typing import Any, Final

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select

from gateway.acquirer import journal
from gateway.order import OrderKey
from gateway.schema import entries as gateway_entries
from gateway.settling.book import standing_of
from gateway.settling.days import DayState
from kwbp.codes import BatchOperation, EntryKind
from kwbp.settling import Capture, Credit, Standing
from runtime.problems import Problem
from storefront.errors import MoneyRefused
from storefront.merchant.money.book import MoneyBook
from storefront.merchant.money.schema import entries as shop_entries
from storefront.merchant.money.states import RequestState
from storefront.merchant.money.wishes import Operation, Wish
from switch import business_day, ledger
from switch.faults import Fault
from switch.movements import HELD, Movement
from switch.schema import accounts, acquirers, movements
from tests.hostile.agreement.cast import ACQUIRER, OPENING, PRICES, cast
from tests.hostile.agreement.site import GATEWAY, Bought, Site
from tests.hostile.agreement.virtual_time import as_party

pytestmark = pytest.mark.slow

SETTLING: Final = "/v1/settling"
SHOP: Final = "M-1"
BUYER: Final = "B-1"
STEPS: Final = (
    (GATEWAY, "settling-taken"), (GATEWAY, "settling-sent"), (GATEWAY, "settling-answered"),
    (GATEWAY, "settling-concluded"), (GATEWAY, "settling-signed"), (GATEWAY, "settling-stored"),
    (GATEWAY, "batch-kept"), (GATEWAY, "batch-signed"),
    (SHOP, "money kept"), (SHOP, "money sending"), (SHOP, "money answered"), (SHOP, "money concluded"),
)  # fmt: skip
_MESSAGES: Final = ("022x", "042x", "020x", "0xx1")
_KINDS: Final = ("ignore", "drop", "disconnect", "repeat", "corrupt_mac", "garble", "wrong_stan", "refuse")
_ALTERED: Final[tuple[dict[int, str], ...]] = (
    {4: "000000000001"},  # right STAN, wrong amount
    {37: "000000000001"},  # the answer to something else
    {39: "68"},
)
_TROUBLES_OF_REPEATS: Final = tuple(
    Fault(mti="0xx1", kind="alter", fields={39: rc})
    for rc in ("90", "91", "92", "96")  # of a first copy it is believed
)
TROUBLES: Final[tuple[tuple[str, Any], ...]] = (
    *[("none", "")] * 12,
    *(("line", Fault(mti=mti, kind=kind)) for mti in _MESSAGES for kind in _KINDS),
    *(("line", Fault(mti=mti, kind="alter", fields=fields)) for mti in _MESSAGES for fields in _ALTERED),
    *(("line", fault) for fault in _TROUBLES_OF_REPEATS),
    *(("shop", fate) for fate in ("request", "answer", "twice")),
    *(("power", step) for step in STEPS),
    ("kill", GATEWAY),
    ("kill", SHOP),
)
_EXAMPLES: Final = int(os.environ.get("KWBP_AGREEMENT_EXAMPLES", "0"))
_DEBITS: Final = {
    EntryKind.SALE: Movement.DEBIT,
    EntryKind.CAPTURE: Movement.DEBIT,
    EntryKind.SALE_REVERSAL: Movement.DEBIT_REVERSAL,
    EntryKind.CAPTURE_REVERSAL: Movement.DEBIT_REVERSAL,
    EntryKind.CREDIT: Movement.CREDIT,
    EntryKind.CREDIT_REVERSAL: Movement.CREDIT_REVERSAL,
}


class MoneySite(Site):
    """The site, with the gateway's route for the money after the authorisation; messages of it may be lost."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        """What happens to the next requests of the shop: the request or its answer is lost, or it comes twice."""
        super().__init__()
        self.network.honest = self.line.honest = True

    async def _to_gateway(self, merchant: str, path: str, body: bytes) -> bytes | None:
        if path != SETTLING:
            return await super()._to_gateway(merchant, path, body)
        fate = self.lost.pop() if self.lost else ""
        if fate == "request":
            raise httpx.ConnectError("lost")
        answers = [await self._asked(merchant, body) for _ in range(2 if fate == "twice" else 1)]
        if fate == "answer":
            raise httpx.ReadTimeout("lost")
        return answers[0]

    async def _asked(self, merchant: str, body: bytes) -> bytes:
        gateway = self._gateway
        assert gateway is not None
        task = as_party(GATEWAY, lambda: self.loop.create_task(gateway.settle(merchant, body)))
        await asyncio.wait({task})
        if task.cancelled() or isinstance(task.exception(), Problem):
            self.note(f"gateway: {task!r}")
            raise httpx.RemoteProtocolError("no message")
        answer: bytes = task.result()
        return answer

    @property
    def book(self) -> MoneyBook:
        return self._shops[SHOP].money.book

    @property
    def settling(self) -> Any:
        assert self._gateway is not None
        return self._gateway.settling

    def at_the_shop(self, job: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        """The task that does this in the shop's office; nobody waits for it."""
        return as_party(SHOP, lambda: self.loop.create_task(job(self._shops[SHOP].money)))

    def compare(self, day: date) -> None:
        """The gateway is to compare this day with the switch."""
        wanted = self.settling.reconciliation.want(SHOP, day)
        as_party(GATEWAY, lambda: self.loop.create_task(wanted))

    def cut_over(self, days: int) -> None:
        """The network counts in a later day from now on."""
        with self.bank.begin() as connection:
            today = business_day.current(connection, self.now())
            business_day.set_day(connection, today + timedelta(days=days))


class MoneyMachine(RuleBasedStateMachine):
    """One history."""

    def __init__(self) -> None:
        super().__init__()
        self.site: MoneySite | None = None
        self.wishes = 0
        self.days = 0

    @initialize()
    def begin(self) -> None:
        self.site = MoneySite()
        for hold in (True, False):
            self.buy(hold)

    @property
    def _site(self) -> MoneySite:
        assert self.site is not None
        return self.site

    def teardown(self) -> None:
        if self.site is not None:
            try:
                self.finish()
            finally:
                self.site.close()

    # --- moves

    def buy(self, hold: bool) -> None:
        site = self._site
        bought = site.buy(BUYER, SHOP)
        if bought is not None:
            with site._spoken(f"{BUYER} orders {bought.xid.hex()[:8]}{' (hold)' if hold else ''}") as story:
                bought.ordered = True
                issued = cast().buyers[BUYER].issued
                wallet = site.wallet(BUYER, SHOP)
                story.append(str(wallet.order(bought.checked, pin2=issued.pin2, cvv2=issued.cvv2, hold=hold).state))

    @precondition(lambda self: len(self._site.bought) < 3)
    @rule(hold=st.booleans())
    def another_order(self, hold: bool) -> None:
        self.buy(hold)

    @rule(
        number=st.integers(0, 2),
        operation=st.integers(0, 4),
        percent=st.sampled_from((None, 40, 60, 1, 100)),
        which=st.integers(0, 2),
        trouble=st.integers(0, len(TROUBLES) - 1),
        wait=st.sampled_from((5.0, 0.0, 61.0)),
    )
    def wish(self, number: int, operation: int, percent: int | None, which: int, trouble: int, wait: float) -> None:
        site = self._site
        site.raise_the_dead()
        xid = site.bought[number % len(site.bought)].xid
        possible = list(_possible(site.book.standing(xid)))
        if not possible:
            return
        self._trouble(*TROUBLES[trouble])
        chosen, those = possible[operation % len(possible)]
        whole = chosen in (Operation.UNCAPTURE, Operation.UNREFUND)
        amount = None if percent is None or whole else PRICES[SHOP] * percent // 100
        wish = Wish(chosen, amount, those[which % len(those)].h_answer.hex() if those else None)
        self.wishes += 1
        name = f"wish-{self.wishes}"
        task = site.at_the_shop(lambda office: office.ask(xid, wish, name))
        site.loop.advance(wait)
        site.note(f"wish of {xid.hex()[:8]}: {chosen} {amount} → {_told(task)}")

    @rule(trouble=st.integers(0, len(TROUBLES) - 1))
    def trouble(self, trouble: int) -> None:
        self._trouble(*TROUBLES[trouble])

    def _trouble(self, kind: str, what: Any) -> None:
        site = self._site
        if kind == "line":
            site.processor._faults.add(what)
        elif kind == "shop":
            site.lost.append(what)
        elif kind == "power":
            site.armed = what
        elif kind == "kill":
            site.raise_the_dead()
            site.restart(what)
        if kind != "none":
            site.note(f"trouble: {kind} {what}")

    @rule(seconds=st.sampled_from((1.0, 10.0, 61.0, 310.0)))
    def wait(self, seconds: float) -> None:
        self._site.raise_the_dead()
        self._site.loop.advance(seconds)

    @precondition(lambda self: self.days < 3)
    @rule()
    def cut_over(self) -> None:
        self.days += 1
        self._site.cut_over(1)
        self._site.note("the network cuts over")

    @rule(operation=st.sampled_from(BatchOperation))
    def batch(self, operation: BatchOperation) -> None:
        site = self._site
        if SHOP not in site._down:
            self.wishes += 1
            name = f"batch-{self.wishes}"
            task = site.at_the_shop(lambda office: office.batch(operation, name))
            site.loop.advance(0)
            site.note(f"batch {operation.name} → {_told(task)}")

    # --- at any time

    @invariant()
    def no_rial_is_made_or_lost(self) -> None:
        if self.site is None:
            return
        with self.site.bank.connect() as connection:
            assert ledger.is_balanced(connection), self._story()
        paid = OPENING - self._balance(cast().buyers[BUYER].issued.iban)
        assert 0 <= paid <= PRICES[SHOP] * len(self.site.bought), self._story()
        assert self._balance(HELD) >= 0, self._story()
        assert self._balance(self._intermediary()) >= 0, self._story()

    # --- at the end

    def finish(self) -> None:
        site = self._site
        site.processor._faults.clear()
        site.lost.clear()
        site.be_honest()
        for _ in range(40):
            site.loop.advance(120)
            if not site.book.open_requests() and not self._waiting():
                break
        assert not site.book.open_requests(), self._story()
        self._books_agree_order_by_order()
        self._batch_closes()
        self._days_close()

    def _books_agree_order_by_order(self) -> None:
        debited = kept = held = 0
        for each in self._site.bought:
            at_gateway, at_shop = self._at_gateway(each), self._site.book.standing(each.xid)
            if at_shop is None:
                assert at_gateway is None or at_gateway.authorised == 0, self._story()
                continue
            assert at_gateway == at_shop, self._story()
            debited += at_shop.authorised - at_shop.refunded
            kept += at_shop.captured - at_shop.refunded
            held += at_shop.authorised - at_shop.captured
        assert OPENING - self._balance(cast().buyers[BUYER].issued.iban) == debited, self._story()
        assert self._balance(self._intermediary()) == kept, self._story()
        assert self._balance(HELD) == held, self._story()

    def _batch_closes(self) -> None:
        site = self._site
        site.loop.advance(2)
        newest = site.book.newest_batch()
        if newest is None or newest.until is not None:
            self._batch(BatchOperation.OPEN)
        self._batch(BatchOperation.CLOSE)

    def _batch(self, operation: BatchOperation) -> None:
        task = self._site.at_the_shop(lambda office: office.batch(operation, f"last-{operation.name}"))
        self._site.loop.advance(5)
        assert task.result().state is RequestState.APPROVED, (task.result(), self._story())

    def _days_close(self) -> None:
        """Entry by entry at shop and gateway, sum by sum at the switch, which closes every day."""
        site = self._site
        shop = shop_entries.c
        gateway = gateway_entries.c
        with site.book.orders.reading() as connection:
            own = {
                (bytes(row.h_answer), EntryKind(row.kind), row.amount, row.business_day)
                for row in connection.execute(select(shop.h_answer, shop.kind, shop.amount, shop.business_day))
            }
        with site.gateway_store.reading() as connection:
            columns = (gateway.h_answer, gateway.kind, gateway.amount, gateway.business_day)
            theirs = {
                (bytes(row.h_answer), EntryKind(row.kind), row.amount, row.business_day)
                for row in connection.execute(select(*columns).where(gateway.merchant_id == SHOP))
            }
        assert own == theirs, self._story()
        counted: dict[tuple[str, Movement], int] = {}
        for _, kind, amount, day in own:
            counted[(day, _DEBITS[kind])] = counted.get((day, _DEBITS[kind]), 0) + amount
        assert counted == self._moved(), self._story()
        # The ledger is what these entries make of it, and owes the shop what they come to.
        with site.gateway_store.reading() as connection:
            assert journal.verify(connection) == [], self._story()
            owed = {each.account: -each.balance for each in journal.balances(connection)}
        assert owed.get(f"payable:{SHOP}", 0) == sum(kind.sign * amount for _, kind, amount, _ in own), self._story()
        site.cut_over(1)
        for _ in range(4):  # a day that is asked for: the network is in a later one, nothing is undecided, totals agree
            for each in site.settling.reconciliation.days(SHOP):
                day = date.fromisoformat(each.business_day)
                site.compare(day)
            site.loop.advance(120)
        days = site.settling.reconciliation.days(SHOP)
        assert all(each.state == DayState.CLOSED for each in days), (days, self._story())

    # --- looking

    def _waiting(self) -> bool:
        store = self._site.settling.store
        return any(row.answer is None for each in self._site.bought for row in self._rows(store, each))

    @staticmethod
    def _rows(store: Any, bought: Bought) -> Any:
        return store.of_key(OrderKey(SHOP, bought.xid))

    def _at_gateway(self, bought: Bought) -> Standing | None:
        with self._site.gateway_store.reading() as connection:
            return standing_of(connection, self._site.gateway_store.find(OrderKey(SHOP, bought.xid)))

    def _balance(self, iban: str) -> int:
        with self._site.bank.connect() as connection:
            return int(
                connection.execute(select(func.sum(accounts.c.balance)).where(accounts.c.iban == iban)).scalar() or 0
            )

    def _intermediary(self) -> str:
        with self._site.bank.connect() as connection:
            query = select(acquirers.c.intermediary).where(acquirers.c.code == ACQUIRER)
            return str(connection.execute(query).scalar_one())

    def _moved(self) -> dict[tuple[str, Movement], int]:
        query = (
            select(movements.c.day, movements.c.kind, func.sum(movements.c.amount))
            .where(movements.c.merchant == SHOP, movements.c.void.is_(False))
            .group_by(movements.c.day, movements.c.kind)
        )
        with self._site.bank.connect() as connection:
            return {(day.isoformat(), Movement(kind)): int(amount) for day, kind, amount in connection.execute(query)}

    def _story(self) -> str:
        return "\n" + "\n".join(self._site.trace)


def _possible(standing: Standing | None) -> Iterator[tuple[Operation, Sequence[Capture | Credit]]]:
    """What a shop may sensibly wish, and the captures or credits of which one is to be named."""
    if standing is None or standing.authorised == 0:
        return
    captures = [each for each in standing.captures if each.h_answer != standing.h_auth_res]
    if standing.captured < standing.authorised:
        yield Operation.CAPTURE, ()
    if standing.credits:
        yield Operation.UNREFUND, standing.credits
    if standing.captures:
        yield Operation.REFUND, standing.captures
    if captures:
        yield Operation.UNCAPTURE, captures
    yield Operation.CANCEL, ()


def _told(task: Any) -> str:
    if not task.done():
        return "open"
    if task.cancelled():
        return "power lost"
    error = task.exception()
    if isinstance(error, MoneyRefused):
        return f"refused: {error}"
    return repr(error) if error is not None else str(task.result().state)


def test_all_books_hold_the_same_money_whatever_happens_on_the_way() -> None:
    """Σ shop = Σ gateway = Σ switch = Σ accounts."""
    profile = settings(
        max_examples=_EXAMPLES or 10,
        stateful_step_count=40 if _EXAMPLES else 20,
        derandomize=not _EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    run_state_machine_as_test(MoneyMachine, settings=profile)
