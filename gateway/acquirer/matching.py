"""The network's list of a business day against our own movements, one by one. Pure.

Movements are the same if merchant, terminal (DE 41), STAN (DE 11), RRN (DE 37) and the way the money went are. What
then is not the same on both sides is a difference:

| kind           | with us                | in the network's list      |
| -------------- | ---------------------- | -------------------------- |
| missing_here   | –                      | counted                    |
| reversed_here  | an order given back    | counted                    |
| missing_there  | counted in this day    | –                          |
| reversed_there | counted                | void                       |
| other_amount   | counted                | counted, another amount    |
| other_day      | counted in another day | counted in this day        |
| other_day      | counted in this day    | counted in another day     |

`excess` is what the network pays for the movement in this day beyond what our books say of this day: with all of them
added our totals are the network's, or something was not found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from shetab.settlement_list import SIGNS, ListedMovement

Key = tuple[str, str, str, str, str]


class DifferenceKind(StrEnum):
    """See the module; the value is what the database holds."""

    MISSING_HERE = "missing_here"
    REVERSED_HERE = "reversed_here"
    MISSING_THERE = "missing_there"
    REVERSED_THERE = "reversed_there"
    OTHER_AMOUNT = "other_amount"
    OTHER_DAY = "other_day"


@dataclass(frozen=True, slots=True)
class OwnMovement:
    """A movement in our books, `amount` in rial, with the day that it counts in."""

    merchant_id: str
    terminal_id: str
    stan: str
    rrn: str
    movement: str
    amount: int
    day: date

    @property
    def key(self) -> Key:
        return self.merchant_id, self.terminal_id, self.stan, self.rrn, self.movement


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference of a day. Amounts in rial; those of a side that does not have the movement are None."""

    kind: DifferenceKind
    key: Key
    excess_amount: int
    """What the network counts of it in this day beyond our books of this day, before the sign of the movement."""
    own_amount: int | None = None
    their_amount: int | None = None
    own_day: date | None = None
    their_day: date | None = None

    @property
    def movement(self) -> str:
        """Which way the money went: debit, debit_reversal, credit or credit_reversal."""
        return self.key[4]

    @property
    def excess(self) -> int:
        """As `excess_amount`, signed as the acquirer's net."""
        return SIGNS[self.movement] * self.excess_amount


def match(
    day: date,
    listed: Iterable[ListedMovement],
    own: Mapping[Key, OwnMovement],
    given_back: Collection[Key] = (),
    listed_elsewhere: Mapping[Key, date] | None = None,
) -> list[Difference]:
    """Every difference of a day, ordered by movement.

    :param own: our movements of the day, and those of other days that the list names.
    :param given_back: sales that we have given back, whatever became of that.
    :param listed_elsewhere: movements that lists of other days count.
    """
    theirs = {each.key: each for each in listed}
    found = [_of_listed(day, each, own.get(key), key in given_back) for key, each in theirs.items()]
    ours = [each for key, each in own.items() if each.day == day and key not in theirs]
    found += [_of_ours(each, (listed_elsewhere or {}).get(each.key)) for each in ours]
    return sorted((each for each in found if each is not None), key=lambda each: each.key)


def _of_listed(day: date, listed: ListedMovement, ours: OwnMovement | None, was_given_back: bool) -> Difference | None:
    kinds, key, amount = DifferenceKind, listed.key, listed.amount
    if ours is None:
        if listed.void:
            return None
        kind = kinds.REVERSED_HERE if was_given_back else kinds.MISSING_HERE
        return Difference(kind, key, amount, their_amount=amount, their_day=day)
    if listed.void:
        if ours.day != day:  # missing there, in the list of our day
            return None
        return Difference(kinds.REVERSED_THERE, key, -ours.amount, ours.amount, amount, ours.day, day)
    if ours.day != day:
        return Difference(kinds.OTHER_DAY, key, amount, ours.amount, amount, ours.day, day)
    if ours.amount != amount:
        return Difference(kinds.OTHER_AMOUNT, key, amount - ours.amount, ours.amount, amount, ours.day, day)
    return None


def _of_ours(ours: OwnMovement, their_day: date | None) -> Difference:
    """A movement of ours that the list of our day does not name."""
    kind = DifferenceKind.MISSING_THERE if their_day is None else DifferenceKind.OTHER_DAY
    return Difference(kind, ours.key, -ours.amount, ours.amount, None, ours.day, their_day)
