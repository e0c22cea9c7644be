"""What nobody captured of a hold in time is given back by itself, once, and then it cannot be captured any more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from gateway.errors import StateConflictError
from gateway.order import Order
from gateway.schema import orders, settlings, trace_numbers
from gateway.settling.reconciliation import is_undecided
from gateway.settling.releases import Releases
from gateway.settling.row import Settling
from gateway.settling.states import SettlingState
from gateway.settling.store import LET_ALONE, SettlingStore
from gateway.store import OrderStore
from kwbp.codes import AuthCode
from kwbp.common import Draft
from kwbp.errors import ProtocolError
from kwbp.settling import ANSWERS, Followed
from kwbp.wrapper import unwrap
from tests.gateway.conftest import run
from tests.gateway.test_settling_store import SECOND, Desk
from tests.kwbp.settling import Settling as Parties
from tests.kwbp.world import TOTAL, World
from tests.support.databases import DATABASES, gateway_database
from tests.support.pki_factory import PkiFactory

DAY = timedelta(days=1)


class Holds(Desk):
    """A desk whose hold lapses when it is told so, and another gateway on the same order book."""

    def __init__(self, parties: Parties, book: OrderStore, other: OrderStore) -> None:
        super().__init__(parties, book)
        self.releases = Releases(book, self.store, acquirer="603770", rng=os.urandom)
        self.others = Releases(other, SettlingStore(other), acquirer="603770", rng=os.urandom)
        self.lapse(self.now)

    @property
    def hold(self) -> Order:
        found = self.book.find(self.key(self.parties.held))
        assert found is not None
        return found

    @property
    def money(self) -> tuple[int, int]:
        standing = self.standing(self.parties.held)
        return standing.authorised, standing.captured

    def lapse(self, at: datetime | None) -> None:
        its = orders.c.xid == self.parties.held.auth_res.body.xid
        run(self.book.writer.run(lambda each: each.execute(update(orders).where(its).values(lapses_at=at))))

    def taken(self, at: datetime | None = None) -> list[Settling]:
        return run(self.releases.take(self.now, at or self.now, 9))

    def ended(self, row: Settling, code: AuthCode = AuthCode.APPROVED, rc: str | None = "00") -> Settling:
        sent = run(self.store.sending(row, "0420", {11: row.stan}, self.now, self.now))
        return run(self.releases.ended(sent, self.now, auth_code=int(code), rc=rc))

    def done(self, draft: Draft[Any]) -> Settling:
        return self.answer(self.concluded(draft))

    def refusal(self, draft: Draft[Any]) -> str:
        with pytest.raises(ProtocolError) as refused:
            self.take(draft)
        return refused.value.check


@pytest.fixture(scope="module")
def parties() -> Parties:
    return Parties(World(PkiFactory()))


@pytest.fixture(params=DATABASES)
def holds(request: pytest.FixtureRequest, parties: Parties, tmp_path: Path) -> Iterator[Holds]:
    target = gateway_database(request.param, tmp_path)
    with OrderStore.open(target) as book, contextlib.ExitStack() as stack:
        shared = request.param == "postgresql"  # a file has one gateway
        yield Holds(parties, book, stack.enter_context(OrderStore.open(target, replica="other")) if shared else book)


def test_what_was_not_captured_is_released_and_not_authorised_any_more(holds: Holds, parties: Parties) -> None:
    holds.done(parties.capture(1000))
    (row,) = holds.taken()
    assert (row.state, row.leaves, row.rrn, row.request) == (SettlingState.TAKEN, 1000, holds.hold.rrn, None)
    assert holds.money == (TOTAL, 1000)
    assert holds.refusal(parties.capture(1)) == "H5"  # while nobody knows what the network did
    ended = holds.ended(row)
    assert (ended.state, ended.auth_code, ended.answer) == (SettlingState.ANSWERED, 0, None)
    assert holds.money == (1000, 1000)
    assert holds.refusal(parties.capture(1)) == "H9"
    assert holds.hold.pan_sealed is not None  # for a credit
    assert holds.taken(holds.now + 99 * DAY) == []


def test_an_ended_release_is_not_ended_again(holds: Holds, parties: Parties) -> None:
    holds.done(parties.capture(1000))
    (row,) = holds.taken()
    sent = run(holds.store.sending(row, "0420", {11: row.stan}, holds.now, holds.now))
    run(holds.releases.ended(sent, holds.now, auth_code=0, rc="00"))
    with pytest.raises(StateConflictError):
        run(holds.releases.ended(sent, holds.now, auth_code=0, rc="00"))


def test_two_gateways_that_see_it_lapse_release_it_once(holds: Holds, parties: Parties) -> None:
    holds.done(parties.capture(1000))

    async def both() -> list[Settling]:
        looks = (each.take(holds.now, holds.now, 9) for each in (holds.releases, holds.others) * 3)
        return [row for taken in await asyncio.gather(*looks) for row in taken]

    assert len(run(both())) == 1


def test_without_a_trace_number_it_waits_for_the_next_day(holds: Holds, parties: Parties) -> None:
    holds.done(parties.capture(1000))
    used = update(trace_numbers).values(used=999_999)
    run(holds.book.writer.run(lambda each: each.execute(used)))
    with capture_logs() as logs:
        assert holds.taken() == []  # and whatever else is due is looked at
    assert [each["alarm"] for each in logs] == [True]
    assert holds.hold.lapses_at == holds.now
    assert holds.money == (TOTAL, 1000)
    assert [row.leaves for row in holds.taken(holds.now + DAY)] == [1000]


@pytest.mark.parametrize("captured", [0, TOTAL])
def test_a_hold_that_nothing_or_all_was_captured_of_is_not_released_here(
    holds: Holds, parties: Parties, captured: int
) -> None:
    """The first is reversed as an order, the second has nothing to give back."""
    if captured:
        holds.done(parties.capture(captured))
    assert holds.taken() == []
    assert [order.xid for order in holds.book.lapsed(holds.now, 9)] == ([] if captured else [holds.hold.xid])


def test_a_hold_that_is_being_asked_about_is_let_alone(holds: Holds, parties: Parties) -> None:
    holds.done(parties.capture(1000))
    row = holds.concluded(parties.capture(500))
    assert holds.taken() == []
    assert holds.hold.lapses_at == holds.now + LET_ALONE
    holds.answer(row)
    assert [each.leaves for each in holds.taken(holds.now + LET_ALONE)] == [1500]


def test_what_is_reversed_in_part_and_not_captured_is_released_as_a_whole(holds: Holds, parties: Parties) -> None:
    holds.done(parties.auth_reversal(parties.held, 700))
    (row,) = holds.taken()
    assert row.leaves == 0
    holds.ended(row)
    assert (holds.money, holds.hold.pan_sealed) == ((0, 0), None)


def test_a_capture_that_is_reversed_after_the_release_is_held_again_and_lapses_again(
    holds: Holds, parties: Parties
) -> None:
    capture = holds.done(parties.capture(1000))
    (row,) = holds.taken()
    holds.ended(row)
    assert capture.answer is not None
    holds.done(parties.capture_reversal(Followed.capture(_signed(capture))))
    assert holds.money == (1000, 0)
    assert holds.taken() == []
    (second,) = holds.taken(holds.now + LET_ALONE)
    holds.ended(second)
    assert (second.leaves, holds.money, holds.hold.pan_sealed) == (0, (0, 0), None)


def _signed(row: Settling) -> bytes:
    assert row.answer is not None
    return unwrap(row.answer, expected=tuple(ANSWERS.values())).body


def test_what_the_network_refuses_to_release_is_told_and_tried_again_the_next_day(
    holds: Holds, parties: Parties
) -> None:
    holds.done(parties.capture(1000))
    (row,) = holds.taken()
    with capture_logs() as logs:
        holds.ended(row, AuthCode.DECLINED, "12")
    assert [(each["rc"], each["alarm"]) for each in logs] == [("12", True)]
    assert holds.money == (TOTAL, 1000)
    assert holds.taken(holds.now + DAY - SECOND) == []
    (second,) = holds.taken(holds.now + DAY)
    assert (second.leaves, second.stan != row.stan) == (1000, True)


def test_before_the_card_is_forgotten_a_release_is_tried_and_after_it_a_person_is_told(
    holds: Holds, parties: Parties
) -> None:
    holds.done(parties.capture(1000))
    holds.lapse(holds.now + 99 * DAY)
    later = holds.now + DAY
    forget = holds.store.forget_pans
    assert run(forget(holds.now + SECOND, later)) == 1  # the sale's; the hold's is needed
    assert (holds.hold.lapses_at, holds.hold.pan_sealed) == (later, b"sealed")
    (row,) = holds.taken(later)
    assert run(forget(holds.now + SECOND, later)) == 0  # it is under way
    holds.ended(row, AuthCode.DECLINED, "25")
    with capture_logs() as logs:
        assert run(forget(holds.now + SECOND, later)) == 1
    assert [(each["held"], each["alarm"]) for each in logs] == [(TOTAL - 1000, True)]
    assert holds.hold.pan_sealed is None


def test_an_open_release_keeps_no_business_day_open(holds: Holds, parties: Parties) -> None:
    """It moves no money of the merchant's: neither its batch nor its day waits for it."""
    holds.done(parties.capture(1000))
    (row,) = holds.taken()
    with holds.book.reading() as connection:
        assert not is_undecided(connection, row.merchant_id, holds.now + DAY)
    holds.ended(row)
    with holds.book.reading() as connection:
        assert not is_undecided(connection, row.merchant_id, holds.now + DAY)
        last = connection.execute(select(settlings).where(settlings.c.leaves.is_not(None))).one()
    assert last.state == SettlingState.ANSWERED


@pytest.mark.parametrize("seed", range(3))
def test_after_any_history_exactly_what_was_captured_stays_authorised(
    holds: Holds, parties: Parties, seed: int
) -> None:
    """Captures, their reversals and releases in any order, some of them refused: issuer, gateway and standing agree."""
    rng, held_by_issuer, captures = random.Random(seed), TOTAL, list[Settling]()

    def captured() -> int:
        return sum(row.asked.body.amount.amount for row in captures)

    for _ in range(6):
        room = holds.money[0] - captured()
        act = rng.choice(("capture", "reverse", "release", "refused"))
        if act == "capture" and room:
            captures.append(holds.done(parties.capture(rng.randrange(1, room + 1))))
        elif act == "reverse" and captures:
            row = captures.pop(rng.randrange(len(captures)))
            holds.done(parties.capture_reversal(Followed.capture(_signed(row))))
        elif act in ("release", "refused") and holds.hold.pan_sealed is not None:
            holds.lapse(holds.now)
            for row in holds.taken():
                assert row.leaves == captured() < held_by_issuer
                if act == "release":
                    holds.ended(row)
                    held_by_issuer = captured()
                else:
                    holds.ended(row, AuthCode.DECLINED, "12")
        assert holds.money == (held_by_issuer, captured())
