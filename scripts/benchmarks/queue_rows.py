"""A registration authority's database with many cases, most of them ended long ago, as years of service leave it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

from sqlalchemy import Engine, insert, update

from cps.model import MemberClass
from ra import schema
from ra.database import bring_up_to_date
from ra.queue import cell_of
from ra.states import State

_AT_ONCE: Final = 20_000
_OPEN: Final = 0.05  # share of cases
_CLASSES: Final[tuple[MemberClass, ...]] = ("merchant", "cardholder", "gateway", "officer")
_ENDED: Final = (*[State.ACTIVE] * 16, State.REVOKED, State.EXPIRED, State.REJECTED, State.WITHDRAWN, State.ISSUED)
_UNDER_WAY: Final = (*[State.VETTING] * 4, *[State.AWAITING_APPROVAL] * 4, State.RETURNED, State.ON_HOLD, State.DRAFT)
_STEPS: Final = {
    State.VETTING: ("vet", "vetting_officer"),
    State.AWAITING_APPROVAL: ("approve", "approving_officer"),
}
_YEARS: Final = timedelta(days=7 * 365)
_FORTNIGHT: Final = timedelta(days=14)

_Cell = tuple[State, MemberClass, str | None, str | None]


def fill(engine: Engine, count: int, now: datetime) -> Iterator[int]:
    """Store so many cases beside those that are there, and say from time to time how many they are already.

    Rows alone, without what is on file of each.
    """
    bring_up_to_date(engine)
    random, counted = Random(1), Counter[int]()  # noqa: S311  # the same rows each time
    cells: dict[_Cell, int] = {}
    for start in range(0, count, _AT_ONCE):
        with engine.begin() as db:
            rows = []
            for number in range(start, min(count, start + _AT_ONCE)):
                case, of = _case(random, number, now)
                if of not in cells:
                    cells[of] = cell_of(db, *of)
                counted[cells[of]] += 1
                rows.append({**case, "cell": cells[of]})
            db.execute(insert(schema.applications), rows)
        yield start + len(rows)
    table = schema.queue_cells
    with engine.begin() as db:
        for cell, cases in counted.items():
            db.execute(update(table).where(table.c.id == cell).values(cases=table.c.cases + cases))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        db.exec_driver_sql("ANALYZE")


def prefixes() -> Iterator[str]:
    """Beginnings of names that there are, of few cases and of many."""
    yield from ("M-123", "M-5", "Company 12", "M")


def _case(random: Random, number: int, now: datetime) -> tuple[dict[str, Any], _Cell]:
    under_way = random.random() < _OPEN
    state = random.choice(_UNDER_WAY if under_way else _ENDED)
    member_class = random.choice(_CLASSES)
    step, waiting_for = _STEPS.get(state, (None, None))
    opened = now - (_FORTNIGHT if under_way else _YEARS) * random.random()
    decide_by = None if state is State.DRAFT else opened + timedelta(days=5)
    row = {
        "id": f"{number * 2_654_435_761 % 2**32:032x}",
        "member_class": member_class,
        "state": str(state),
        "version": 3,
        "opened_by": "service:operator",
        "opened_at": opened,
        "due_from": opened,
        "due_at": opened + timedelta(days=30),
        "due_warned": 0,
        "decide_from": opened,
        "decide_by": decide_by,
        "decide_warned": 0,
        "step": step,
        "waiting_for": waiting_for,
        "missing": None if step is None else 1,
        "subject_id": f"M-{number}",
        "organisation": f"Company {number % 5000}",
        "revision": 1,
        "urgent_at": decide_by or opened + timedelta(days=30),
    }
    return row, (state, member_class, step, waiting_for)
