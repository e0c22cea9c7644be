"""Limits: what the rules say, what the counters let through, and what is given back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.errors import CardKeyError, LimitExceededError, LimitRulesError
from gateway.limits.card_key import KEPT, CardKey
from gateway.limits.counting import Claim, Occasion, forget, used_by
from gateway.limits.rules import Rules, Window
from gateway.limits.watched import WatchedRules
from gateway.order import Answer, Order
from gateway.schema import orders
from gateway.states import OrderState
from gateway.store import OrderStore
from gateway.tables import SCHEMA
from tests.gateway.conftest import ACQUIRER, NOW, new_order, run

BECAUSE = "because: {en: so it is agreed, fa: چنین توافق شده}"
CARD = b"\1" * 16


def rules(*each: str) -> Rules:
    return Rules.read(("rules:\n" + "".join(f"  - {{{one}, {BECAUSE}}}\n" for one in each)).encode())


def claims(found: Rules, *, amount: int = 150_000, mcc: str = "5942", digits: str = "60377010", merchant: str = "M-1",
           now: datetime = NOW) -> list[Claim]:  # fmt: skip
    return found.claims(merchant_id=merchant, mcc=mcc, digits=digits, card_id=CARD, amount=amount, now=now)


# --- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("name: x, for: card, window: day", "an amount"),
        ("name: x, for: card, window: order, orders: 3", "by itself"),
        ("name: x, for: cards, window: day, orders: 3", "for"),
        ("name: x, for: card, window: week, orders: 3", "window"),
        ("name: x, for: card, window: day, orders: 0", "orders"),
        ("name: x, for: card, window: day, amount: 1.5", "amount"),
        ("name: x, for: card, window: day, orders: 3, per: hour", "per"),
        ("name: X Y, for: card, window: day, orders: 3", "name"),
        ("name: x, for: card, window: day, orders: 3, when: {mcc: [59420]}", "mcc"),
        ("name: x, for: card, window: day, orders: 3, when: {bin: ['60x']}", "bin"),
        ("name: x, for: card, window: day, orders: 3, gives_back: [refunded]", "gives_back"),
    ],
)
def test_a_wrong_rule_is_refused_with_what_is_wrong(wrong: str, told: str) -> None:
    with pytest.raises(LimitRulesError, match=told):
        rules(wrong)


def test_a_file_that_is_no_list_of_rules_is_refused() -> None:
    for wrong in (b"rules: [", b"- 1", b"\xff", b"[]", b"limits: []", b"[" * 100_000, b"#" * 1_000_001):
        with pytest.raises(LimitRulesError):
            Rules.read(wrong)
    one = f"{{name: x, for: card, window: day, orders: 3, {BECAUSE}}}"
    with pytest.raises(LimitRulesError, match="name of its own"):
        Rules.read(f"rules: [{one}, {one}]".encode())
    assert Rules.read(b"rules: []").rules == ()


@pytest.mark.parametrize("emptied", [b"", b"# to be written\n", b"{}", b"rules:\n"])
def test_a_file_without_a_list_of_rules_is_wrong_and_lifts_no_limit(tmp_path: Path, emptied: bytes) -> None:
    """An editor that writes in place leaves an empty file for a moment, a full disk for longer."""
    path = tmp_path / "limits.yaml"
    path.write_text(f"rules: [{{name: a, for: card, window: day, orders: 3, {BECAUSE}}}]", "utf-8")
    watched = WatchedRules(path)
    path.write_bytes(emptied)
    assert [each.name for each in watched.rules.rules] == ["a"]


def test_selectors_choose_by_category_card_and_merchant() -> None:
    found = rules(
        "name: books, for: card, window: day, orders: 3, when: {mcc: ['5942']}",
        "name: bank, for: card, window: day, orders: 3, when: {bin: ['603770', '62']}",
        "name: shop, for: merchant, window: hour, amount: 5, when: {merchant: [M-2], mcc: ['5942', '5999']}",
        "name: all, for: merchant, window: minute, orders: 9",
    )
    assert [each.rule for each in claims(found, amount=1)] == ["books", "bank", "all"]
    assert [each.rule for each in claims(found, amount=1, mcc="5999", digits="62198610")] == ["bank", "all"]
    assert [each.rule for each in claims(found, amount=1, merchant="M-2", digits="58")] == ["books", "shop", "all"]
    subjects = {each.rule: each.subject for each in claims(found, amount=1)}
    assert subjects == {"books": CARD.hex(), "bank": CARD.hex(), "all": "M-1"}


def test_an_order_that_is_too_large_by_itself_is_refused_before_anything_is_counted() -> None:
    found = rules("name: one, for: card, window: order, amount: 150000")
    assert claims(found) == []
    with pytest.raises(LimitExceededError) as refused:
        claims(found, amount=150_001)
    assert (refused.value.rule, refused.value.rc) == ("one", "61")


def test_windows_begin_with_the_clock_of_iran() -> None:
    now = datetime(2026, 3, 21, 21, 15, 30, 5, tzinfo=UTC)  # 00:45:30 of the 22nd in Iran
    assert Window.MINUTE.begin(now) == datetime(2026, 3, 21, 21, 15, tzinfo=UTC)
    assert Window.HOUR.begin(now) == datetime(2026, 3, 21, 20, 30, tzinfo=UTC)
    assert Window.DAY.begin(now) == datetime(2026, 3, 21, 20, 30, tzinfo=UTC)


def test_a_rule_that_counts_attempts_gives_back_only_what_was_not_sent() -> None:
    found = rules(
        "name: attempts, for: card, window: day, orders: 3",
        "name: money, for: card, window: day, amount: 3000000",
        "name: own, for: card, window: day, orders: 3, gives_back: []",
    )
    returned = {each.name: each.returned for each in found.rules}
    assert returned == {"attempts": {Occasion.NOT_SENT}, "money": set(Occasion), "own": set()}


def test_changes_are_taken_up_and_a_wrong_file_changes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "limits.yaml"
    with pytest.raises(LimitRulesError):
        WatchedRules(path)
    path.write_text(f"rules: [{{name: a, for: card, window: day, orders: 3, {BECAUSE}}}]", "utf-8")
    watched = WatchedRules(path)
    assert [each.name for each in watched.rules.rules] == ["a"]
    path.write_text("rules: [{name: b}]", "utf-8")
    assert [each.name for each in watched.rules.rules] == ["a"]
    assert '"alarm": true' in capfd.readouterr().err
    path.unlink()
    assert [each.name for each in watched.rules.rules] == ["a"]
    path.write_text("rules: []", "utf-8")
    assert watched.rules.rules == ()


# --- cards ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What the key service tells of its key with a card."""

    card_key_version: int
    card_key_check: bytes


FIRST, SECOND, OTHER = Told(1, b"A" * 8), Told(2, b"B" * 8), Told(1, b"C" * 8)


def takes_up(book: OrderStore, told: Told, now: datetime = NOW) -> None:
    """What one gateway does with a card that it sees, having seen none before."""
    run(book.writer.run(CardKey().look(told, now)))


def test_a_database_knows_cards_by_one_key(book: OrderStore) -> None:
    takes_up(book, FIRST)
    takes_up(book, FIRST)
    with pytest.raises(CardKeyError, match="rotate it"):  # a gateway of another key service, or a token made anew
        takes_up(book, OTHER)
    takes_up(book, FIRST)


def test_a_rotated_key_is_taken_up_with_an_alarm_and_the_one_before_not_for_long(
    book: OrderStore, capfd: pytest.CaptureFixture[str]
) -> None:
    takes_up(book, FIRST)
    assert '"alarm": true' not in capfd.readouterr().err
    takes_up(book, SECOND)
    assert '"alarm": true' in capfd.readouterr().err
    takes_up(book, FIRST, NOW + KEPT)  # an order that was opened before
    with pytest.raises(CardKeyError, match="not by 1 any more"):
        takes_up(book, FIRST, NOW + KEPT + timedelta(seconds=1))
    with pytest.raises(CardKeyError):  # never was this one's
        takes_up(book, OTHER)
    takes_up(book, SECOND, NOW + timedelta(days=1))
    assert capfd.readouterr().err.count('"alarm": true') == 0  # once


def test_a_key_that_was_found_right_is_looked_at_again_after_a_while() -> None:
    key = CardKey()
    assert not key.knows(FIRST, NOW)
    key.found(FIRST, NOW)
    assert key.knows(FIRST, NOW)
    assert key.knows(FIRST, NOW + KEPT / 2)
    for told, now in ((SECOND, NOW), (OTHER, NOW), (FIRST, NOW + KEPT), (FIRST, NOW - timedelta(seconds=1))):
        assert not key.knows(told, now)


# --- counters ---------------------------------------------------------------------------------------------------------

ORDERS = "name: three, for: card, window: day, orders: 3"
MONEY = "name: money, for: merchant, window: day, amount: 500000"


async def sent(book: OrderStore, number: int, found: Rules, *, amount: int = 150_000) -> Order:
    key = (await book.receive(new_order(number, amount=amount), NOW)).key
    await book.verify(key, acquirer=ACQUIRER, pan_sealed=b"sealed", masked_pan="*", now=NOW, card_id=CARD)
    return await book.sent(key, {3: "000000"}, NOW, claims=claims(found, amount=amount))


def used(book: OrderStore, found: Rules) -> dict[str, tuple[int, int]]:
    with book.reading() as connection:
        pairs = [(each.rule, each.subject, each.window) for each in claims(found, amount=1)]
        return {rule: (row.orders, row.amount) for (rule, _), row in used_by(connection, pairs).items()}


def test_the_last_unit_is_taken_by_one_of_two(book: OrderStore) -> None:
    found = rules(ORDERS)

    async def scenario() -> None:
        for number in (1, 2):
            await sent(book, number, found)
        both = await asyncio.gather(*(sent(book, number, found) for number in (3, 4, 5)), return_exceptions=True)
        refused = [each for each in both if isinstance(each, LimitExceededError)]
        assert [(each.rule, each.rc) for each in refused] == [("three", "65")] * 2
        states = [order.state for number in (3, 4, 5) if (order := book.find(new_order(number).key))]
        assert sorted(states) == [OrderState.SENT, OrderState.VERIFIED, OrderState.VERIFIED]

    run(scenario())
    assert used(book, found) == {"three": (3, 450_000)}


def test_one_rule_that_refuses_leaves_no_counter_raised(book: OrderStore) -> None:
    found = rules(ORDERS, MONEY)

    async def scenario() -> None:
        await sent(book, 1, found, amount=400_000)
        with pytest.raises(LimitExceededError) as refused:
            await sent(book, 2, found, amount=100_001)
        assert (refused.value.rule, refused.value.rc) == ("money", "61")
        await sent(book, 3, found, amount=100_000)

    run(scenario())
    assert used(book, found) == {"three": (2, 500_000), "money": (2, 500_000)}


@pytest.mark.parametrize(
    ("left", "outcome", "after"),
    [
        (False, OrderState.DECLINED, {"three": (0, 0), "money": (0, 0)}),
        (True, OrderState.DECLINED, {"three": (1, 150_000), "money": (0, 0)}),
        (True, OrderState.APPROVED, {"three": (1, 150_000), "money": (1, 150_000)}),
    ],
)
def test_what_moved_no_money_is_given_back_as_the_rule_says(
    book: OrderStore, left: bool, outcome: OrderState, after: dict[str, tuple[int, int]]
) -> None:
    found = rules(ORDERS, MONEY)

    async def scenario() -> None:
        order = await sent(book, 1, found)
        await book.conclude(order.key, outcome, NOW, rc="00", left=left, answer=Answer(b"signed"))

    run(scenario())
    assert used(book, found) == after


def test_a_reversal_gives_back_once(book: OrderStore) -> None:
    found = rules(ORDERS, MONEY)

    async def scenario() -> None:
        order = await sent(book, 1, found)
        await book.conclude(order.key, OrderState.UNKNOWN, NOW)
        queued = await book.queue_reversal(order.key, OrderState.UNKNOWN, "no answer", NOW)
        assert used(book, found)["money"] == (1, 150_000)  # until it is certain
        await book.finish_reversal(queued, "25", NOW, found_original=False)
        assert used(book, found)["money"] == (0, 0)
        queued = await book.queue_reversal(order.key, OrderState.REVERSED, "late approval", NOW)
        ended = await book.finish_reversal(queued, "00", NOW, found_original=True)
        assert [each["rule"] for each in ended.counted or []] == ["three"]

    run(scenario())
    assert used(book, found) == {"three": (1, 150_000), "money": (0, 0)}


def test_counters_of_old_windows_are_forgotten(book: OrderStore) -> None:
    found = rules(ORDERS)

    async def scenario() -> None:
        await sent(book, 1, found)
        assert await book.writer.run(lambda connection: forget(connection, NOW - timedelta(days=1))) == 0
        assert await book.writer.run(lambda connection: forget(connection, NOW)) == 1

    run(scenario())
    assert used(book, found) == {}


def test_every_table_of_limits_is_in_the_schema() -> None:
    assert {"limit_counters", "card_keys", "order_steps", "resolutions"} <= set(SCHEMA.metadata.tables)
    assert "card_id" in orders.c
