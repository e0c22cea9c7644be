"""The parts of `scripts/bench ra`: founding two installations takes minutes. No figure is judged here."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select

from ra import schema
from ra.queue import Wanted
from ra.queue_order import Order
from ra.states import DECIDABLE, State
from ra.store import Store
from runtime.database import open_database, reading
from scripts.benchmarks.queue_rows import fill, prefixes
from tests.support.lost_replica import draft

CASES = 3000


def test_the_long_queue_is_one_that_the_registration_authority_could_have_written(tmp_path: Path) -> None:
    engine, now = open_database(f"sqlite:///{tmp_path / 'ra.db'}"), datetime.now(UTC)
    store = Store(engine)
    store.open(draft("of the measured run"))
    *_, filled = fill(engine, CASES, now)

    assert filled == CASES
    assert store.queue.total(Wanted()) == CASES + 1
    with reading(engine) as db:
        states = db.execute(select(schema.applications.c.state, func.count()).group_by("state")).all()
    assert {State(row[0]): row[1] for row in states} == {
        state: store.queue.total(Wanted(states=[state])) for state in {State(row[0]) for row in states}
    }
    for prefix in prefixes():
        page = store.queue.page(Wanted(begins=prefix), Order.AGE)
        assert page, prefix
        assert len(store.applications_of([identifier for identifier, _place in page])) == len(page)
    waiting = store.queue.page(Wanted(roles=["vetting_officer"]))
    assert {store.application(identifier).state for identifier, _place in waiting} <= DECIDABLE
    assert store.due(now) == []  # the clock has nothing to do while pages are measured
    engine.dispose()
