"""Store-and-forward: a reversal is repeated until the switch takes it, one at a time, over restarts and faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from gateway.errors import StanExhaustedError
from gateway.links.link import SwitchLink
from gateway.order import Order, OrderKey, Promise
from gateway.patience import Patience
from gateway.reversal import Attempts, LoopRuns, ReversalRuns, Reversals, ReversalSettings
from gateway.routing import Routes
from gateway.schema import trace_numbers
from gateway.states import OrderState
from gateway.store import OrderStore
from gateway.translation import order_request, reversible_fields, unclaimed
from runtime.lasting import lasting
from runtime.problems import Problem
from shetab.message import Message
from shetab.response_codes import ResponseCodes
from shetab.subfields import OriginalDataElements
from shetab.types import Cvv2, Expiry, Pan
from tests.gateway.conftest import ACQUIRER, NOW, SHOP, Clock, line, new_order, run, until
from tests.support.iso8583_messages import PAN
from tests.support.scripted_switch import DIALECT, ScriptedSwitch, Step
from tests.support.uptime import BOOT, following

CODES = ResponseCodes.load()


class Card:
    pan = Pan(PAN)
    expiry = Expiry("0712")
    cvv2: Cvv2 | None = Cvv2("123")
    pin_block: bytes | None = bytes.fromhex("F92D1CFCC2103E10")
    pin_key_index: int = 1
    mac_key_index: int = 1
    pin_block_format: int = 3


class Vault:
    """Unseals what `sealed` sealed: reversible text is enough where the vault is not the subject."""

    async def unseal_pan(self, xid: bytes, blob: bytes) -> Pan:
        assert blob == b"sealed for " + xid
        return Pan(PAN)


async def sent(book: OrderStore, number: int = 1) -> tuple[Order, Message]:
    key = (await book.receive(new_order(number), NOW)).key
    order = await book.verify(
        key, acquirer=ACQUIRER, pan_sealed=b"sealed for " + key.xid, masked_pan=Card.pan.masked, now=NOW
    )
    request = order_request(DIALECT, order, SHOP, Card(), NOW)
    return await book.sent(key, reversible_fields(DIALECT, request), NOW), request


async def unknown(book: OrderStore, number: int = 1) -> Message:
    order, request = await sent(book, number)
    await book.conclude(order.key, OrderState.UNKNOWN, NOW)
    return request


async def approved(
    book: OrderStore, number: int = 1, *, ack_by: float = 900, promise: Promise | None = None
) -> OrderKey:
    order, _ = await sent(book, number)
    due = NOW + timedelta(seconds=ack_by)
    promise = promise or Promise(BOOT, int(due.timestamp() * 1000))
    await book.conclude(order.key, OrderState.APPROVED, NOW, approved=True, rc="00", ack_by=due, promise=promise)
    return order.key


def worker(
    book: OrderStore,
    link: SwitchLink,
    clock: Clock,
    *,
    passed: Clock | None = None,
    runs: Callable[[Attempts], ReversalRuns] = LoopRuns,
    **settings: Any,
) -> Reversals:
    """`passed`: the time that passes, where the clock is wrong."""
    quick = {"answer_timeout": 2.0, "first_pause": 0.01, "longest_pause": 0.02, "tick": 0.01, **settings}
    return Reversals(
        ReversalSettings(**quick),
        book,
        Routes({link.name: link}),
        Vault(),
        CODES,
        Patience(following(passed or clock), timedelta(minutes=15)),
        clock=clock,
        rng=lambda size: bytes(size),
        checkpoint=lambda step: None,
        runs=runs,
    )


@asynccontextmanager
async def running(book: OrderStore, switch: ScriptedSwitch, clock: Clock, **settings: Any) -> AsyncIterator[SwitchLink]:
    async def file(answer: Message) -> None:
        await book.file_unclaimed(unclaimed(CODES, answer), clock())

    async with line(switch, on_unclaimed=file) as link:
        task = asyncio.create_task(worker(book, link, clock, **settings).run())
        ticking = asyncio.create_task(_tick(clock))
        try:
            yield link
        finally:
            for each in (task, ticking):
                each.cancel()
            await asyncio.gather(task, ticking, return_exceptions=True)


async def _tick(clock: Clock) -> None:
    """The clock of these tests runs with the loop's, so that pauses end."""
    while True:
        await asyncio.sleep(0.01)
        clock.advance(1)


def state(book: OrderStore, number: int = 1) -> OrderState:
    order = book.find(new_order(number).key)
    assert order is not None
    return order.state


class _Runs:
    """Notes when it is closed, and what is begun then."""

    def __init__(self) -> None:
        self.closed = 0
        self.begun = 0

    def begin(self, due: Sequence[Order]) -> None:
        assert not self.closed
        self.begun += len(due)

    async def close(self) -> None:
        self.closed += 1


def test_begun_again_it_goes_on_with_the_same_runs(
    book: OrderStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = _Runs()

    async def scenario() -> None:
        await unknown(book)
        async with ScriptedSwitch() as switch, line(switch) as link:
            reversals = worker(book, link, clock, runs=lambda attempts: runs)
            queue, tried = reversals._queue, 0

            async def cancelled_first() -> None:
                nonlocal tried
                tried += 1
                if tried == 1:
                    raise asyncio.CancelledError  # of something that it waited for
                await queue()

            monkeypatch.setattr(reversals, "_queue", cancelled_first)
            task = asyncio.create_task(lasting("of a test, reversals", reversals.run, pause=0.0))
            await until(lambda: runs.begun)
            assert runs.closed == 0
            task.cancel()
            await asyncio.wait({task})

    run(scenario())
    assert runs.closed == 1


def test_an_unknown_outcome_is_taken_back(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        request = await unknown(book)
        async with ScriptedSwitch() as switch, running(book, switch, clock):
            await until(lambda: state(book) is OrderState.REVERSED)
            (advice,) = switch.of("0420")
            assert OriginalDataElements.from_de90(advice[90]) == OriginalDataElements.of(request)
            unchanged = (2, 3, 4, 12, 13, 17, 32, 37, 41, 42, 49, 62, 100)
            assert [advice[field] for field in unchanged] == [request[field] for field in unchanged]
            assert advice[11] != request[11]
            assert not {14, 48, 52, 53} & advice.fields.keys()

    run(scenario())


def test_a_day_without_numbers_holds_up_no_reversal_that_has_its_own(book: OrderStore, clock: Clock) -> None:
    """New orders leave numbers to reversals. If even these are used, what is queued is sent all the same."""

    async def scenario() -> None:
        first = (await unknown(book))[37]
        await unknown(book, 2)
        await book.receive(new_order(3), NOW)

        async def used(count: int) -> None:
            await book.writer.run(lambda connection: connection.execute(update(trace_numbers).values(used=count)))

        await used(949_999)
        with pytest.raises(StanExhaustedError):
            await book.verify(new_order(3).key, acquirer=ACQUIRER, pan_sealed=b"", masked_pan="*", now=NOW)
        await book.queue_reversal(new_order(1).key, OrderState.UNKNOWN, "no answer", NOW)
        await used(999_999)
        async with ScriptedSwitch() as switch, running(book, switch, clock):
            await until(lambda: state(book) is OrderState.REVERSED)
            assert [message[37] for message in switch.of("0420")] == [first]
            assert state(book, 2) is OrderState.UNKNOWN
            await used(1)
            await until(lambda: state(book, 2) is OrderState.REVERSED)

    run(scenario())


def test_repeats_are_0421_with_the_same_stan_rrn_and_original(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        await unknown(book)
        async with ScriptedSwitch() as switch:
            switch.plan("0420", Step(drop=True), Step(drop=True), Step(rc="91"))
            async with running(book, switch, clock, answer_timeout=1.0):
                await until(lambda: state(book) is OrderState.REVERSED)
            sent = [message for message in switch.received if message.mti in ("0420", "0421")]
            assert [message.mti for message in sent] == ["0420", "0421", "0421", "0421"]
            assert len({(message[11], message[37], message[90]) for message in sent}) == 1
            assert len({message[7] for message in sent}) > 1

    run(scenario())


@pytest.mark.parametrize("rc", ["00", "25", "94"])
def test_these_answers_end_it(book: OrderStore, clock: Clock, rc: str) -> None:
    async def scenario() -> None:
        await unknown(book)
        async with ScriptedSwitch() as switch:
            switch.plan("0420", Step(rc=rc))
            async with running(book, switch, clock):
                await until(lambda: state(book) is OrderState.REVERSED)
            assert switch.count("0420") == 1

    run(scenario())


def test_an_answer_that_needs_a_person_ends_in_rev_failed(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        await unknown(book)
        async with ScriptedSwitch() as switch:
            switch.plan("0420", Step(rc="13"))
            async with running(book, switch, clock):
                await until(lambda: state(book) is OrderState.REV_FAILED)

    run(scenario())


def test_it_gives_up_after_the_last_attempt(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        await unknown(book)
        async with ScriptedSwitch() as switch:
            switch.always("0420", Step(rc="96"))
            async with running(book, switch, clock, most_attempts=3):
                await until(lambda: state(book) is OrderState.REV_FAILED)
            assert (switch.count("0420"), switch.count("0421")) == (1, 2)

    run(scenario())


def test_an_answer_with_a_wrong_mac_does_not_end_it(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        await unknown(book)
        async with ScriptedSwitch() as switch:
            switch.plan("0420", Step(corrupt_mac=True))
            async with running(book, switch, clock, answer_timeout=1.0):
                await until(lambda: state(book) is OrderState.REVERSED)
            assert (switch.count("0420"), switch.count("0421")) == (1, 1)

    run(scenario())


def test_an_approval_nobody_acknowledged_is_taken_back_when_its_time_comes(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        await approved(book, 1, ack_by=5)
        await approved(book, 2, ack_by=10**9)
        async with ScriptedSwitch() as switch, running(book, switch, clock):
            await until(lambda: state(book, 1) is OrderState.REVERSED)
            assert state(book, 2) is OrderState.APPROVED
            assert clock() >= NOW + timedelta(seconds=5)
            order = book.find(new_order(1).key)
            assert order is not None
            assert order.reversal_reason == "no acknowledgement"

    run(scenario())


def test_however_many_are_due_new_orders_have_their_share_of_the_line(book: OrderStore, clock: Clock) -> None:
    """The switch is silent about reversals: so many are under way, the others wait, and an order is answered."""

    async def scenario() -> None:
        await asyncio.gather(*(unknown(book, number) for number in range(1, 101)))
        async with ScriptedSwitch() as switch:
            switch.always("0420", Step(drop=True))
            async with running(book, switch, clock, answer_timeout=60) as link:
                await until(lambda: switch.count("0420") == 32)
                _, request = await sent(book, 1000)
                answer = await link.exchange(request, await link.authenticate(request), 20)
                assert answer[39] == "00"
                assert switch.count("0420") == 32

    run(scenario())


def test_a_clock_that_is_set_forward_takes_no_approval_back(book: OrderStore, clock: Clock) -> None:
    """What was answered here stands as long as was promised; what was answered elsewhere a whole time from now on."""
    passed = Clock()
    elsewhere = Promise("another machine", 0)

    async def scenario() -> None:
        await approved(book, 1, ack_by=60)
        await approved(book, 2, ack_by=30, promise=elsewhere)
        async with ScriptedSwitch() as switch, running(book, switch, clock, passed=passed):
            looks = clock()
            await until(lambda: clock() > looks + timedelta(seconds=30))
            assert (state(book, 1), state(book, 2)) == (OrderState.APPROVED, OrderState.APPROVED)
            assert switch.count("0420") == 0
            passed.advance(61)
            await until(lambda: state(book, 1) is OrderState.REVERSED)
            assert state(book, 2) is OrderState.APPROVED
            passed.advance(15 * 60)
            await until(lambda: state(book, 2) is OrderState.REVERSED)

    clock.advance(3600)
    run(scenario())


def test_a_clock_that_is_set_forward_gives_up_no_order_under_way(book: OrderStore, clock: Clock) -> None:
    """It was SENT an hour ago by the clock; but by the time that passed its answer may still come."""
    passed = Clock()

    async def scenario() -> None:
        await sent(book)
        quick = {"answer_timeout": 5.0, "lost_run": 1.0, "tidy": 0.01}
        async with ScriptedSwitch() as switch, running(book, switch, clock, passed=passed, **quick):
            looks = clock()
            await until(lambda: clock() > looks + timedelta(seconds=30))
            assert state(book) is OrderState.SENT
            passed.advance(6)
            await until(lambda: state(book) is OrderState.REVERSED)

    clock.advance(3600)
    run(scenario())


def test_an_acknowledged_approval_is_never_taken_back(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        key = await approved(book, ack_by=1)
        await book.acknowledge(key, b"ack", NOW)
        async with ScriptedSwitch() as switch, running(book, switch, clock):
            await until(lambda: clock() > NOW + timedelta(seconds=3))
            assert state(book) is OrderState.ACKED
            assert switch.count("0420") == 0

    run(scenario())


def test_one_order_has_one_reversal_under_way(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        await unknown(book)
        async with ScriptedSwitch() as switch:
            switch.plan("0420", Step(delay=0.5))
            async with running(book, switch, clock, answer_timeout=5):
                await until(lambda: switch.count("0420") == 1)
                await until(lambda: state(book) is OrderState.REVERSED)
            assert switch.count("0421") == 0

    run(scenario())


def test_many_orders_are_taken_back_side_by_side(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        for number in range(1, 51):
            await unknown(book, number)
        async with ScriptedSwitch() as switch:
            switch.always("0420", Step(delay=0.05))
            async with running(book, switch, clock, answer_timeout=10):
                await until(lambda: book.counts() == {OrderState.REVERSED: 50})
            assert switch.count("0420") == 50

    run(scenario())


def test_it_waits_for_the_line_and_counts_nothing_meanwhile(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        await unknown(book)
        async with ScriptedSwitch() as switch:
            switch.plan("0800", *[Step(rc="91")] * 3)
            async with line(switch, wait=False) as link:
                task = asyncio.create_task(worker(book, link, clock, answer_timeout=5).run())
                await until(lambda: state(book) is OrderState.REVERSED)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            order = book.find(new_order().key)
            assert order is not None
            assert order.reversal_attempts == 1

    run(scenario())


def test_a_reversal_begun_before_a_restart_goes_on_as_a_repeat(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        await unknown(book)
        queued = await book.queue_reversal(new_order().key, OrderState.UNKNOWN, "no answer", NOW)
        await book.claim_reversal(queued, NOW, now=NOW)  # counted, and then the process was killed
        async with ScriptedSwitch() as switch, running(book, switch, clock):
            await until(lambda: state(book) is OrderState.REVERSED)
            assert (switch.count("0420"), switch.count("0421")) == (0, 1)

    run(scenario())


def test_an_approval_that_comes_late_is_filed_and_taken_back(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        order, request = await sent(book)
        async with ScriptedSwitch() as switch:
            switch.plan("0200", Step(delay=0.2))
            async with running(book, switch, clock) as link:
                with pytest.raises(Exception, match="no answer"):
                    await link.exchange(request, await link.authenticate(request), 0.05)
                await until(lambda: (found := book.find(order.key)) is not None and found.late_approved)
                await book.conclude(order.key, OrderState.UNKNOWN, clock())
                await until(lambda: state(book) is OrderState.REVERSED)

    run(scenario())


def test_an_approval_that_its_own_reversal_overtook_is_taken_back_again(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        order, request = await sent(book)
        await book.conclude(order.key, OrderState.UNKNOWN, NOW)
        async with ScriptedSwitch() as switch:
            switch.plan("0420", Step(rc="25"))
            async with running(book, switch, clock) as link:
                await until(lambda: state(book) is OrderState.REVERSED)
                with pytest.raises(Exception, match="no answer"):  # the original turns up at the switch now, approved
                    switch.plan("0200", Step(delay=0.1))
                    await link.exchange(request, await link.authenticate(request), 0.05)
                await until(lambda: switch.count("0420") == 2)
                await until(lambda: state(book) is OrderState.REVERSED)
            first, second = switch.of("0420")
            assert (first[90], first[37]) == (second[90], second[37])
            assert first[11] != second[11]

    run(scenario())


def test_a_vault_that_is_away_delays_a_reversal_and_loses_none(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        await unknown(book)
        away = Problem(503, "hsm-unreachable", "the HSM service does not answer")
        failures = iter([away, away, ConnectionError()])

        class Flaky(Vault):
            async def unseal_pan(self, xid: bytes, blob: bytes) -> Pan:
                if (error := next(failures, None)) is not None:
                    raise error
                return await super().unseal_pan(xid, blob)

        async with ScriptedSwitch() as switch, line(switch) as link:
            reversals = worker(book, link, clock)
            reversals._keys = Flaky()
            task, ticking = asyncio.create_task(reversals.run()), asyncio.create_task(_tick(clock))
            await until(lambda: state(book) is OrderState.REVERSED)
            for each in (task, ticking):
                each.cancel()
            await asyncio.gather(task, ticking, return_exceptions=True)
            assert switch.count("0420") == 1

    run(scenario())


def test_a_pan_that_the_vault_does_not_give_back_needs_a_person(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        await unknown(book)

        class Foreign(Vault):
            async def unseal_pan(self, xid: bytes, blob: bytes) -> Pan:
                raise Problem(422, "decoding-failure", "the sealed data could not be opened")

        async with ScriptedSwitch() as switch, line(switch) as link:
            reversals = worker(book, link, clock)
            reversals._keys = Foreign()
            task = asyncio.create_task(reversals.run())
            await until(lambda: state(book) is OrderState.REV_FAILED)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert switch.count("0420") == 0

    run(scenario())


def test_a_key_that_is_out_of_use_delays_a_reversal_and_loses_none(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        await unknown(book)
        refusals = iter(
            [
                Problem(409, "key-not-enabled", "no enabled version opens this; one that is disabled may"),
                Problem(403, "key-expired", "the key might be used until yesterday"),
            ]
        )

        class Disabled(Vault):
            async def unseal_pan(self, xid: bytes, blob: bytes) -> Pan:
                if (refused := next(refusals, None)) is not None:
                    raise refused
                return await super().unseal_pan(xid, blob)

        async with ScriptedSwitch() as switch, line(switch) as link:
            reversals = worker(book, link, clock)
            reversals._keys = Disabled()
            task, ticking = asyncio.create_task(reversals.run()), asyncio.create_task(_tick(clock))
            await until(lambda: state(book) is OrderState.REVERSED)
            for each in (task, ticking):
                each.cancel()
            await asyncio.gather(task, ticking, return_exceptions=True)
            assert switch.count("0420") == 1

    run(scenario())


def test_a_key_that_is_out_of_use_is_told_of_once_also_after_its_service_was_away(
    book: OrderStore, clock: Clock
) -> None:
    async def scenario() -> None:
        await unknown(book)
        disabled = Problem(409, "key-not-enabled", "no enabled version opens this; one that is disabled may")
        refusals = iter([Problem(503, "hsm-unreachable", "the HSM service does not answer"), disabled, disabled])

        class Disabled(Vault):
            async def unseal_pan(self, xid: bytes, blob: bytes) -> Pan:
                if (refused := next(refusals, None)) is not None:
                    raise refused
                return await super().unseal_pan(xid, blob)

        async with ScriptedSwitch() as switch, line(switch) as link:
            reversals = worker(book, link, clock)
            reversals._keys = Disabled()
            task, ticking = asyncio.create_task(reversals.run()), asyncio.create_task(_tick(clock))
            await until(lambda: state(book) is OrderState.REVERSED)
            for each in (task, ticking):
                each.cancel()
            await asyncio.gather(task, ticking, return_exceptions=True)
            assert not reversals._unprepared

    with capture_logs() as logs:
        run(scenario())
    told = [each for each in logs if each["event"] == "a reversal waits for a key"]
    assert [(each["problem"], each["alarm"]) for each in told] == [("key-not-enabled", True)]


def test_a_key_that_stays_out_of_use_leaves_an_old_reversal_to_a_person(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        await unknown(book)

        class Disabled(Vault):
            async def unseal_pan(self, xid: bytes, blob: bytes) -> Pan:
                raise Problem(409, "key-not-enabled", "no enabled version opens this; one that is disabled may")

        async with ScriptedSwitch() as switch, line(switch) as link:
            reversals = worker(book, link, clock)
            reversals._keys = Disabled()
            task, ticking = asyncio.create_task(reversals.run()), asyncio.create_task(_tick(clock))
            await until(lambda: bool(reversals._unprepared))
            assert state(book) is OrderState.REV_QUEUED
            clock.advance(2 * 86_400)
            await until(lambda: state(book) is OrderState.REV_FAILED)
            await until(lambda: not reversals._unprepared)  # nothing is kept of what ended
            for each in (task, ticking):
                each.cancel()
            await asyncio.gather(task, ticking, return_exceptions=True)
            assert switch.count("0420") == 0

    run(scenario())


def test_orders_left_half_way_are_tidied_up(book: OrderStore, clock: Clock) -> None:
    async def scenario() -> None:
        await sent(book, 1)  # a run that could not store its outcome
        await book.receive(new_order(2), NOW)  # a run that was killed before it sent anything
        clock.advance(3600)
        async with ScriptedSwitch() as switch, running(book, switch, clock):
            await until(lambda: state(book, 1) is OrderState.REVERSED)
            await until(lambda: state(book, 2) is OrderState.DECLINED)

    run(scenario())
