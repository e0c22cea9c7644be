"""Many cases through issuance together: what is wrong with one concerns no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ca.cases import Case, Issued
from ca.errors import (
    ClockError,
    CompareError,
    InProgressError,
    KeyRefusedError,
    NotApprovedError,
    SigningRefusedError,
    TokenUnavailableError,
)
from ca.gathering import Gathering
from ca.signing import MOST_TOGETHER, sign_certificates
from cps.dossier import Dossier
from runtime.problems import Problem
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import DAY, Office
from tests.support.many_cases import merchant_cases


@pytest.fixture(scope="module")
def office() -> Office:
    return Office()


@pytest.fixture(scope="module")
def cases(office: Office) -> list[Dossier]:
    return merchant_cases(office, 12)


@pytest.fixture
def world(tmp_path: Path, office: Office) -> Iterator[CaWorld]:
    made = CaWorld(tmp_path, office)
    yield made
    made.close()


class Between:
    """A token boundary that answers otherwise for some of what is asked of it together."""

    def __init__(self, keys: Any, change: dict[int, Any]) -> None:
        self._keys = keys
        self.change = change
        self.asked: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._keys, name)

    def sign_certificates(self, name: str, items: Sequence[tuple[bytes, bytes]], crls: Sequence[bytes]) -> list[Any]:
        self.asked.append(len(items))
        answers: list[Any] = self._keys.sign_certificates(name, items, crls)
        return [self.change.get(place, answer) for place, answer in enumerate(answers)]


def kinds(answers: Sequence[Issued]) -> list[type]:
    return [type(answer) for answer in answers]


def test_each_of_many_cases_has_its_certificate_in_the_order_of_the_cases(world: CaWorld, cases: list[Dossier]) -> None:
    answers = world.authority.issuance.issue_many(cases)

    for case, answer in zip(cases, answers, strict=True):
        assert isinstance(answer, dict)
        assert answer["signing"].identity == f"urn:kwbp:merchant:{case.revision.subject.merchant_id}"  # type: ignore[union-attr]
    assert world.authority.issuance.issue_many(cases) == answers
    assert world.authority.issuance.issue(cases[3]) == answers[3]


def test_hostile_cases_among_good_ones_are_refused_each_for_itself(
    world: CaWorld, office: Office, cases: list[Dossier]
) -> None:
    undecided = cases[1].model_copy(update={"decisions": ()})
    swapped = cases[2].model_copy(update={"csrs": cases[3].csrs})
    another = office.merchant_case(
        dict(cases[4].csrs), subject=cases[4].revision.subject, application_id="another-case"
    )
    same_key = office.decided(office.decided(another, "vet", office.vetter), "approve", office.approver)

    answers = world.authority.issuance.issue_many([cases[0], undecided, swapped, cases[4], same_key, cases[5]])

    assert kinds(answers) == [dict, NotApprovedError, NotApprovedError, dict, KeyRefusedError, dict]
    assert world.authority.store.unfinished() == []
    assert isinstance(world.authority.issuance.issue_many([cases[1]])[0], dict)


def test_of_two_dossiers_of_one_revision_the_second_is_asked_after_the_first(
    world: CaWorld, cases: list[Dossier]
) -> None:
    undecided = cases[0].model_copy(update={"decisions": ()})

    answers = world.authority.issuance.issue_many([undecided, cases[0], cases[0]])

    assert kinds(answers) == [NotApprovedError, dict, dict]
    assert answers[1] == answers[2]


def test_what_the_token_refuses_or_gets_wrong_ends_that_intent_alone(
    tmp_path: Path, office: Office, cases: list[Dossier]
) -> None:
    between: list[Between] = []

    def signer(keys: Any) -> Any:
        between.append(
            Between(keys, {1: Problem(422, "not-approved", "no"), 2: b"\x30\x00", 3: Problem(503, "b", "c")})
        )
        return between[0]

    world = CaWorld(tmp_path, office, signer=signer)
    answers = world.authority.issuance.issue_many(cases[:5])

    assert kinds(answers) == [dict, SigningRefusedError, CompareError, TokenUnavailableError, dict]
    [still_open] = world.authority.store.unfinished()
    assert still_open.revision_digest == cases[3].revision.digest.hex()
    revoked = [change for change in world.authority.store.status.unpublished() if change.state == "revoked"]
    assert revoked == []  # what may have been signed is on a list already
    between[0].change = {}
    again = world.authority.issuance.issue_many(cases[:5])
    assert kinds(again) == [dict] * 5
    assert (again[0], again[4]) == (answers[0], answers[4])
    world.close()


def test_what_concerns_all_is_told_to_all_and_nothing_is_half_done(world: CaWorld, cases: list[Dossier]) -> None:
    world.clock.forward(DAY / 24)
    world.authority.issuance.issue(cases[0])
    world.clock.forward(-DAY / 24)

    assert kinds(world.authority.issuance.issue_many(cases[1:4])) == [ClockError] * 3

    assert world.authority.store.unfinished() == []


def test_many_are_asked_for_in_parts_that_the_service_takes(world: CaWorld) -> None:
    between = Between(world.keys, {})
    key = world.authority.hierarchy["merchant-ca"].issuer.public_key

    answers = sign_certificates(between, "merchant-ca", [(b"\x30\x00", b"d")] * (2 * MOST_TOGETHER + 1), key, ())

    assert between.asked == [MOST_TOGETHER, MOST_TOGETHER]  # and one alone
    assert kinds(answers) == [CompareError] * (2 * MOST_TOGETHER + 1)  # type: ignore[arg-type]
    between.asked.clear()
    sign_certificates(between, "merchant-ca", [(b"\x30\x00", bytes(1024 * 1024))] * 5, key, ())
    assert between.asked == [2, 2]


def test_requests_that_come_together_are_issued_together_and_each_has_its_own_answer(
    world: CaWorld, cases: list[Dossier]
) -> None:
    groups: list[int] = []
    began, gate = threading.Event(), threading.Event()

    def issue_many(dossiers: Sequence[Dossier]) -> list[Issued]:
        groups.append(len(dossiers))
        began.set()
        gate.wait(30)
        return world.authority.issuance.issue_many(dossiers)

    gathering = Gathering(issue_many, at_once=1, most=4)
    undecided = cases[0].model_copy(update={"decisions": ()})

    async def ask_all() -> list[Any]:
        first = asyncio.create_task(gathering.issue(cases[1]))
        await asyncio.to_thread(began.wait, 30)  # alone
        asked = [asyncio.create_task(gathering.issue(case)) for case in [*cases[2:10], undecided]]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(first, *asked, return_exceptions=True)

    found = asyncio.run(ask_all())

    assert groups == [1, 4, 4, 1]
    assert isinstance(found[9], NotApprovedError)
    subjects = [found[number]["signing"].identity for number in range(9)]
    assert subjects == [f"urn:kwbp:merchant:{case.revision.subject.merchant_id}" for case in cases[1:10]]  # type: ignore[union-attr]


def test_a_fault_in_a_group_is_told_to_everybody_in_it_and_the_next_group_goes_on(cases: list[Dossier]) -> None:
    faults = [MemoryError("none left")]

    def issue_many(dossiers: Sequence[Dossier]) -> list[Issued]:
        if faults:
            raise faults.pop()
        return [InProgressError("another")] * len(dossiers)

    gathering = Gathering(issue_many, at_once=1)

    async def ask(many: int) -> list[Any]:
        return await asyncio.gather(*(gathering.issue(cases[0]) for _ in range(many)), return_exceptions=True)

    assert list(map(type, asyncio.run(ask(2)))) == [MemoryError, MemoryError]
    assert list(map(type, asyncio.run(ask(2)))) == [InProgressError, InProgressError]


def test_who_stops_waiting_stops_nothing_and_who_comes_after_a_group_is_in_the_next(cases: list[Dossier]) -> None:
    groups: list[int] = []
    began, gate = threading.Event(), threading.Event()

    def issue_many(dossiers: Sequence[Dossier]) -> list[Issued]:
        groups.append(len(dossiers))
        began.set()
        gate.wait(30)
        return [{} for _ in dossiers]

    gathering = Gathering(issue_many, at_once=1)

    async def ask() -> None:
        gone, stays = (asyncio.create_task(gathering.issue(cases[0])) for _ in range(2))
        await asyncio.to_thread(began.wait, 30)
        gone.cancel()
        gate.set()
        assert await stays == {}
        assert await asyncio.gather(*(gathering.issue(case) for case in cases[1:3])) == [{}, {}]
        with pytest.raises(asyncio.CancelledError):
            await gone

    asyncio.run(ask())

    assert groups == [2, 2]


def test_a_fault_of_each_that_went_away_is_told_to_nobody(cases: list[Dossier]) -> None:
    began, gate = threading.Event(), threading.Event()

    def issue_many(dossiers: Sequence[Dossier]) -> list[Issued]:
        began.set()
        gate.wait(30)
        raise MemoryError("none left")

    gathering = Gathering(issue_many)

    async def ask() -> None:
        gone = asyncio.create_task(gathering.issue(cases[0]))
        await asyncio.to_thread(began.wait, 30)
        [leader] = gathering._leaders
        gone.cancel()
        gate.set()
        await leader  # which does not fail

    asyncio.run(ask())

    assert not gathering._waiting


def test_answers_that_are_not_one_for_each_are_nobodys(cases: list[Dossier]) -> None:
    def issue_many(dossiers: Sequence[Dossier]) -> list[Issued]:
        return [{} for _ in dossiers[1:]]

    gathering = Gathering(issue_many, at_once=1)

    async def ask() -> list[Any]:
        return await asyncio.gather(*(gathering.issue(cases[0]) for _ in range(3)), return_exceptions=True)

    assert list(map(type, asyncio.run(ask()))) == [ValueError] * 3


def test_when_a_leader_is_stopped_nobody_waits_for_ever(cases: list[Dossier]) -> None:
    began, gate = threading.Event(), threading.Event()

    def issue_many(dossiers: Sequence[Dossier]) -> list[Issued]:
        began.set()
        gate.wait(30)
        return [{} for _ in dossiers]

    gathering = Gathering(issue_many, at_once=1)

    async def ask() -> list[Any]:
        first = asyncio.create_task(gathering.issue(cases[0]))
        await asyncio.to_thread(began.wait, 30)
        others = [asyncio.create_task(gathering.issue(case)) for case in cases[1:3]]
        await asyncio.sleep(0)
        [leader] = gathering._leaders
        leader.cancel()
        gate.set()
        stopped = await asyncio.wait_for(asyncio.gather(first, *others, return_exceptions=True), 30)
        return [*stopped, await gathering.issue(cases[3])]

    found = asyncio.run(ask())

    assert list(map(type, found)) == [asyncio.CancelledError] * 3 + [dict]


def test_a_case_that_failed_stays_failed(cases: list[Dossier]) -> None:
    case = Case(cases[0])
    case.fail(ClockError("first"))
    case.fail(InProgressError("second"))
    assert isinstance(case.answer, ClockError)
