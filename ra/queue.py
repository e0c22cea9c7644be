"""The queue: which cases there are, what each waits for, how many, and what is late; cheap however many are stored.

A page is taken from an index in the order in which it is shown, in each cell that is asked for (`ra.schema`), and goes
on where the one before ended, by the position of its last case: nothing is counted off, so the thousandth page costs
what the first does, and a case that comes or goes meanwhile shifts no other. Totals are sums over cells.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    bindparam,
    case,
    func,
    select,
    text,
    update,
)

from cps.model import MemberClass
from ra import schema
from ra.errors import InvalidSubmissionError
from ra.queue_order import Order
from ra.states import DECIDABLE, DECIDING, State
from runtime.columns import as_stored
from runtime.database import insert_new, reading

_MOST_COUNTED: Final = 1000
_LAST: Final = "\U0010ffff"  # sorts after whatever begins alike
_AT_ONCE: Final = 100  # cells of one statement
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which cases: all of these properties, and one of the values of each; an empty collection asks for nothing.

    `steps` and `roles` are what a case waits for (`ra.waiting`); `held` says whether somebody holds one of these roles
    for that class.
    `overdue` at that instant: not decided by the time that the CPS sets.
    `begins`: the beginning of the subject's id or of the organisation.
    """

    states: Collection[State] = ()
    classes: Collection[MemberClass] = ()
    steps: Collection[str] = ()
    roles: Collection[str] = ()
    held: Callable[[Collection[str], MemberClass], bool] | None = None
    overdue: datetime | None = None
    begins: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """Cases that are alike in the queue, and how many they are."""

    id: int
    state: State
    member_class: MemberClass
    step: str
    waiting_for: tuple[str, ...]
    cases: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a case stands in the order of a page; `text` is how callers carry it."""

    key: str
    id: str

    @property
    def text(self) -> str:
        """The place as opaque text."""
        return base64.urlsafe_b64encode(json.dumps([self.key, self.id]).encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Place:
        """The place that `text` tells; raises InvalidSubmissionError for what is none."""
        try:
            told = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            key, identifier = msgspec.json.decode(told, type=tuple[str, str])
        except ValueError:  # it is no base64, no JSON, or not two texts; it is not decoded further than that
            raise InvalidSubmissionError("this is not where a page ended") from None
        if "\0" in key + identifier:
            raise InvalidSubmissionError("this is not where a page ended")
        return cls(key, identifier)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Cases that wait for one step; `oldest` is when the first of them was opened, `late` how many are overdue."""

    step: str
    member_class: MemberClass
    roles: tuple[str, ...]
    cases: int
    oldest: datetime
    late: int

    def __add__(self, other: Waiting) -> Waiting:
        oldest = min(self.oldest, other.oldest)
        return replace(self, cases=self.cases + other.cases, oldest=oldest, late=self.late + other.late)


@dataclass(frozen=True, slots=True)
class Statistics:
    """The queue at one instant.

    `states`: how many cases are in each state, by class. `ages`: how many cases that wait for people are younger than
    each limit and in none before; None for the rest. `late`: cases that should be decided by now (CPS 4.2.3),
    `next_day` those whose time ends within a day. `rejections`: how many cases officers rejected, by code and class.
    """

    at: datetime
    states: dict[tuple[State, MemberClass], int]
    waiting: tuple[Waiting, ...]
    ages: tuple[tuple[timedelta | None, int], ...]
    late: int
    next_day: int
    rejections: dict[tuple[str, MemberClass], int]


AGES: Final = tuple(timedelta(hours=hours) for hours in (1, 4, 24, 72, 168))
"""Limits of the distribution of ages."""


class Queue:
    """The queue of one registration authority's database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(
        self, wanted: Wanted, order: Order = Order.URGENCY, *, after: Place | None = None, limit: int = 50
    ) -> list[tuple[str, Place]]:
        """The next cases (their ids) with the place of each, `limit` at most."""
        with reading(self._engine) as db:
            return page(db, wanted, order, after, limit)

    def total(self, wanted: Wanted) -> int | None:
        """How many cases there are; None: more than 1 000 of those that have to be looked for one by one."""
        with reading(self._engine) as db:
            return total(db, wanted)

    def statistics(self, now: datetime) -> Statistics:
        """What waits for whom, how long, and what is late."""
        with reading(self._engine) as db:
            return _statistics(db, now)


def page(db: Connection, wanted: Wanted, order: Order, after: Place | None, limit: int) -> list[tuple[str, Place]]:
    """As `Queue.page`, in the transaction of `db`."""
    newest = order is Order.NEWEST and not wanted.begins
    cells = [cell.id for cell in _cells(db, wanted)]
    values = _values(wanted, after) | {"most": limit}
    found: list[tuple[str, str]] = []
    lateral = db.dialect.name == "postgresql"
    for start in range(0, len(cells), _AT_ONCE):
        of = cells[start : start + _AT_ONCE]
        ranges = [
            _range(cell, key, wanted, beyond=after is not None, newest=newest)
            for cell in (["one.cell"] if lateral else map(str, of))
            for key in _keys(wanted, order)
        ]
        if lateral:
            ranges, values["cells"] = [_of_each_cell(each) for each in ranges], of
        parts = " UNION ALL ".join(f"SELECT * FROM ({each}) AS of_{place}" for place, each in enumerate(ranges))  # noqa: S608
        rows = f"SELECT place, id FROM ({parts}) AS found {_sorted('place', newest=newest)}"  # noqa: S608
        found += [(row.place, row.id) for row in db.execute(text(rows), values)]
    found.sort(reverse=newest)
    return [(identifier, Place(key, identifier)) for key, identifier in found[:limit]]


def total(db: Connection, wanted: Wanted) -> int | None:
    """As `Queue.total`, in the transaction of `db`."""
    cells = _cells(db, wanted)
    if wanted.overdue is None and not wanted.begins:
        return sum(cell.cases for cell in cells)
    counted, values = 0, _values(wanted, None)
    if db.dialect.name == "postgresql":
        values |= {"most": _MOST_COUNTED + 1, "cells": [cell.id for cell in cells]}
        ranges = [_range("one.cell", key, wanted, beyond=False, newest=False) for key in _keys(wanted, Order.URGENCY)]
        parts = " UNION ALL ".join(f"({_of_each_cell(each)})" for each in ranges)
        found = f"SELECT count(*) FROM (SELECT 1 FROM ({parts}) AS parts LIMIT :most) AS found"  # noqa: S608
        counted = db.execute(text(found), values).scalar_one()
        return counted if counted <= _MOST_COUNTED else None
    for cell in cells:
        for key in _keys(wanted, Order.URGENCY):
            values["most"] = _MOST_COUNTED + 1 - counted
            rows = _range(str(cell.id), key, wanted, beyond=False, newest=False)
            counted += db.execute(text(f"SELECT count(*) FROM ({rows}) AS found"), values).scalar_one()  # noqa: S608
            if counted > _MOST_COUNTED:
                return None
    return counted


def move(db: Connection, before: int | None, after: int) -> None:
    """Note that a case has come into the cell `after`, from the cell `before` if it was in one."""
    steps = {after: 1} if before is None else {} if before == after else {before: -1, after: 1}
    for cell in sorted(steps):  # in one order, or two transactions would wait for each other
        db.execute(_MOVE, {"cell": cell, "more": steps[cell]})


def cell_of(db: Connection, state: str, member_class: str, step: str | None, waiting_for: str | None) -> int:
    """The number of the cell of such cases, which is made if there is none yet."""
    values = {"state": state, "member_class": member_class, "step": step or "", "waiting_for": waiting_for or ""}
    while (found := db.execute(_CELL, values).scalar_one_or_none()) is None:
        insert_new(db, schema.queue_cells, **values, cases=0)
    return int(found)


# Composed once: every change of a case needs them.
_CELL: Final = select(schema.queue_cells.c.id).where(
    *(schema.queue_cells.c[name] == bindparam(name) for name in ("state", "member_class", "step", "waiting_for"))
)
_MOVE: Final = (
    update(schema.queue_cells)
    .where(schema.queue_cells.c.id == bindparam("cell"))
    .values(cases=schema.queue_cells.c.cases + bindparam("more"))
)


def _cells(db: Connection, wanted: Wanted) -> list[Cell]:
    """The cells whose cases can be wanted."""
    table = schema.queue_cells
    query = select(table).where(table.c.cases > 0).order_by(table.c.id)
    if wanted.states:
        query = query.where(table.c.state.in_([str(state) for state in wanted.states]))
    if wanted.classes:
        query = query.where(table.c.member_class.in_(wanted.classes))
    if wanted.steps:
        query = query.where(table.c.step.in_(wanted.steps))
    if wanted.overdue is not None:
        query = query.where(table.c.state.in_([str(state) for state in DECIDING]))
    cells = [
        Cell(row.id, State(row.state), row.member_class, row.step, tuple(row.waiting_for.split()), row.cases)
        for row in db.execute(query)
    ]
    return [
        cell
        for cell in cells
        if (not wanted.roles or not set(wanted.roles).isdisjoint(cell.waiting_for))
        and (wanted.held is None or wanted.held(cell.waiting_for, cell.member_class))
    ]


# The statement of a page has a part for each cell. It is put together as text, from names of our own and numbers: to
# have it composed from expressions would take longer than to run it. Whatever callers say is a value beside it.


def _keys(wanted: Wanted, order: Order) -> tuple[str, ...]:
    """The columns that a page is sorted by; one that searches two has two ranges in each cell."""
    if wanted.begins:
        return ("subject_id", "organisation")
    return ("urgent_at" if order is Order.URGENCY else "opened_at",)


def _of_each_cell(part: str) -> str:
    """On PostgreSQL: `part` for every cell of `:cells`, planned once: planning it for each took longer than running."""
    return f"SELECT each.* FROM unnest(:cells) AS one(cell) CROSS JOIN LATERAL ({part}) AS each"  # noqa: S608


def _range(cell: str, key: str, wanted: Wanted, *, beyond: bool, newest: bool) -> str:
    """Cases of a cell in the order of a column, beyond a place; `place` and `id` alone, which an index holds.

    :param cell: its number, or the column of another table that has it.
    """
    conditions = [f"applications.cell = {cell}"]
    if wanted.begins:
        conditions.append(f"{key} >= :begins AND {key} < :last")
        if key == "organisation":  # what is found by both is shown once
            conditions.append("(subject_id IS NULL OR NOT (subject_id >= :begins AND subject_id < :last))")
    if wanted.overdue is not None:
        conditions.append("urgent_at <= :overdue")
    if beyond:
        conditions.append(f"({key}, id) {'<' if newest else '>'} (:after_key, :after_id)")
    where = " AND ".join(conditions)
    return f"SELECT {key} AS place, id FROM applications WHERE {where} {_sorted(key, newest=newest)}"  # noqa: S608


def _sorted(key: str, *, newest: bool) -> str:
    return f"ORDER BY {key} DESC, id DESC LIMIT :most" if newest else f"ORDER BY {key}, id LIMIT :most"


def _values(wanted: Wanted, after: Place | None) -> dict[str, object]:
    values: dict[str, object] = {}
    if wanted.begins:
        values |= {"begins": wanted.begins, "last": wanted.begins + _LAST}
    if wanted.overdue is not None:
        values["overdue"] = as_stored(wanted.overdue)
    if after is not None:
        values |= {"after_key": after.key, "after_id": after.id}
    return values


def _statistics(db: Connection, now: datetime) -> Statistics:
    table = schema.applications.c
    cells = _cells(db, Wanted())
    states: dict[tuple[State, MemberClass], int] = {}
    for cell in cells:
        at = (cell.state, cell.member_class)
        states[at] = states.get(at, 0) + cell.cases
    waiting: dict[tuple[str, MemberClass, tuple[str, ...]], Waiting] = {}
    ages, late, next_day = [0] * (len(AGES) + 1), 0, 0
    deciding = {cell.id: cell for cell in cells if cell.state in DECIDING}
    counts = select(
        table.cell,
        func.min(table.opened_at).label("oldest"),
        _number(table.urgent_at <= now).label("late"),
        _number(table.urgent_at <= now + _DAY).label("next_day"),
        *(_number(table.opened_at > now - limit).label(f"younger_{place}") for place, limit in enumerate(AGES)),
    )
    for row in db.execute(counts.where(table.cell.in_(deciding)).group_by(table.cell)):
        cell = deciding[row.cell]
        late += row.late
        next_day += row.next_day - row.late
        if cell.state not in DECIDABLE:
            continue
        younger = [getattr(row, f"younger_{place}") for place in range(len(AGES))]
        for place, (fewer, count) in enumerate(zip((0, *younger), (*younger, cell.cases), strict=True)):
            ages[place] += count - fewer
        more = Waiting(cell.step, cell.member_class, cell.waiting_for, cell.cases, row.oldest, row.late)
        found = waiting.get(key := (cell.step, cell.member_class, cell.waiting_for))
        waiting[key] = more if found is None else found + more
    limits = (*AGES, None)
    by_count = sorted(waiting.values(), key=lambda each: (-each.cases, each.step, each.member_class))
    return Statistics(
        at=now,
        states=states,
        waiting=tuple(by_count),
        ages=tuple(zip(limits, ages, strict=True)),
        late=late,
        next_day=next_day,
        rejections=_rejections(db),
    )


def _rejections(db: Connection) -> dict[tuple[str, MemberClass], int]:
    table = schema.applications.c
    counted = select(table.rejected_for, table.member_class, func.count().label("cases"))
    query = counted.where(table.rejected_for.is_not(None)).group_by(table.rejected_for, table.member_class)
    return {(row.rejected_for, row.member_class): row.cases for row in db.execute(query)}


def _number(wanted: ColumnElement[bool]) -> ColumnElement[int]:
    """How many rows of a group are wanted."""
    return func.sum(case((wanted, 1), else_=0))
