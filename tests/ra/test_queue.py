"""The queue: pages as one would sort and cut them by hand, figures as one would count, and rows as the CPS says."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import func, select

from ra import schema
from ra.errors import InvalidSubmissionError, RaError
from ra.queue import AGES, Place, Wanted
from ra.queue_order import Order
from ra.records import Application, Change, Passage
from ra.states import DECIDABLE, DECIDING, Action, State
from ra.store import Store
from ra.submission import Submission
from ra.waiting import waits_for
from runtime.database import open_database, reading
from tests.support.cps_cases import Office, csr
from tests.support.databases import DATABASES, ra_database
from tests.support.pki_factory import p256
from tests.support.ra_world import DOCUMENTS, OPERATOR, RaWorld, merchant_subject, officer

NOW = datetime.fromisoformat("2027-03-01T09:00:00Z")
WAITING = {
    "vet": "vetting_officer",
    "approve": "approving_officer",
    "sponsor": "security_officer approving_officer",
}


@pytest.fixture(params=DATABASES, scope="module")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    engine = open_database(ra_database(request.param, tmp_path_factory.mktemp("queue")))
    yield Store(engine)
    engine.dispose()


@pytest.fixture(scope="module")
def cases(store: Store) -> list[Application]:
    """Some hundred cases in all states; many were opened at the same moment."""
    random = Random(7)
    return [_some_case(store, random, number) for number in range(240)]


def _some_case(store: Store, random: Random, number: int) -> Application:
    state = random.choice([*State, State.VETTING, State.AWAITING_APPROVAL])
    step = random.choice(list(WAITING)) if state in DECIDABLE else None
    opened = NOW - timedelta(hours=random.choice([0, 0, 2, 5, 30, 100, 300]))
    submitted = state is not State.DRAFT
    subject = random.choice(["M-1", "M-10", "M_2", "a%", "Z", "پذیرنده"]) + str(random.randrange(9))
    return store.open(
        Application(
            id=f"{random.getrandbits(128):032x}",
            member_class=random.choice(["merchant", "gateway"]),
            state=state,
            version=1,
            opened_by="service:operator",
            opened_at=opened,
            due_from=opened,
            due_at=opened + timedelta(days=14),
            nonce_cca=None,
            national_code=None,
            subject_id=subject if submitted else None,
            organisation=random.choice(["Acme", "M-1 Holding", None]) if submitted else None,
            revision=None,
            trouble=None,
            decide_from=opened if submitted else None,
            decide_by=opened + timedelta(hours=number % 90) if submitted else None,
            step=step,
            waiting_for=None if step is None else WAITING[step],
            missing=None if step is None else 1,
        )
    )


WANTED = [
    pytest.param(Wanted(), id="all"),
    pytest.param(Wanted(states=[State.VETTING, State.ISSUED]), id="states"),
    pytest.param(Wanted(classes=["gateway"]), id="class"),
    pytest.param(Wanted(roles=["approving_officer"]), id="role"),
    pytest.param(Wanted(held=lambda roles, of: "vetting_officer" in roles and of == "merchant"), id="mine"),
    pytest.param(Wanted(overdue=NOW), id="overdue"),
    pytest.param(Wanted(overdue=NOW, roles=["vetting_officer"], classes=["merchant"]), id="overdue-role-class"),
    pytest.param(Wanted(begins="M-1"), id="subject-or-organisation"),
    pytest.param(Wanted(begins="M_"), id="no-wildcard"),
    pytest.param(Wanted(begins="پذ", states=[State.VETTING, State.EXPIRED, State.ACTIVE]), id="persian-and-states"),
    pytest.param(Wanted(begins="none of them"), id="nothing"),
]


def by_hand(cases: list[Application], wanted: Wanted, order: Order) -> list[str]:
    """The ids of the wanted cases in order, in the most obvious way."""
    found = []
    for case in cases:
        roles = (case.waiting_for or "").split()
        names = [name for name in (case.subject_id, case.organisation) if name and name.startswith(wanted.begins)]
        late = case.state in DECIDING and wanted.overdue is not None and case.urgent_at <= wanted.overdue
        if (
            (not wanted.states or case.state in wanted.states)
            and (not wanted.classes or case.member_class in wanted.classes)
            and (not wanted.roles or set(wanted.roles) & set(roles))
            and (wanted.held is None or wanted.held(roles, case.member_class))
            and (wanted.overdue is None or late)
            and (not wanted.begins or names)
        ):
            time = case.urgent_at if order is Order.URGENCY else case.opened_at
            found.append((names[0] if wanted.begins else time.isoformat(), case.id))
    return [identifier for _key, identifier in sorted(found, reverse=order is Order.NEWEST and not wanted.begins)]


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("wanted", WANTED)
def test_pages_together_are_what_one_would_sort_by_hand(
    store: Store, cases: list[Application], wanted: Wanted, order: Order
) -> None:
    found: list[str] = []
    after: Place | None = None
    while page := store.queue.page(wanted, order, after=after, limit=7):
        found += [identifier for identifier, _place in page]
        after = Place.read(page[-1][1].text)
    assert found == by_hand(cases, wanted, order)
    assert store.queue.total(wanted) == len(found)


def test_a_case_that_goes_meanwhile_shifts_no_other(store: Store, cases: list[Application]) -> None:
    wanted = Wanted(states=[State.VETTING])
    first = store.queue.page(wanted, limit=5)
    rest = [identifier for identifier, _place in store.queue.page(wanted, after=first[-1][1], limit=200)]
    gone = store.application(first[0][0])
    withdrawn = store.change(gone, [Passage(Action.WITHDRAW, State.WITHDRAWN)], actor="a", now=NOW)
    assert [each for each, _place in store.queue.page(wanted, after=first[-1][1], limit=200)] == rest
    cases[[each.id for each in cases].index(gone.id)] = withdrawn


@pytest.mark.parametrize("text", ["", "?", "W10", "WzEsMl0", "e30", "bnVsbA", "WyJcdTAwMDAiLCJhIl0"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidSubmissionError, match="not where a page ended"):
        Place.read(text)


def test_figures_are_what_one_would_count_by_hand(store: Store, cases: list[Application]) -> None:
    figures = store.statistics(NOW)
    assert figures.states == Counter((case.state, case.member_class) for case in cases)
    waiting = [case for case in cases if case.state in DECIDABLE]
    counted = Counter((case.step, case.member_class) for case in waiting)
    assert {(each.step, each.member_class): each.cases for each in figures.waiting} == counted
    for each in figures.waiting:
        alike = [case for case in waiting if (case.step, case.member_class) == (each.step, each.member_class)]
        assert each.oldest == min(case.opened_at for case in alike)
        assert each.late == sum(case.urgent_at <= NOW for case in alike)
    bounds = [timedelta(0), *AGES]
    expected = [
        sum(low <= NOW - case.opened_at < high for case in waiting) for low, high in zip(bounds, AGES, strict=False)
    ]
    expected.append(sum(NOW - case.opened_at >= AGES[-1] for case in waiting))
    assert [count for _limit, count in figures.ages] == expected
    deciding = [case for case in cases if case.state in DECIDING]
    assert figures.late == sum(case.urgent_at <= NOW for case in deciding)
    assert figures.next_day == sum(NOW < case.urgent_at <= NOW + timedelta(days=1) for case in deciding)


# the rows and what the CPS says


@pytest.mark.parametrize("seed", range(3))
def test_after_any_history_every_row_shows_what_the_cps_says(tmp_path: Path, office: Office, seed: int) -> None:
    """Decisions, evidence, holds, amendments, and the clock: whatever happened, list and judgement agree."""
    world = RaWorld(tmp_path, office)
    random = Random(seed)
    try:
        open_cases = [world.open_merchant(merchant_id=f"M-{number}", documents=()) for number in range(3)]
        for _ in range(24):
            _act(world, random, random.choice(open_cases).id)
            world.workflow.sweep()
            _agree(world)
        assert {each.action for case in open_cases for each in world.store.transitions(case.id)} >= {Action.RECORD}
    finally:
        world.close()


def _act(world: RaWorld, random: Random, case: str) -> None:
    office, flow = world.office, world.workflow
    vetter, approver = officer(office.vetter), officer(office.approver)
    acts = [
        lambda: world.add_document(case, random.choice(DOCUMENTS)),
        lambda: world.add_document(case, random.choice(DOCUMENTS)),
        lambda: world.decide(case, "vet", random.choice([office.vetter, office.vetter_2])),
        lambda: world.decide(case, "approve", random.choice([office.approver, office.approver_2])),
        lambda: flow.hold(vetter, case, "to be looked at"),
        lambda: flow.release(approver, case, "looked at"),
        lambda: flow.send_back(vetter, case, "another name"),
        lambda: flow.amend(OPERATOR, case, Submission(merchant_subject(), {"signing": csr(p256())})),
        lambda: world.clock.forward(timedelta(days=random.choice([1, 3, 6]))),
    ]
    with contextlib.suppress(RaError):  # not now: that, too, leaves the rows as the CPS says
        random.choice(acts)()


def _agree(world: RaWorld) -> None:
    for row in world.store.applications():
        shown = (row.step, row.waiting_for, row.missing)
        if row.state not in DECIDABLE:
            assert shown == (None, None, None)
            continue
        step = waits_for(world.workflow.judge(world.workflow.dossier(row)))
        assert shown == ((None, None, None) if step is None else (step.name, " ".join(step.by), step.missing))
    cells = schema.queue_cells.c
    with reading(world.engine) as db:
        stated = {row.id: row.cases for row in db.execute(select(cells.id, cells.cases)) if row.cases}
        table = schema.applications.c
        counted = {row[0]: row[1] for row in db.execute(select(table.cell, func.count()).group_by(table.cell))}
        alike = db.execute(
            select(func.count())
            .select_from(schema.applications.join(schema.queue_cells, table.cell == cells.id))
            .where(table.state == cells.state, func.coalesce(table.step, "") == cells.step)
        ).scalar_one()
    assert (stated, alike) == (counted, sum(counted.values()))


def test_a_change_that_fails_leaves_the_figures_as_they_were(store: Store, cases: list[Application]) -> None:
    case = next(each for each in cases if each.state is State.VETTING)
    before = store.statistics(NOW).states

    def fail(_db: object) -> None:
        raise RuntimeError(os.strerror(28))

    with pytest.raises(RuntimeError):
        store.change(case, [Passage(Action.EXPIRE, State.EXPIRED)], actor="a", now=NOW, change=Change(also=fail))
    with pytest.raises(RaError):
        stale = replace(case, version=case.version - 1)
        store.change(stale, [Passage(Action.EXPIRE, State.EXPIRED)], actor="a", now=NOW)
    assert store.statistics(NOW).states == before
