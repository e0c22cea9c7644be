"""Many act on one case at the same moment: one wins, and everybody else is told what was done, and by whom."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audit import read
from ra.access import Actor
from ra.errors import ConflictError, RaError, RefusedError, WrongStateError
from ra.records import Application
from ra.states import Action, State
from ra.submission import Submission
from ra.workflow import NewEvidence
from tests.support.cps_cases import Office, csr
from tests.support.databases import DATABASES, ra_database
from tests.support.pki_factory import p256
from tests.support.ra_world import OPERATOR, RaWorld, merchant_subject, officer

AT_ONCE = 50
Act = Callable[[], Application]


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest, tmp_path: Path, office: Office) -> Iterator[RaWorld]:
    made = RaWorld(tmp_path, office, database=ra_database(request.param, tmp_path / "db"))
    yield made
    made.close()


def acts(world: RaWorld, case: Application) -> list[tuple[Action, str, Act]]:
    """So many different things to do with the case as it is now: each with its actor, no two alike."""
    flow, office, seen = world.workflow, world.office, case.version
    vetters: list[Actor] = [officer(office.vetter), officer(office.vetter_2)]
    signed = [
        world.sign(case.id, "vet", (office.vetter, office.vetter_2)[number % 2], reason=f"seen, {number}")
        for number in range(AT_ONCE // 6 + 1)
    ]
    amended = Submission(merchant_subject(), {"signing": csr(p256())})
    made: list[tuple[Action, str, Act]] = []
    for number in range(AT_ONCE):
        vetter, text, decision = vetters[number % 2], f"because {number}", signed[number // 6]
        document = NewEvidence(kind="acquirer_agreement", body=f"agreement {number}".encode(), source="paper file")
        made.append(
            [
                (
                    Action.DECIDE,
                    vetters[number // 6 % 2].name,
                    lambda v=vetters[number // 6 % 2], d=decision: flow.decide(v, case.id, d),
                ),
                (Action.HOLD, vetter.name, lambda v=vetter, t=text: flow.hold(v, case.id, t, version=seen)),
                (Action.RETURN, vetter.name, lambda v=vetter, t=text: flow.send_back(v, case.id, t, version=seen)),
                (
                    Action.RECORD,
                    vetter.name,
                    lambda v=vetter, d=document: flow.add_evidence(v, case.id, d, version=seen),
                ),
                (Action.WITHDRAW, OPERATOR.name, lambda t=text: flow.withdraw(OPERATOR, case.id, t, version=seen)),
                (Action.AMEND, OPERATOR.name, lambda: flow.amend(OPERATOR, case.id, amended, version=seen)),
            ][number % 6]
        )
    return made


def test_of_fifty_that_act_at_once_one_wins_and_the_others_are_told_what_it_did(world: RaWorld) -> None:
    case = world.open_merchant()
    before = world.store.transitions(case.id)
    wanted = acts(world, case)
    ready = threading.Barrier(len(wanted))
    won: list[tuple[Action, str]] = []
    told: list[RaError] = []

    def act(action: Action, actor: str, do: Act) -> None:
        ready.wait(timeout=30)
        try:
            do()
            won.append((action, actor))
        except RaError as error:
            told.append(error)

    threads = [threading.Thread(target=act, args=each) for each in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1, [str(each) for each in told if not isinstance(each, ConflictError)]
    assert len(told) == len(wanted) - 1
    assert {type(each) for each in told} <= {ConflictError, WrongStateError, RefusedError}
    [(action, actor)] = won
    new = world.store.transitions(case.id)[len(before) :]
    expected = [Action.AMEND, Action.SCREEN] if action is Action.AMEND else [action]
    assert [each.action for each in new] == expected
    assert new[0].actor == actor
    done = f"{new[-1].actor} did {new[-1].action}"
    assert [str(each) for each in told if done not in str(each)] == []
    assert world.store.application(case.id).version == case.version + 1
    recorded = Counter(str(each.entry.get("key")) for each in read(world.journal))
    assert [recorded[f"transition/{each.seq}"] for each in new] == [1] * len(new)
    assert world.store.application(case.id).state is not State.APPROVED
