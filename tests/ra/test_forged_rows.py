"""Whoever can write rows into the registration authority's database gets no certificate by it.

Rows are written past the code, with the triggers that guard them dropped first. What is believed are signatures: the RA
judges the case again, and the CA does so for itself, by the same function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, text, update

from audit import read
from ca import tables
from cps.decision import Choice
from ra import queue, schema
from ra.records import Application
from ra.states import State
from runtime.database import reading
from tests.support.cps_cases import Office
from tests.support.pki_factory import PkiFactory
from tests.support.ra_world import RaWorld


def forge(world: RaWorld, case: Application, state: State, *statements: Any) -> None:
    """Write rows as nobody may, the state of the case among them, and have the RA ask for certificates."""
    table = schema.applications
    with world.engine.begin() as db:
        for name in db.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all():
            db.execute(text(f'DROP TRIGGER "{name}"'))
        for statement in statements:
            db.execute(statement)
        cell = queue.cell_of(db, str(state), case.member_class, None, None)
        queue.move(db, None, cell)
        forged = {"state": str(state), "step": None, "waiting_for": None, "cell": cell}
        db.execute(update(table).where(table.c.id == case.id).values(forged))
    world.workflow.resume()


def decisions(world: RaWorld, case: Application, *signed: bytes) -> list[Any]:
    return [
        insert(schema.decisions).values(
            application_id=case.id,
            sha256=f"{number:064x}",
            cms=cms,
            received_from="officer:officer-1",
            received_at=world.now,
        )
        for number, cms in enumerate(signed)
    ]


def nothing_certified(world: RaWorld, case: Application) -> None:
    assert world.store.certificates(case.id) == []
    with reading(world.ca.engine) as db:
        assert db.execute(select(func.count()).select_from(tables.intents)).scalar_one() == 0


def told(world: RaWorld, case: Application) -> str:
    """What the journal says of the last thing that happened to the case."""
    entries = [each.entry for each in read(world.journal) if each.entry.get("application") == case.id]
    detail = entries[-1]["detail"]
    assert isinstance(detail, dict)
    return " ".join(map(str, detail.values()))


def test_a_state_that_was_written_certifies_nobody(world: RaWorld) -> None:
    case = world.open_merchant()
    forge(world, case, State.APPROVED)
    assert world.store.application(case.id).state is State.VETTING
    nothing_certified(world, case)


def _by_strangers(world: RaWorld, case: Application, _other: Application) -> list[bytes]:
    strangers, dossier = Office(PkiFactory(now=world.now)), world.workflow.dossier(case)
    return [
        strangers.decision(dossier, "vet", strangers.vetter),
        strangers.decision(dossier, "approve", strangers.approver),
    ]


def _of_another_case(world: RaWorld, _case: Application, other: Application) -> list[bytes]:
    return [each.cms for each in world.store.decisions(other.id)]


def _rejections_rewritten(world: RaWorld, case: Application, _other: Application) -> list[bytes]:
    office, dossier = world.office, world.workflow.dossier(case)
    made = []
    for step, by in (("vet", office.vetter), ("approve", office.approver)):
        rejected = office.decision(dossier, step, by, choice=Choice.REJECT, date=world.now)
        made.append(rejected[:-1] + bytes([rejected[-1] ^ 1]))
    return made


def _by_one_officer(world: RaWorld, case: Application, _other: Application) -> list[bytes]:
    both = world.office.officer("officer-8", "vetting_officer", "approving_officer")
    dossier = world.workflow.dossier(case)
    return [world.office.decision(dossier, step, both, date=world.now) for step in ("vet", "approve")]


FORGED: dict[str, tuple[Callable[[RaWorld, Application, Application], list[bytes]], str]] = {
    "by officers of another hierarchy": (_by_strangers, "CPS 5.2.3 DEC-CREDENTIAL"),
    "copied from another case": (_of_another_case, "CPS 4.2.2 DEC-FORM"),
    "with a signature that does not verify": (_rejections_rewritten, "CPS 4.2.2 DEC-FORM"),
    "by one officer of both roles": (_by_one_officer, "CPS 5.2.4 SOD-EXCLUSIVE"),
}


@pytest.mark.parametrize("state", [State.APPROVED, State.ISSUING])
@pytest.mark.parametrize("forgery", FORGED)
def test_decisions_that_were_written_certify_nobody(world: RaWorld, forgery: str, state: State) -> None:
    """The RA judges an approved case again; one that it is said to be issuing the CA refuses, by the same clause."""
    make, rule = FORGED[forgery]
    other = world.certified_merchant(merchant_id="M-2", name="Other Shop")
    case = world.open_merchant()
    rows = decisions(world, case, *make(world, case, other))
    with world.ca.engine.begin() as db:
        before = db.execute(select(func.count()).select_from(tables.intents)).scalar_one()
    forge(world, case, state, *rows)
    after = world.store.application(case.id)
    assert after.state is (State.VETTING if state is State.APPROVED else State.ISSUE_FAILED)
    assert world.store.certificates(case.id) == []
    with reading(world.ca.engine) as db:
        assert db.execute(select(func.count()).select_from(tables.intents)).scalar_one() == before
    said = told(world, case)
    assert rule in said if state is State.APPROVED else rule.split()[-1] in said


def test_evidence_that_was_exchanged_is_noticed_and_certifies_nobody(world: RaWorld) -> None:
    case = world.open_merchant()
    world.decide(case.id, "vet", world.office.vetter)
    [sha256] = [each.sha256.hex() for each in world.store.evidence(case.id) if each.kind == "iban_owner"]
    bodies = schema.evidence_bodies
    signed = world.sign(case.id, "approve", world.office.approver)
    forge(
        world,
        case,
        State.APPROVED,
        update(bodies).where(bodies.c.sha256 == sha256).values(body=b"another answer"),
        *decisions(world, case, signed),
    )
    nothing_certified(world, case)
    assert world.store.application(case.id).state is State.APPROVED  # it cannot be read, and stays for people to see


def test_evidence_that_was_taken_away_takes_the_decisions_along(world: RaWorld) -> None:
    case = world.open_merchant()
    world.decide(case.id, "vet", world.office.vetter)
    signed = world.sign(case.id, "approve", world.office.approver)
    pieces = schema.evidence
    forge(
        world,
        case,
        State.APPROVED,
        *decisions(world, case, signed),
        delete(pieces).where(pieces.c.application_id == case.id, pieces.c.kind == "acquirer_agreement"),
    )
    assert world.store.application(case.id).state is State.VETTING
    nothing_certified(world, case)
    assert "EVID-MISSING" in told(world, case)
