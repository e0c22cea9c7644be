"""The journal: each transition exactly once, whatever dies when."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from sqlalchemy import text

from audit import read, verify
from cps.dossier import Dossier
from ra.record import Record
from ra.states import Action, State
from ra.store import Passage
from tests.support.cps_cases import Office
from tests.support.ra_world import OPERATOR, RaWorld


def entries(world: RaWorld) -> list[tuple[object, object]]:
    """Application and resulting state of every transition in the journal, in order."""
    found = [entry.entry for entry in read(world.journal) if entry.entry["event"] == "ra.transition"]
    return [(entry["application"], entry["after"]) for entry in found]


def test_each_transition_has_one_entry_and_knows_its_number(world: RaWorld) -> None:
    application = world.certified_merchant()
    transitions = world.store.transitions(application.id)
    assert entries(world) == [(application.id, str(each.after)) for each in transitions]
    assert [each.journal_index for each in transitions] == list(range(len(transitions)))
    verify(world.journal)


def test_a_retry_writes_none_twice(world: RaWorld) -> None:
    application = world.open_merchant()
    signed = world.sign(application.id, "vet", world.office.vetter)
    for _ in range(3):
        world.workflow.decide(OPERATOR, application.id, signed)
    assert Counter(entries(world))[application.id, "AWAITING_APPROVAL"] == 1


def test_a_transition_that_was_committed_but_not_recorded_is_recorded_at_the_next_start(
    world: RaWorld, tmp_path: Path
) -> None:
    application = world.open_merchant()
    withdrawn = Passage(Action.WITHDRAW, State.WITHDRAWN)
    world.store.change(application, [withdrawn], actor="service:operator", now=world.now)  # and the process dies
    assert (application.id, "WITHDRAWN") not in entries(world)
    world.record.close()
    world.record = Record.open(world.journal, world.store)
    assert entries(world)[-1] == (application.id, "WITHDRAWN")
    assert world.store.unjournaled() == []


def test_a_transition_that_was_recorded_but_not_noted_is_not_recorded_again(world: RaWorld) -> None:
    application = world.open_merchant()
    before = entries(world)
    with world.engine.begin() as db:
        db.execute(text("UPDATE transitions SET journal_index = NULL"))  # the process died before it noted them
    world.record.close()
    world.record = Record.open(world.journal, world.store)
    assert entries(world) == before
    transitions = world.store.transitions(application.id)
    assert [each.journal_index for each in transitions] == list(range(len(transitions)))


def test_the_journal_holds_no_account_and_no_national_code(world: RaWorld, office: Office) -> None:
    application = world.certified_merchant()
    dossier: Dossier = world.workflow.dossier(application)
    recorded = world.journal.read_text()
    assert dossier.revision.subject.member_class == "merchant"
    assert dossier.revision.subject.iban not in recorded
