"""Many open orders at once: each has its turn, the gateway is not pressed, people are told what only they can end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from kwbp.codes import ErrorCode, PurchaseStatus
from kwbp.errors import ProtocolError
from kwbp.inquiry import GatewayStatus
from pki.der import sha256
from storefront.errors import GatewayUnreachable, UnsignedRefusal
from storefront.merchant.resources import Resources
from storefront.merchant.settlement import Settlement
from storefront.merchant.states import OrderState
from storefront.merchant.store import OrderStore

BEGIN = datetime(2026, 3, 21, 12, 0, 0, tzinfo=UTC)
STILL = PurchaseStatus.REVERSING
TOO_MANY = ProtocolError(ErrorCode.RATE_LIMITED, "Q1", "at most 300 inquiries a minute")


class Asking(Settlement):
    """The loop, one look at a time, over a real order book; `says` is what comes of asking about an order."""

    def __init__(self, book: OrderStore) -> None:
        self.now = BEGIN
        nothing: Any = None
        super().__init__("M-1", Resources(book, nothing, nothing, nothing, clock=lambda: self.now, rng=bytes))
        self.says: dict[int, Any] = {}
        self.asked: list[int] = []

    async def _ask(self, xid: bytes) -> tuple[GatewayStatus, OrderState | None]:
        self.asked.append(xid[0])
        said = self.says.get(xid[0], STILL)
        if isinstance(said, Exception):
            raise said
        return GatewayStatus(said, b"signed", None, None, self.now), None

    def look(self, *, after: float = 0) -> list[int]:
        """Who is asked about in one look, `after` seconds later."""
        self.now += timedelta(seconds=after)
        self.asked.clear()
        self.pause = asyncio.run(self._pass())
        return list(self.asked)


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Asking]:
    """Five open orders, and one that is not."""

    async def fill(book: OrderStore) -> None:
        for number in range(1, 7):
            xid, rrpid = bytes([number]) * 20, bytes([number]) * 20
            at = BEGIN - timedelta(minutes=10 - number)
            await book.create(xid=xid, rrpid=rrpid, h_request=sha256(rrpid), amount=1, stored={}, now=at)
            await book.order(xid, rrpid=rrpid, purchase=b"preq", now=at)
            after = OrderState.UNKNOWN if number < 6 else OrderState.DECLINED
            await book.move(xid, OrderState.PAID_PENDING, after, now=at)

    book = OrderStore.open(tmp_path / "merchant.sqlite")
    asyncio.run(fill(book))
    yield Asking(book)
    book.close()


def test_the_oldest_is_first_and_each_is_asked_less_and_less_often(asking: Asking) -> None:
    assert asking.look() == [1, 2, 3, 4, 5]
    assert asking.look() == []
    assert asking.look(after=1) == [1, 2, 3, 4, 5]
    assert asking.look(after=1) == []
    assert asking.look(after=1) == [1, 2, 3, 4, 5]
    assert asking.pause == 1


def test_a_gateway_that_was_asked_too_often_is_left_alone_and_nobody_loses_a_turn(asking: Asking) -> None:
    asking.says[3] = TOO_MANY
    assert asking.look() == [1, 2, 3]
    assert asking.pause == 10
    del asking.says[3]
    assert asking.look(after=10) == [3, 4, 5, 1, 2]


@pytest.mark.parametrize("away", [GatewayUnreachable("ConnectError"), UnsignedRefusal()])
def test_a_gateway_that_is_away_is_tried_with_one_order_after_the_other(asking: Asking, away: Exception) -> None:
    asking.says = dict.fromkeys(range(1, 6), away)
    assert [asking.look(), asking.look(), asking.look()] == [[1], [2], [3]]
    asking.says = {}
    assert asking.look() == [4, 5]
    assert asking.look(after=1)[:3] == [1, 2, 3]


def test_an_order_that_cannot_be_judged_does_not_hold_up_the_next(asking: Asking) -> None:
    asking.says = {1: ProtocolError(ErrorCode.INVOICE_MISMATCH, "U3", "no"), 2: RuntimeError()}
    assert asking.look() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("status", [PurchaseStatus.UNSETTLED, PurchaseStatus.CONCLUDED])
def test_people_are_told_of_an_order_that_only_they_can_end(asking: Asking, status: PurchaseStatus) -> None:
    asking.says = {1: status}
    with capture_logs() as logs:
        asking.look()
    [alarm] = [entry for entry in logs if entry.get("alarm")]
    assert (alarm["xid"], alarm["log_level"]) == ("01" * 20, "error")
    word = asking.word(bytes([1]) * 20)
    assert word is not None
    assert word.status is status
    assert 1 not in asking.look(after=600)
    assert 1 in asking.look(after=3000)


def test_a_clock_that_is_put_back_silences_nobody(asking: Asking) -> None:
    asking.look()
    assert asking.look(after=-86_400) == [1, 2, 3, 4, 5]


def test_what_somebody_else_closed_is_forgotten(asking: Asking) -> None:
    asking.look()
    store = asking._store
    for number in range(1, 6):
        xid = bytes([number]) * 20
        asyncio.run(store.move(xid, OrderState.UNKNOWN, OrderState.REVERSED, now=BEGIN))
    assert asking.look(after=60) == []
    assert (asking.pause, asking._open, asking.word(bytes([1]) * 20)) == (None, {}, None)
