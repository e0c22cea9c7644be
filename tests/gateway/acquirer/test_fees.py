"""Fees: which rule counts, how it is rounded, what is taken back; files that cannot be used."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.acquirer.fees import ChargedFee, FeeRule, FeeSchedule, FeesError, fees_of_day
from kwbp.codes import EntryKind
from kwbp.fields import to_time
from kwbp.settling import Entry

DAY = date(2026, 3, 21)
FILE = """
rules:
  - {name: standard, valid_from: 2026-01-01, fixed: 1000, per_mille: "2.5", floor: 1500, cap: 40000}
  - {name: books, valid_from: 2026-01-01, mcc: ["5942", "5192"], per_mille: "1.8", reversed: waived}
  - {name: books-later, valid_from: 2026-04-01, mcc: ["5942"], per_mille: "2"}
  - {name: corner, valid_from: 2026-03-21, merchants: [SHOP-7], fixed: 500}
"""


def rule(**changes: Any) -> FeeRule:
    return FeeRule(**{"name": "r", "valid_from": DAY, **changes})


@pytest.mark.parametrize(
    ("merchant", "mcc", "day", "name"),
    [
        ("SHOP-1", "7011", DAY, "standard"),
        ("SHOP-1", "5942", DAY, "books"),
        ("SHOP-1", "5942", date(2026, 3, 31), "books"),
        ("SHOP-1", "5942", date(2026, 4, 1), "books-later"),
        ("SHOP-1", "5192", date(2026, 4, 1), "books"),
        ("SHOP-7", "5942", date(2026, 3, 20), "books"),
        ("SHOP-7", "5942", DAY, "corner"),
        ("SHOP-1", "7011", date(2025, 12, 31), None),
    ],
)
def test_a_merchants_rule_goes_before_its_categorys_before_the_standard_one(
    merchant: str, mcc: str, day: date, name: str | None
) -> None:
    found = FeeSchedule.from_yaml(FILE).rule(merchant, mcc, day)
    assert (found and found.name) == name


@pytest.mark.parametrize(
    ("amount", "changes", "fee"),
    [
        (150_000, {"fixed": 1000, "per_mille": "2.5"}, 1375),
        (200, {"per_mille": "2.5"}, 1),  # 0.5 is rounded up
        (199, {"per_mille": "2.5"}, 0),
        (100, {"fixed": 10, "floor": 50}, 50),
        (10**9, {"per_mille": "10", "cap": 40_000}, 40_000),
        (300, {"fixed": 1000}, 300),  # never more than the amount
        (0, {"fixed": 1000, "floor": 500}, 0),
        (10**11, {"per_mille": "0.001"}, 10**5),
    ],
)
def test_the_fee_of_an_amount(amount: int, changes: dict[str, Any], fee: int) -> None:
    assert rule(**changes).of(amount) == fee


@given(amount=st.integers(0, 10**11), fixed=st.integers(0, 10**6), thousandths=st.integers(0, 999_999))
def test_a_fee_is_never_negative_nor_more_than_the_amount(amount: int, fixed: int, thousandths: int) -> None:
    charged = rule(fixed=fixed, per_mille=f"{thousandths // 1000}.{thousandths % 1000:03d}")
    assert 0 <= charged.of(amount) <= amount
    exact = (fixed * 10**6 * 2 + amount * thousandths * 2 + 10**6) // (2 * 10**6)  # half up, in whole numbers
    assert charged.of(amount) == min(exact, amount)


def entry(number: int, kind: EntryKind, amount: int, xid: int = 1) -> Entry:
    h_answer = number.to_bytes(32, "big")
    return Entry(
        kind=kind,
        xid=xid.to_bytes(20, "big"),
        h_answer=h_answer,
        amount=amount,
        date=to_time(datetime(2026, 3, 21, tzinfo=UTC)),
    )


K = EntryKind
HISTORIES = [
    ([(K.SALE, 10_000), (K.SALE_REVERSAL, 10_000)], [100], []),
    ([(K.SALE, 10_000), (K.SALE_REVERSAL, 4_000)], [100], [60]),
    ([(K.SALE, 10_000), (K.CREDIT, 10_000)], [100], []),
    ([(K.SALE, 10_000), (K.CREDIT, 10_000), (K.CREDIT_REVERSAL, 10_000)], [100], [100]),
    ([(K.CAPTURE, 6_000), (K.CAPTURE, 3_000), (K.CAPTURE_REVERSAL, 3_000)], [60, 30], [60]),
    ([(K.CREDIT, 5_000)], [], []),
    ([(K.SALE_REVERSAL, 5_000)], [], []),  # of a sale of another day: its fee was told then
]


@pytest.mark.parametrize(("history", "charged", "waived"), HISTORIES)
def test_what_is_taken_back_the_same_day_is_charged_or_waived_as_the_rule_says(
    history: list[tuple[EntryKind, int]], charged: list[int], waived: list[int]
) -> None:
    entries = [entry(number, *each) for number, each in enumerate(history, start=1)]
    assert [fee.amount for fee in fees_of_day(rule(per_mille="10"), entries)] == charged
    lenient = rule(per_mille="10", reversed="waived", credited="waived")
    assert [fee.amount for fee in fees_of_day(lenient, entries)] == waived


def test_orders_do_not_lower_each_others_fees() -> None:
    entries = [entry(1, K.SALE, 10_000, xid=1), entry(2, K.SALE, 10_000, xid=2), entry(3, K.CREDIT, 10_000, xid=2)]
    charged = fees_of_day(rule(per_mille="10", credited="waived"), entries)
    assert charged == [ChargedFee((1).to_bytes(32, "big"), 100, "r")]
    assert fees_of_day(None, entries) == []


def test_the_one_fee_of_the_settings_is_a_rule_for_everybody() -> None:
    found = FeeSchedule.fixed(1_200).rule("M", "0000", date.min)
    assert found is not None
    assert (found.of(150_000), found.of(700)) == (1_200, 700)
    assert FeeSchedule.fixed(0).rule("M", "0000", DAY) is None


BROKEN = {
    "no list": ("rules: 7", "list of rules"),
    "no rules": ("fees: []", "list of rules"),
    "no YAML": ("rules: [", "list of rules"),
    "unknown key": ("rules: [{name: a, valid_from: 2026-01-01, rate: 3}]", "rate"),
    "percent as number": ("rules: [{name: a, valid_from: 2026-01-01, per_mille: 2.5}]", "per_mille"),
    "too fine": ('rules: [{name: a, valid_from: 2026-01-01, per_mille: "2.5555"}]', "per_mille"),
    "no date": ("rules: [{name: a}]", "valid_from"),
    "negative": ("rules: [{name: a, valid_from: 2026-01-01, fixed: -1}]", "fixed"),
    "cap below floor": ("rules: [{name: a, valid_from: 2026-01-01, floor: 9, cap: 8}]", "cap"),
    "both": ('rules: [{name: a, valid_from: 2026-01-01, mcc: ["5942"], merchants: [M]}]', "both"),
    "a name twice": ("rules: [{name: a, valid_from: 2026-01-01}, {name: a, valid_from: 2026-01-02}]", "same name"),
    "two at once": ("rules: [{name: a, valid_from: 2026-01-01}, {name: b, valid_from: 2026-01-01}]", "begin on"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_used_is_refused_with_its_reason(name: str) -> None:
    text, reason = BROKEN[name]
    with pytest.raises(FeesError, match=reason):
        FeeSchedule.from_yaml(text)


def test_a_file_is_read_from_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "fees.yaml"
    with pytest.raises(FeesError, match="cannot be read"):
        FeeSchedule.load(path)
    path.write_text(FILE, "utf-8")
    assert len(FeeSchedule.load(path).rules) == 4
