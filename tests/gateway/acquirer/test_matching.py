"""Matching: each kind of difference is found, named right, and adds up to what the network counts."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.acquirer.matching import Difference, DifferenceKind, Key, OwnMovement, match
from shetab.settlement_list import SIGNS, ListedMovement

DAY = date(2026, 3, 20)
NEXT = DAY + timedelta(days=1)
KEY: Key = ("M-1", "T1", "000017", "607912000017", "debit")


def listed(amount: int = 100, *, void: bool = False, key: Key = KEY) -> ListedMovement:
    merchant, terminal, stan, rrn, movement = key
    told = {"merchant": merchant, "terminal": terminal, "stan": stan, "rrn": rrn, "movement": movement}
    return ListedMovement.model_validate({**told, "amount": amount, "void": void})


def own(amount: int = 100, day: date = DAY, key: Key = KEY) -> dict[Key, OwnMovement]:
    return {key: OwnMovement(*key, amount, day)}


K = DifferenceKind
CASES = {
    "the same": ([listed()], own(), (), None),
    "void there, nothing here": ([listed(void=True)], {}, (), None),
    "void there, another day here": ([listed(void=True)], own(day=NEXT), (), None),
    "missing here": ([listed()], {}, (), Difference(K.MISSING_HERE, KEY, 100, None, 100, None, DAY)),
    "reversed here": ([listed()], {}, {KEY}, Difference(K.REVERSED_HERE, KEY, 100, None, 100, None, DAY)),
    "missing there": ([], own(), (), Difference(K.MISSING_THERE, KEY, -100, 100, None, DAY, None)),
    "reversed there": ([listed(void=True)], own(), (), Difference(K.REVERSED_THERE, KEY, -100, 100, 100, DAY, DAY)),
    "other amount": ([listed(130)], own(), (), Difference(K.OTHER_AMOUNT, KEY, 30, 100, 130, DAY, DAY)),
    "other day": ([listed()], own(day=NEXT), (), Difference(K.OTHER_DAY, KEY, 100, 100, 100, NEXT, DAY)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_movement_on_both_sides(name: str) -> None:
    theirs, ours, given_back, expected = CASES[name]
    assert match(DAY, theirs, ours, given_back) == ([] if expected is None else [expected])


def test_what_another_days_list_counts_is_told_as_another_day() -> None:
    (found,) = match(DAY, [], own(), listed_elsewhere={KEY: NEXT})
    assert (found.kind, found.own_day, found.their_day, found.excess) == (K.OTHER_DAY, DAY, NEXT, -100)


@pytest.mark.parametrize("part", range(5))
def test_every_part_of_the_key_tells_movements_apart(part: int) -> None:
    key: Key = ("M-1", "T1", "000017", "607912000017", "debit")
    others = ("M-2", "T2", "000018", "607912000018", "credit")
    other: Key = tuple(others[at] if at == part else each for at, each in enumerate(key))  # type: ignore[assignment]
    kinds = [each.kind for each in match(DAY, [listed(key=other)], own())]
    assert sorted(kinds) == [K.MISSING_HERE, K.MISSING_THERE]


MOVED = st.dictionaries(
    st.tuples(st.integers(0, 9), st.sampled_from(sorted(SIGNS))),
    st.tuples(st.integers(1, 10**9), st.sampled_from((DAY, NEXT)), st.booleans()),
    max_size=12,
)


@given(theirs=MOVED, ours=MOVED)
@settings(max_examples=80, deadline=None)
def test_with_all_differences_our_day_is_the_networks(
    theirs: dict[tuple[int, str], tuple[int, date, bool]], ours: dict[tuple[int, str], tuple[int, date, bool]]
) -> None:
    def key(number: int, movement: str) -> Key:
        return ("M-1", "T1", f"{number:06d}", f"{number:012d}", movement)

    lines = [listed(amount, void=void, key=key(*which)) for which, (amount, _, void) in theirs.items()]
    books = {key(*which): OwnMovement(*key(*which), amount, day) for which, (amount, day, _) in ours.items()}
    found = match(DAY, lines, books)
    own_net = sum(SIGNS[each.movement] * each.amount for each in books.values() if each.day == DAY)
    assert own_net + sum(each.excess for each in found) == sum(each.signed for each in lines)
