"""Two registration authorities on one PostgreSQL, each with a journal of its own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from audit import read, verify
from cps.dossier import Dossier
from ra.authority import CertificateAuthority
from ra.errors import RaError
from ra.record import Record
from ra.records import Application
from ra.states import Action, State
from runtime.problems import Problem
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office
from tests.support.databases import ra_database
from tests.support.ra_world import RaWorld, officer


@dataclass(frozen=True)
class Pair:
    """Two replicas, and the authority that both call."""

    one: RaWorld
    two: RaWorld

    @property
    def both(self) -> tuple[RaWorld, RaWorld]:
        return self.one, self.two


class Away:
    """A CA that cannot be reached, until it is `back`."""

    def __init__(self, ca: CertificateAuthority) -> None:
        self._ca = ca
        self.back = False

    def issue(self, dossier: Dossier) -> object:
        if not self.back:
            raise Problem(503, "ca-unreachable", "the certificate authority does not answer")
        return self._ca.issue(dossier)

    def __getattr__(self, name: str) -> object:
        return getattr(self._ca, name)


@pytest.fixture
def pair(tmp_path: Path, office: Office) -> Iterator[Pair]:
    ca, database = CaWorld(tmp_path, office), ra_database("postgresql", tmp_path)
    one, two = (
        RaWorld(tmp_path / name, office, ca=ca, database=database, replica=name, authority=Away)  # type: ignore[arg-type]
        for name in ("one", "two")
    )
    yield Pair(one, two)
    two.record.close()
    two.engine.dispose()
    one.close()


def ca_comes_back(pair: Pair) -> None:
    for world in pair.both:
        world.workflow.authority.back = True  # type: ignore[attr-defined]


def recorded(world: RaWorld) -> list[str]:
    """The keys of all entries of the replica's journal."""
    return [str(entry.entry["key"]) for entry in read(world.journal) if "key" in entry.entry]


def each_is_recorded_once(pair: Pair, *cases: Application) -> None:
    """Every transition of the cases has one entry in all, in the journal of the replica that made it."""
    in_one, in_two = (recorded(world) for world in pair.both)
    assert max(Counter(in_one + in_two).values()) == 1
    for case in cases:
        for each in pair.one.store.transitions(case.id):
            journal = in_one if each.replica == "one" else in_two
            assert f"transition/{each.seq}" in journal
            assert each.journal_index is not None
    for world in pair.both:
        verify(world.journal)


def at_once(*calls: Callable[[], object]) -> list[object]:
    """What the calls return or raise, begun at the same moment."""
    ready = threading.Barrier(len(calls))

    def begin(call: Callable[[], object]) -> object:
        ready.wait(timeout=20)
        try:
            return call()
        except RaError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begin, calls))


def test_a_case_is_worked_on_at_both_and_each_act_stands_in_one_journal(pair: Pair) -> None:
    ca_comes_back(pair)
    case = pair.one.open_merchant()
    pair.two.decide(case.id, "vet", pair.two.office.vetter)
    case = pair.one.decide(case.id, "approve", pair.one.office.approver)
    assert case.state is State.ISSUED
    each_is_recorded_once(pair, case)
    assert {each.replica for each in pair.two.store.transitions(case.id)} == {"one", "two"}


def test_of_two_that_decide_at_once_at_two_replicas_one_wins(pair: Pair) -> None:
    case = pair.one.open_merchant()
    office = pair.one.office
    signed = [pair.one.sign(case.id, "vet", by) for by in (office.vetter, office.vetter_2)]
    calls = [
        lambda world=world, cms=cms, by=by: world.workflow.decide(officer(by), case.id, cms)
        for world, cms, by in zip(pair.both, signed, (office.vetter, office.vetter_2), strict=True)
    ]
    answers = at_once(*calls)
    assert [isinstance(each, RaError) for each in answers].count(True) == 1
    [told] = [str(each) for each in answers if isinstance(each, RaError)]
    assert "did decide" in told
    assert [each.action for each in pair.one.store.transitions(case.id)].count(Action.DECIDE) == 1
    each_is_recorded_once(pair, case)


def test_the_clock_of_both_does_each_thing_once(pair: Pair) -> None:
    cases = [pair.one.open_merchant(merchant_id=f"M-{number}", documents=()) for number in range(6)]
    pair.one.clock.forward(timedelta(days=400))
    at_once(*(world.workflow.sweep for world in pair.both for _ in range(2)))
    for case in cases:
        actions = [each.action for each in pair.one.store.transitions(case.id)]
        assert actions.count(Action.EXPIRE) == 1
    each_is_recorded_once(pair, *cases)


def test_what_both_resume_is_certified_once(pair: Pair) -> None:
    cases = []
    for number in range(3):
        case = pair.one.open_merchant(merchant_id=f"M-{number}")
        pair.one.decide(case.id, "vet", pair.one.office.vetter)
        cases.append(pair.two.decide(case.id, "approve", pair.one.office.approver))
    assert {case.state for case in cases} == {State.ISSUING}
    ca_comes_back(pair)
    at_once(*(world.workflow.resume for world in pair.both))
    for case in cases:
        assert pair.one.store.application(case.id).state is State.ISSUED
        assert len(pair.two.store.certificates(case.id)) == 1
    each_is_recorded_once(pair, *cases)


def test_an_event_that_both_note_is_recorded_by_one(pair: Pair) -> None:
    at_once(
        *(lambda world=world: world.record.note_once("ra.revoked", "revocation/x/1", world.now) for world in pair.both)
    )
    assert Counter(recorded(pair.one) + recorded(pair.two)) == {"revocation/x/1": 1}


def test_what_a_killed_replica_left_is_recorded_by_itself_alone(pair: Pair) -> None:
    case = pair.one.workflow.open(officer(pair.one.office.vetter), "merchant")
    pair.one.record.close()  # it dies between the commit and the journal
    with pytest.raises(Exception, match=r".+"):
        pair.one.workflow.withdraw(officer(pair.one.office.vetter), case.id, "no shop after all")
    ended = pair.two.workflow.get(officer(pair.one.office.vetter), case.id)
    assert ended.state is State.WITHDRAWN  # everybody knows, and nobody else writes it down
    pair.one.clock.forward(timedelta(hours=1))
    assert [(each.replica, each.count) for each in pair.two.workflow.left_behind.left()] == [("one", 1)]
    before = len(recorded(pair.two))
    pair.two.record.catch_up()
    assert len(recorded(pair.two)) == before

    pair.one.record = Record.open(pair.one.journal, pair.one.store)  # its next start
    each_is_recorded_once(pair, ended)
    assert pair.two.workflow.left_behind.left() == []
