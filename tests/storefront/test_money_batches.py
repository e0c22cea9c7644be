"""Batches hold the same entries in both books, or stay open; an advice is compared with the own book line by line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from kwbp.codes import AuthCode, BatchOperation, BatchStatus, EntryKind, ErrorCode
from kwbp.common import read_signed
from kwbp.errors import ProtocolError
from kwbp.settling import AdviceLine, BatchAdminResTBS, DifferenceKind, Entry
from pki.oids import CT_BATCH_ADMIN_RES
from storefront.errors import MoneyRefused
from storefront.merchant.money.advices import AdviceReport
from storefront.merchant.money.book import Request
from storefront.merchant.money.states import MoneyState, RequestState, money_state
from storefront.merchant.money.wishes import Operation, Wish
from storefront.merchant.states import OrderState
from tests.kwbp.world import TOTAL, World
from tests.support.databases import DATABASES, cluster
from tests.support.money_office import Step, Till, answer_lost, says
from tests.support.pki_factory import PkiFactory

S, B = RequestState, BatchOperation
REFUND = Wish(Operation.REFUND, 250_000)


@pytest.fixture(scope="module")
def world() -> World:
    return World(PkiFactory())


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return tmp_path / "merchant.sqlite"


def answer_of(request: Request) -> BatchAdminResTBS:
    assert request.state is S.APPROVED, request
    assert request.answer is not None
    return read_signed(BatchAdminResTBS, CT_BATCH_ADMIN_RES, request.answer).body


def today(till: Till) -> date:
    return (till.clock() + timedelta(hours=3, minutes=30)).date()


@pytest.mark.parametrize("database", DATABASES)
def test_a_day_of_batches(world: World, book: Path, database: str) -> None:
    async def test() -> None:
        async with Till.open(world, book if database == "sqlite" else cluster().database()) as till:
            assert answer_of(await till.office.batch(B.OPEN, "open-1")).status is BatchStatus.OPEN
            xid = await till.sold()
            held = await till.sold(held=True)
            till.clock.advance(1)
            await till.office.ask(xid, REFUND, "refund")
            till.clock.advance(1)
            status = answer_of(await till.office.batch(B.STATUS, "how"))
            assert status.totals.net == TOTAL - 250_000
            closed = answer_of(await till.office.batch(B.CLOSE, "close-1"))
            assert (closed.status, closed.totals.net) == (BatchStatus.CLOSED, TOTAL - 250_000)
            assert [each.kind for each in closed.totals.totals] == [EntryKind.SALE, EntryKind.CREDIT]
            assert till.standing(xid).captures[0].settled
            assert till.standing(xid).credits[0].settled
            assert till.books_agree(xid)
            with pytest.raises(MoneyRefused, match="settled is not taken back but refunded") as refused:
                await till.office.ask(xid, Wish(Operation.CANCEL), "too-late")
            assert refused.value.clause == "H8"
            till.clock.advance(1)
            assert answer_of(await till.office.batch(B.OPEN, "open-2")).batch_id == 2
            await till.office.ask(held, Wish(Operation.CAPTURE), "capture")
            till.clock.advance(1)
            second = answer_of(await till.office.batch(B.CLOSE, "close-2"))
            assert (second.batch_id, second.totals.net) == (2, TOTAL)
            assert money_state(till.standing(held)) is MoneyState.SETTLED

    asyncio.run(test())


def test_batches_have_their_turn(world: World, book: Path) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            for operation in (B.CLOSE, B.STATUS):
                with pytest.raises(MoneyRefused, match="'kwbp merchant batch open'"):
                    await till.office.batch(operation, "none")
            first = await till.office.batch(B.OPEN, "open")
            assert (await till.office.batch(B.OPEN, "open")).number == first.number  # the same wish
            with pytest.raises(MoneyRefused, match="batch 1 is open"):
                await till.office.batch(B.OPEN, "open-again")
            with pytest.raises(MoneyRefused, match="stands for another wish"):
                await till.office.batch(B.CLOSE, "open")
            assert len(till.gateway.sent) == 1

    asyncio.run(test())


def test_what_is_under_way_ends_the_batch_before_it(world: World, book: Path) -> None:
    """A refund whose outcome is open, and a sale that is not acknowledged, fall into the next batch."""

    async def test() -> None:
        async with Till.open(world, book, patience=0.3) as till:
            await till.office.batch(B.OPEN, "open")
            xid = await till.sold()
            till.clock.advance(10)
            await till.sold(state=OrderState.AUTHORISED)
            till.gateway.script += [says(AuthCode.NO_REPLY)] * 2
            request = await till.office.ask(xid, REFUND, "open-outcome")
            assert request.state is S.OPEN
            till.clock.advance(10)
            closed = answer_of(await till.office.batch(B.CLOSE, "close"))
            assert [each.kind for each in closed.totals.totals] == [EntryKind.SALE]
            assert closed.totals.net == TOTAL

    asyncio.run(test())


def test_books_that_differ_leave_the_batch_open(world: World, book: Path) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            await till.office.batch(B.OPEN, "open")
            await till.sold()
            lost = till.gateway.entries.pop()
            till.clock.advance(1)
            refused = await till.office.batch(B.CLOSE, "close")
            assert (refused.state, refused.code, refused.clause) == (S.REFUSED, "amountMismatch", "L5")
            newest = till.office.book.newest_batch()
            assert newest is not None
            assert newest.until is None
            status = answer_of(await till.office.batch(B.STATUS, "why"))
            assert status.totals.net == 0
            till.gateway.entries.append(lost)
            assert answer_of(await till.office.batch(B.CLOSE, "close-2")).totals.net == TOTAL

    asyncio.run(test())


@pytest.mark.parametrize("step", ["money kept", "money answered", "money concluded"])
@pytest.mark.parametrize("fault", [None, answer_lost], ids=["heard", "answer lost"])
def test_a_batch_is_closed_once_wherever_the_shop_falls(
    world: World, book: Path, step: str, fault: Step | None
) -> None:
    async def test() -> None:
        async with Till.open(world, book) as before:
            gateway = before.gateway
            await before.office.batch(B.OPEN, "open")
            await before.sold()
            before.clock.advance(1)
        async with Till.open(world, book, gateway=gateway, fall=step, patience=0.5) as falling:
            gateway.script += [fault] if fault is not None else []
            await asyncio.gather(falling.office.batch(B.CLOSE, "close"), return_exceptions=True)
        async with Till.open(world, book, gateway=gateway) as again:
            closed = answer_of(await again.office.batch(B.CLOSE, "close"))
            assert (closed.status, closed.totals.net) == (BatchStatus.CLOSED, TOTAL)
            assert again.signed == []
            assert len(set(gateway.sent)) == 2  # opened and closed
            newest = again.office.book.newest_batch()
            assert newest is not None
            assert newest == gateway.batches.newest

    asyncio.run(test())


# --- the acquirer's advice ---


def shown(report: AdviceReport) -> tuple[Any, ...]:
    return report.day, [each.signed for each in report.parts], report.ledger, report.differences


async def a_day(till: Till) -> list[bytes]:
    """Two sales, and a refund of the first."""
    xids = [await till.sold(), await till.sold()]
    till.clock.advance(1)
    await till.office.ask(xids[0], REFUND, "refund")
    return xids


def test_an_advice_that_agrees_has_no_differences(world: World, book: Path) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            await a_day(till)
            till.gateway.advise(f"{today(till)}", till.gateway.lines())
            report = await till.office.advice(today(till))
            assert (report.differences, report.net, report.expected) == ((), 2 * TOTAL - 250_000, report.net)
            assert shown(await till.office.advice(today(till))) == shown(report)

    asyncio.run(test())


Change = Callable[[list[AdviceLine]], list[AdviceLine]]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda lines: lines[1:], DifferenceKind.NOT_ADVISED),
        (lambda lines: [*lines, _line(lines[0], h_answer=b"\x07" * 32)], DifferenceKind.NOT_IN_BOOK),
        (lambda lines: [*lines, lines[0]], DifferenceKind.REPEATED),
        (lambda lines: [_line(lines[0], amount=TOTAL - 1), *lines[1:]], DifferenceKind.OTHER_AMOUNT),
        (lambda lines: [_line(lines[0], xid=lines[1].xid), *lines[1:]], DifferenceKind.OTHER_PURCHASE),
        (lambda lines: [*lines[:2], _line(lines[2], kind=EntryKind.CREDIT_REVERSAL)], DifferenceKind.OTHER_KIND),
    ],
)
def test_each_difference_is_told_with_its_purchase(
    world: World, book: Path, change: Change, kind: DifferenceKind
) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            await a_day(till)
            till.gateway.advise(f"{today(till)}", change(till.gateway.lines()))
            report = await till.office.advice(today(till))
            assert [each.kind for each in report.differences] == [kind]

    asyncio.run(test())


def _line(line: AdviceLine, **changes: Any) -> AdviceLine:
    members = {name: getattr(line, name) for name in ("kind", "xid", "h_answer", "amount", "fee")}
    return AdviceLine(**(members | changes))


def test_a_day_in_parts_is_compared_when_all_are_there(world: World, book: Path) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            await a_day(till)
            lines, day = till.gateway.lines(), f"{today(till)}"
            till.gateway.advise(day, lines[:1], parts=2)
            with pytest.raises(MoneyRefused, match="not over"):
                await till.office.advice(today(till))
            till.gateway.advise(day, lines[1:], part=2, parts=2)
            report = await till.office.advice(today(till))
            assert (len(report.parts), report.differences) == (2, ())

    asyncio.run(test())


def test_a_day_that_is_not_over_has_no_advice(world: World, book: Path) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            with pytest.raises(MoneyRefused, match="its business day is not over"):
                await till.office.advice(today(till))

    asyncio.run(test())


@pytest.mark.parametrize(
    ("change", "check"), [({"iban": "IR820540102680020817909002"}, "N2"), ({"merchant_id": "M-2"}, "N2")], ids=str
)
def test_an_advice_that_does_not_hold_is_not_kept(world: World, book: Path, change: dict[str, str], check: str) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            till.gateway.advise(f"{today(till)}", [], **change)
            with pytest.raises(ProtocolError) as refused:
                await till.office.advice(today(till))
            assert refused.value.check == check
            assert till.office.book.advice(f"{today(till):%Y%m%d}") == {}

    asyncio.run(test())


def test_a_day_is_advised_in_one_way(world: World, book: Path) -> None:
    """N4: another advice of a day that was advised is refused; the first one stays, also while there is no answer."""

    async def test() -> None:
        async with Till.open(world, book) as till:
            await a_day(till)
            till.gateway.advise(f"{today(till)}", till.gateway.lines())
            first = await till.office.advice(today(till))
            till.gateway.advise(f"{today(till)}", till.gateway.lines()[1:])
            with pytest.raises(ProtocolError) as refused:
                await till.office.advice(today(till))
            assert (refused.value.code, refused.value.check) == (ErrorCode.HASH_MISMATCH, "N4")
            till.gateway.advised.clear()
            assert shown(await till.office.advice(today(till))) == shown(first)

    asyncio.run(test())


def test_every_sale_is_booked_once_whoever_looks(world: World, book: Path) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            await a_day(till)
            await asyncio.gather(*(till.office.book.book_sales() for _ in range(5)))
            entries: list[Entry] = till.office.book.entries(None, till.clock() + timedelta(days=1))
            assert sorted(each.kind for each in entries) == [EntryKind.SALE, EntryKind.SALE, EntryKind.CREDIT]
            assert sorted(each.h_answer for each in entries) == sorted(each.h_answer for each in till.gateway.entries)

    asyncio.run(test())
