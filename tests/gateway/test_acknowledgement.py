"""AuthAck around `ackBy`: of two copies one may be in time and the other late, and both are told the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.acknowledgement import Acknowledgement
from gateway.merchants import MerchantRegistry
from gateway.order import Answer, NewOrder, OrderKey, Promise
from gateway.patience import Patience
from gateway.reversal import NO_ACKNOWLEDGEMENT
from gateway.states import OrderState
from gateway.store import OrderStore
from kwbp.codes import AuthCode
from kwbp.common import instant
from kwbp.errors import ProtocolError
from kwbp.wrapper import wrap
from pki.oids import CT_AUTH_RES
from pki.path import Trust
from tests.gateway.conftest import SHOP, run
from tests.kwbp.forge import acknowledged
from tests.kwbp.world import Purchase, World
from tests.support.pki_factory import PkiFactory
from tests.support.uptime import BOOT, following

SECOND = timedelta(seconds=1)


class Lists:
    """The trust lists: who asks first waits until they are let through."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._asked = 0
        self.through = asyncio.Event()

    async def trust(self, _now: datetime) -> Trust:
        self._asked += 1
        if self._asked == 1:
            await self.through.wait()
        return self._trust


class Told:
    """Refusals, as the exact cause."""

    async def answer(self, error: ProtocolError, *_rest: Any) -> bytes:
        return error.code.protocol_name.encode()


class Scene:
    """An approved order in a real order book, and its acknowledgement."""

    def __init__(self, world: World, purchase: Purchase, book: OrderStore) -> None:
        self.world, self.purchase, self.book = world, purchase, book
        body = purchase.auth_res.body
        self.key = OrderKey(body.merchant_id, body.xid)
        self.ack_by = instant(body.ack_by)
        self.now = self.ack_by - 2 * SECOND
        self.woken = 0
        self.lists = Lists(world.trust)
        self.ahead = timedelta(0)
        """By how much the clock on the wall is, of the time that has passed."""
        self.taking = Acknowledgement(
            store=book,
            patience=Patience(following(lambda: self.now - self.ahead), timedelta(minutes=15)),
            refusals=Told(),  # type: ignore[arg-type]
            trust=self.lists,
            clock=lambda: self.now,
            checkpoint=lambda step: None,
            on_reversal=self._wake,
            hold_kept=timedelta(days=28),
        )

    def _wake(self) -> None:
        self.woken += 1

    def ack(self, *, accepted: bool = True, at: datetime | None = None) -> bytes:
        at = at or self.now
        return acknowledged(self.world, self.purchase, date=at, signing_time=at, accepted=accepted)

    async def approved(self) -> None:
        """Bring the order to APPROVED."""
        body, now = self.purchase.auth_res.body, self.now
        await MerchantRegistry(self.book).register(replace(SHOP, merchant_id=body.merchant_id), now)
        await self.book.receive(
            NewOrder(
                key=self.key,
                request_digest=bytes(32),
                rrpid=body.rrpid,
                terminal_id="T0000001",
                amount=body.amount.amount,
                invoice=b"invoice",
                dual_signature=b"dual",
            ),
            now,
        )
        await self.book.verify(self.key, acquirer="581672", pan_sealed=b"pan", masked_pan="masked", now=now)
        await self.book.sent(self.key, {}, now)
        answer = wrap(CT_AUTH_RES, self.purchase.auth_res_signed, rrpid=body.rrpid, xid=body.xid)
        await self.book.conclude(
            self.key,
            OrderState.APPROVED,
            now,
            approved=True,
            rc="00",
            ack_by=self.ack_by,
            promise=Promise(BOOT, int(self.ack_by.timestamp() * 1000)),
            answer=Answer(answer, int(AuthCode.APPROVED)),
        )

    async def take(self, ack: bytes) -> bytes | None:
        return await self.taking.take(self.key.merchant_id, ack)

    @property
    def state(self) -> OrderState:
        found = self.book.find(self.key)
        assert found is not None
        return found.state


@pytest.fixture(scope="module")
def world() -> World:
    return World(PkiFactory())


@pytest.fixture(scope="module")
def purchase(world: World) -> Purchase:
    return world.purchase()


@pytest.fixture
def scene(world: World, purchase: Purchase, tmp_path: Path) -> Iterator[Scene]:
    with OrderStore.open(tmp_path / "orders.sqlite") as book:
        yield Scene(world, purchase, book)


def test_a_late_copy_is_refused_only_after_the_approval_was_taken_back(scene: Scene) -> None:
    """The copy that came in time and waited finds the order taken back, and is refused as well: never ACKED."""

    async def play() -> tuple[bytes | None, bytes | None, OrderState]:
        await scene.approved()
        ack = scene.ack()
        first = asyncio.create_task(scene.take(ack))
        await asyncio.sleep(0.05)
        scene.now = scene.ack_by + SECOND
        late = await scene.take(ack)
        between = scene.state
        scene.lists.through.set()
        return late, await first, between

    late, first, between = run(play())
    assert (late, first) == (b"ackTimeout", b"ackTimeout")
    assert between is scene.state is OrderState.REV_QUEUED
    order = scene.book.find(scene.key)
    assert order is not None
    assert order.reversal_reason == NO_ACKNOWLEDGEMENT
    assert scene.woken == 1


def test_a_late_copy_signed_anew_of_an_order_that_is_acknowledged_is_taken(scene: Scene) -> None:
    async def play() -> list[bytes | None]:
        await scene.approved()
        scene.lists.through.set()
        in_time = await scene.take(scene.ack())
        scene.now = scene.ack_by + SECOND
        return [in_time, await scene.take(scene.ack()), await scene.take(scene.ack(accepted=False))]

    assert run(play()) == [None, None, b"ackTimeout"]
    assert scene.state is OrderState.ACKED
    assert scene.woken == 0


def test_a_late_copy_of_an_order_that_is_given_back_is_refused(scene: Scene) -> None:
    async def play() -> list[bytes | None]:
        await scene.approved()
        scene.lists.through.set()
        scene.now = scene.ack_by + SECOND
        return [await scene.take(scene.ack()), await scene.take(scene.ack())]

    assert run(play()) == [b"ackTimeout", b"ackTimeout"]
    assert scene.state is OrderState.REV_QUEUED


def test_an_acknowledgement_is_not_late_by_a_clock_that_is_ahead(scene: Scene) -> None:
    """The approval has not stood as long as was promised, whatever the clock on the wall says."""

    async def play() -> bytes | None:
        await scene.approved()
        scene.lists.through.set()
        ack = scene.ack()
        scene.ahead = timedelta(seconds=100)
        scene.now += scene.ahead
        return await scene.take(ack)

    assert run(play()) is None
    assert scene.state is OrderState.ACKED
    assert scene.woken == 0
