"""Captures, refunds and what takes them back: one wish, one request, the same bytes until its outcome is known."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from kwbp.codes import AuthCode, ErrorCode
from kwbp.wrapper import unwrap
from pki.oids import CT_CRED_RES
from storefront.errors import MoneyRefused
from storefront.merchant.money.states import MoneyState, RequestState, money_state
from storefront.merchant.money.wishes import Operation, Wish
from storefront.merchant.states import OrderState
from tests.kwbp.world import TOTAL, World
from tests.support.money_office import Gateway, Till, answer_lost, refuses, says, sends, unreachable
from tests.support.pki_factory import PkiFactory

S, R = RequestState, Operation


@pytest.fixture(scope="module")
def world() -> World:
    return World(PkiFactory())


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return tmp_path / "merchant.sqlite"


def run(test: Any) -> None:
    asyncio.run(test)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110  # what is awaited is in a database
            await asyncio.sleep(0.02)


def test_a_life_of_money_is_the_same_in_both_books(world: World, book: Path) -> None:
    """Held, captured in two parts, one taken back, refunded, the refund taken back, the rest of it cancelled."""

    async def test() -> None:
        async with Till.open(world, book) as till:
            xid = await till.sold(held=True)
            steps: list[tuple[Wish, MoneyState, tuple[int, int, int]]] = [
                (Wish(R.CAPTURE, 1_000_000), MoneyState.CAPTURED, (TOTAL, 1_000_000, 0)),
                (Wish(R.CAPTURE), MoneyState.CAPTURED, (TOTAL, TOTAL, 0)),
            ]
            for number, (wish, state, money) in enumerate(steps):
                await done(till, xid, wish, f"step-{number}", state, money)
            first, second = till.standing(xid).captures
            await done(till, xid, Wish(R.UNCAPTURE, of=second.h_answer.hex()), "back", MoneyState.CAPTURED,
                       (TOTAL, 1_000_000, 0))  # fmt: skip
            await done(till, xid, Wish(R.REFUND, 250_000), "refund", MoneyState.PARTLY_REFUNDED,
                       (TOTAL, 1_000_000, 250_000))  # fmt: skip
            await done(till, xid, Wish(R.UNREFUND), "unrefund", MoneyState.CAPTURED, (TOTAL, 1_000_000, 0))
            await done(till, xid, Wish(R.CANCEL, 1_000_000), "rest", MoneyState.CAPTURED, (1_000_000, 1_000_000, 0))
            await done(till, xid, Wish(R.REFUND), "all", MoneyState.REFUNDED, (1_000_000, 1_000_000, 1_000_000))
            assert first.amount == 1_000_000
            assert all(each.state is S.APPROVED for each in till.office.book.of_order(xid))

    run(test())


async def done(till: Till, xid: bytes, wish: Wish, name: str, state: MoneyState, money: tuple[int, int, int]) -> None:
    request = await till.office.ask(xid, wish, name)
    assert (request.state, request.code) == (S.APPROVED, "approved")
    standing = till.standing(xid)
    assert money_state(standing) is state
    assert (standing.authorised, standing.captured, standing.refunded) == money
    assert till.books_agree(xid)
    till.clock.advance(1)


def test_a_sale_is_taken_back_in_part_and_then_whole(world: World, book: Path) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            xid = await till.sold()
            await done(till, xid, Wish(R.CANCEL, 2_000_000), "less", MoneyState.CAPTURED, (2_000_000, 2_000_000, 0))
            await done(till, xid, Wish(R.CANCEL), "nothing", MoneyState.CANCELLED, (0, 0, 0))

    run(test())


# --- what is refused before anything is signed ---


@pytest.mark.parametrize(
    ("held", "wish", "clause", "said"),
    [
        (False, Wish(R.REFUND, TOTAL + 1), "H9", "from 1 to 3,250,000 rial"),
        (False, Wish(R.REFUND, 0), "H9", "from 1 to 3,250,000 rial"),
        (False, Wish(R.CAPTURE), "H9", "nothing is left"),
        (False, Wish(R.CANCEL, TOTAL), "H9", "from 0 to 3,249,999 rial"),
        (False, Wish(R.UNCAPTURE), "H6", "it is taken back with 'kwbp merchant cancel'"),
        (False, Wish(R.UNREFUND), "H6", "no refund stands"),
        (False, Wish(R.REFUND, 1, of="00000000"), "H6", "no capture stands"),
        (True, Wish(R.CAPTURE, TOTAL + 1), "H9", "from 1 to 3,250,000 rial"),
        (True, Wish(R.REFUND, 1), "H6", "no capture stands"),
        (True, Wish(R.UNCAPTURE), "H6", "no capture stands"),
    ],
    ids=str,
)
def test_what_the_own_book_has_no_room_for_is_never_signed(
    world: World, book: Path, held: bool, wish: Wish, clause: str, said: str
) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            xid = await till.sold(held=held)
            with pytest.raises(MoneyRefused, match=said) as refused:
                await till.office.ask(xid, wish, "mistyped")
            assert refused.value.clause == clause
            assert till.signed == till.gateway.sent == till.office.book.of_order(xid) == []

    run(test())


@pytest.mark.parametrize("state", [OrderState.PAID_PENDING, OrderState.AUTHORISED])
def test_nothing_follows_a_purchase_that_is_not_concluded(world: World, book: Path, state: OrderState) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            xid = await till.sold(state=state)
            with pytest.raises(MoneyRefused, match="nothing was paid") as refused:
                await till.office.ask(xid, Wish(R.REFUND), "too-early")
            assert (refused.value.clause, till.signed) == ("H6", [])

    run(test())


def test_of_two_captures_it_is_said_which(world: World, book: Path) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            xid = await till.sold(held=True)
            for name in ("one", "two"):
                await till.office.ask(xid, Wish(R.CAPTURE, 700_000), name)
                till.clock.advance(1)
            with pytest.raises(MoneyRefused, match="say which with --of"):
                await till.office.ask(xid, Wish(R.REFUND, 1), "which")
            second = till.standing(xid).captures[1]
            request = await till.office.ask(xid, Wish(R.REFUND, 700_000, of=second.h_answer.hex()[:12]), "this")
            assert request.state is S.APPROVED
            assert till.standing(xid).refunded_of(second.h_answer) == 700_000
            with pytest.raises(MoneyRefused, match="take the refund back first"):
                await till.office.ask(xid, Wish(R.UNCAPTURE, of=second.h_answer.hex()), "not-now")
            with pytest.raises(MoneyRefused, match="nothing is left"):
                await till.office.ask(xid, Wish(R.REFUND, of=second.h_answer.hex()), "again")
            assert till.books_agree(xid)

    run(test())


# --- one wish, one request ---


def test_one_name_is_one_wish_however_often_it_is_said(world: World, book: Path) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            xid = await till.sold()
            wish = Wish(R.REFUND, 400_000)
            said = await asyncio.gather(*(till.office.ask(xid, wish, "return-7") for _ in range(20)))
            assert len({each.number for each in said}) == len(till.gateway.sent) == len(till.signed) == 1
            with pytest.raises(MoneyRefused, match="stands for another wish"):
                await till.office.ask(xid, Wish(R.REFUND, 400_001), "return-7")
            with pytest.raises(MoneyRefused, match="a wish has a name"):
                await till.office.ask(xid, wish, "two words")
            assert till.standing(xid).refunded == 400_000

    run(test())


def test_two_wishes_at_once_about_one_order_follow_each_other(world: World, book: Path) -> None:
    """Nobody decides by a book that another wish is about to change: 2,000,000 twice is more than was paid."""

    async def test() -> None:
        async with Till.open(world, book) as till:
            xid = await till.sold()
            wish = Wish(R.REFUND, 2_000_000)
            said = await asyncio.gather(
                *(till.office.ask(xid, wish, name) for name in ("a", "b")), return_exceptions=True
            )
            assert sorted(isinstance(each, MoneyRefused) for each in said) == [False, True]
            await until(lambda: till.standing(xid).refunded == 2_000_000)
            assert len(till.signed) == 1

    run(test())


# --- no answer is no outcome ---


@pytest.mark.parametrize(
    "fault",
    [unreachable, answer_lost, sends(b""), sends(os.urandom(200)), says(AuthCode.NO_REPLY),
     refuses(ErrorCode.UNSPECIFIED_FAILURE, "H1"), refuses(ErrorCode.RATE_LIMITED, "H1")],
    ids=["unreachable", "answer lost", "empty", "noise", "noReply", "failure", "too often"],
)  # fmt: skip
def test_without_an_answer_the_same_bytes_are_sent_again(world: World, book: Path, fault: Any) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            xid = await till.sold()
            till.gateway.script += [fault, fault]
            request = await till.office.ask(xid, Wish(R.REFUND, 90_000), "slow")
            assert request.state is S.APPROVED
            assert len(till.gateway.sent) == 3
            assert (len(set(till.gateway.sent)), len(till.signed)) == (1, 1)
            assert till.standing(xid).refunded == 90_000
            assert till.books_agree(xid)

    run(test())


def test_an_unknown_outcome_is_shown_as_unknown_and_holds_the_order(world: World, book: Path) -> None:
    async def test() -> None:
        async with Till.open(world, book, patience=0.05) as till:
            xid = await till.sold()
            till.gateway.outcome = AuthCode.NO_REPLY
            request = await till.office.ask(xid, Wish(R.REFUND, 90_000), "open")
            assert (request.state, request.code, request.answer) == (S.OPEN, None, None)
            await until(lambda: till.office.word(request) == "noReply")
            assert till.standing(xid).open_rrpid == request.rrpid
            assert till.standing(xid).refunded == 0
            with pytest.raises(MoneyRefused, match="outcome must be known first") as refused:
                await till.office.ask(xid, Wish(R.REFUND, 90_000), "another")
            assert refused.value.clause == "H5"
            till.gateway.outcome = AuthCode.APPROVED
            await until(lambda: till.office.book.request(request.number).state is S.APPROVED)
            assert till.office.word(till.office.book.request(request.number)) is None
            assert till.books_agree(xid)

    run(test())


def test_people_are_told_once_of_what_stays_open_for_too_long(world: World, book: Path) -> None:
    async def test() -> None:
        with capture_logs() as logs:
            async with Till.open(world, book, patience=0.05) as till:
                xid = await till.sold()
                till.gateway.script += [unreachable] * 100
                request = await till.office.ask(xid, Wish(R.REFUND, 90_000), "lost")
                till.clock.advance(31 * 60)
                sent = len(till.gateway.sent)
                await until(lambda: len(till.gateway.sent) >= sent + 3)
                assert till.office.book.request(request.number).state is S.OPEN
        alarms = [each for each in logs if each.get("alarm")]
        assert [each["wish"] for each in alarms] == ["lost"]

    run(test())


def test_a_decline_is_final_and_moves_nothing(world: World, book: Path) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            xid = await till.sold()
            till.gateway.script.append(says(AuthCode.DECLINED))
            request = await till.office.ask(xid, Wish(R.REFUND, 90_000), "no")
            assert (request.state, request.code) == (S.DECLINED, "declined")
            assert till.standing(xid).refunded == 0
            assert till.books_agree(xid)
            assert (await till.office.ask(xid, Wish(R.REFUND, 90_000), "anew")).state is S.APPROVED

    run(test())


# --- refusals ---


def test_a_refusal_of_the_first_copy_ends_the_wish(world: World, book: Path) -> None:
    async def test() -> None:
        async with Till.open(world, book) as till:
            xid = await till.sold()
            till.gateway.script.append(refuses(ErrorCode.ROLE_NOT_ALLOWED, "H1"))
            request = await till.office.ask(xid, Wish(R.REFUND, 90_000), "suspended")
            assert (request.state, request.code, request.clause) == (S.REFUSED, "roleNotAllowed", "H1")
            assert till.books_agree(xid)  # the gateway did not take it in, and neither does the merchant's Standing
            assert till.standing(xid).open_rrpid is None

    run(test())


def test_a_refusal_of_a_later_copy_ends_nothing_while_another_may_be_on_its_way(world: World, book: Path) -> None:
    async def test() -> None:
        async with Till.open(world, book, patience=0.05) as till:
            xid = await till.sold()
            till.gateway.script += [unreachable] + [refuses(ErrorCode.HASH_MISMATCH, "H6")] * 3
            request = await till.office.ask(xid, Wish(R.REFUND, 90_000), "two-copies")
            await until(lambda: len(till.gateway.sent) >= 3)
            assert till.office.book.request(request.number).state is S.OPEN
            await until(lambda: till.office.book.request(request.number).state is S.APPROVED)
            assert till.standing(xid).refunded == 90_000

    run(test())


def test_what_grew_too_old_was_not_done_and_is_not_signed_anew(world: World, book: Path) -> None:
    async def test() -> None:
        async with Till.open(world, book, patience=0.05) as till:
            xid = await till.sold()
            till.gateway.script += [unreachable] * 2
            request = await till.office.ask(xid, Wish(R.REFUND, 90_000), "yesterday")
            till.clock.advance(7 * 60)
            await until(lambda: till.office.book.request(request.number).state is S.REFUSED)
            ended = till.office.book.request(request.number)
            assert (ended.code, ended.clause) == ("messageTooOld", "K7")
            assert (len(till.signed), till.standing(xid).refunded) == (1, 0)
            assert till.books_agree(xid)

    run(test())


def test_an_answer_that_was_lost_is_found_however_late(world: World, book: Path) -> None:
    """The gateway asks its book before its clock: what it took in, it answers."""

    async def test() -> None:
        async with Till.open(world, book, patience=0.05) as till:
            xid = await till.sold()
            till.gateway.script += [answer_lost, unreachable]
            request = await till.office.ask(xid, Wish(R.REFUND, 90_000), "lost")
            till.clock.advance(7 * 60)
            await until(lambda: till.office.book.request(request.number).state is S.APPROVED)
            assert till.standing(xid).refunded == 90_000

    run(test())


@pytest.mark.parametrize(("code", "check"), [(ErrorCode.ROLE_NOT_ALLOWED, "H1"), (ErrorCode.VERSION_TOO_OLD, "K1")])
def test_a_gateway_that_did_not_ask_its_book_says_nothing_of_what_was_sent_before(
    world: World, book: Path, code: ErrorCode, check: str
) -> None:
    """The request was done, its answer lost, and then the shop was suspended: that is no refusal of it."""

    async def test() -> None:
        async with Till.open(world, book, patience=0.05) as till:
            xid = await till.sold()
            till.gateway.script += [answer_lost] + [refuses(code, check)] * 3
            request = await till.office.ask(xid, Wish(R.REFUND, 90_000), "suspended")
            till.clock.advance(7 * 60)
            await until(lambda: len(till.gateway.sent) >= 3)
            assert till.office.book.request(request.number).state is S.OPEN
            await until(lambda: till.office.book.request(request.number).state is S.APPROVED)
            assert till.books_agree(xid)

    run(test())


@pytest.mark.parametrize("error", ["unsigned", "other gateway"])
def test_a_refusal_that_is_not_that_gateways_ends_nothing(world: World, book: Path, error: str) -> None:
    from kwbp.error_message import build_error  # the gateway's own words, by somebody else
    from kwbp.errors import ProtocolError

    def step(gateway: Gateway, data: bytes) -> bytes:
        draft = build_error(ProtocolError(ErrorCode.ROLE_NOT_ALLOWED, "H1", "no"), refused=data, now=gateway.clock())
        signer = world.other_gateway_signing
        return draft.message(draft.content if error == "unsigned" else signer.sign(draft.content_type, draft.content))

    async def test() -> None:
        async with Till.open(world, book) as till:
            xid = await till.sold()
            till.gateway.script.append(step)
            request = await till.office.ask(xid, Wish(R.REFUND, 90_000), "forged")
            assert request.state is S.APPROVED

    run(test())


def test_an_answer_about_another_request_counts_for_nothing(world: World, book: Path) -> None:
    """J1: the answer to another wish, in good order and signed, is not the answer to this one."""

    async def test() -> None:
        async with Till.open(world, book) as till:
            xid = await till.sold()
            first = await till.office.ask(xid, Wish(R.REFUND, 90_000), "first")
            assert first.answer is not None
            till.gateway.script.append(lambda gateway, _data: gateway.answers[first.rrpid])
            second = await till.office.ask(xid, Wish(R.REFUND, 90_000), "second")
            assert second.state is S.APPROVED
            assert second.answer != first.answer
            assert len(till.gateway.sent) == 3
            assert unwrap(till.gateway.answers[second.rrpid], expected=(CT_CRED_RES,)).body == second.answer
            assert till.books_agree(xid)

    run(test())


# --- crashes ---


@pytest.mark.parametrize("step", ["money kept", "money sending", "money answered", "money concluded"])
@pytest.mark.parametrize("fault", [None, answer_lost], ids=["heard", "answer lost"])
def test_started_again_it_ends_what_was_left_open_once(world: World, book: Path, step: str, fault: Any) -> None:
    async def test() -> None:
        async with Till.open(world, book, fall=step, patience=0.5) as falling:
            xid, gateway = await falling.sold(), falling.gateway
            gateway.script += [fault] if fault is not None else []
            await asyncio.gather(falling.office.ask(xid, Wish(R.REFUND, 90_000), "falls"), return_exceptions=True)
            assert len(falling.signed) == 1
        async with Till.open(world, book, gateway=gateway) as again:
            await until(lambda: not again.office.book.open_requests())
            request = await again.office.ask(xid, Wish(R.REFUND, 90_000), "falls")
            assert request.state is S.APPROVED
            assert again.signed == []  # the bytes that were kept, none else
            assert len(set(gateway.sent)) == 1
            assert again.standing(xid).refunded == 90_000
            assert again.books_agree(xid)

    run(test())
