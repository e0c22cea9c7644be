"""The journal: each transition exactly once, whatever dies when."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text

from audit import read, verify
from cps.dossier import Dossier
from ra.errors import ApartError
from ra.record import _COMPARED, ACCEPTED, Record, accept_database
from ra.records import Passage
from ra.states import Action, State
from ra.store import Store
from runtime.database import open_database
from tests.support.cps_cases import Office
from tests.support.databases import ra_database
from tests.support.lost_replica import Replica, draft, journal_of, processes
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


def test_nothing_more_is_done_with_a_case_while_the_journal_cannot_be_written(
    world: RaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = world.open_merchant()
    flush = world.record.journal.flush

    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.record.journal, "flush", full)
    with pytest.raises(OSError, match="No space"):
        world.workflow.withdraw(OPERATOR, application.id, "no more")
    with pytest.raises(OSError, match="No space"):  # not even shown: it is withdrawn, and that is not recorded
        world.workflow.get(OPERATOR, application.id)
    monkeypatch.setattr(world.record.journal, "flush", flush)
    assert world.workflow.get(OPERATOR, application.id).state is State.WITHDRAWN
    assert entries(world)[-1] == (application.id, "WITHDRAWN")
    assert world.store.unjournaled() == []


def test_events_of_one_act_are_recorded_together_and_each_once(world: RaWorld) -> None:
    for _ in range(2):
        world.record.note_each_once("ra.check", {"check/1": {"answer": "yes"}, "check/2": {"answer": "no"}}, world.now)
    found = [entry.entry for entry in read(world.journal) if entry.entry["event"] == "ra.check"]
    assert [(entry["key"], entry["answer"]) for entry in found] == [("check/1", "yes"), ("check/2", "no")]


def test_the_journal_holds_no_account_and_no_national_code(world: RaWorld, office: Office) -> None:
    application = world.certified_merchant()
    dossier: Dossier = world.workflow.dossier(application)
    recorded = world.journal.read_text()
    assert dossier.revision.subject.member_class == "merchant"
    assert dossier.revision.subject.iban not in recorded


def reopened(world: RaWorld, database: Path) -> Record:
    """The record as a start opens it over another database (a file) than before."""
    world.record.close()
    store = Store(open_database(f"sqlite:///{database}"))
    return Record.open(world.journal, store)


def backup(world: RaWorld, path: Path) -> Path:
    """A copy of the database as it is now."""
    with world.engine.connect() as db:
        db.exec_driver_sql("ROLLBACK")
        db.exec_driver_sql(f"VACUUM INTO '{path}'")
        db.exec_driver_sql("BEGIN")
    return path


def test_a_fresh_database_beside_an_old_journal_is_refused_with_what_to_do(world: RaWorld, tmp_path: Path) -> None:
    world.open_merchant()
    before = world.journal.read_bytes()
    with pytest.raises(ApartError, match=r"lacks transition/1, which .* 'kwbp ra accept-database --help'"):
        reopened(world, tmp_path / "fresh.db")
    assert world.journal.read_bytes() == before
    verify(world.journal)


def test_a_restored_database_is_refused_also_when_it_went_on_without_the_journal(
    world: RaWorld, tmp_path: Path
) -> None:
    world.open_merchant()
    older = backup(world, tmp_path / "older.db")
    newer = world.open_merchant(merchant_id="M-2")
    number = world.store.transitions(newer.id)[0].seq
    other = Store(open_database(f"sqlite:///{older}"), replica="other")
    for identifier in range(20):  # the numbers are taken, by other cases
        other.open(draft(f"case-{identifier}"))
    with pytest.raises(ApartError, match=f"transition/{number}, "):
        reopened(world, older)


def test_a_database_that_lacks_only_an_event_is_refused(world: RaWorld, tmp_path: Path) -> None:
    world.open_merchant()
    older = backup(world, tmp_path / "older.db")
    world.record.note_once("ra.revoked", "revocation/merchant-ca/1", world.now)
    with pytest.raises(ApartError, match="revocation/merchant-ca/1"):
        reopened(world, older)


def test_an_older_journal_beside_its_database_is_refused(world: RaWorld, tmp_path: Path) -> None:
    world.open_merchant()
    world.record.close()
    with pytest.raises(ApartError, match=r"lacks entry \d+, which the database knows of"):
        Record.open(tmp_path / "other" / "ra.jsonl", world.store)


def test_a_database_that_was_accepted_is_gone_on_with_and_every_transition_is_recorded(
    world: RaWorld, tmp_path: Path
) -> None:
    world.open_merchant()
    older = backup(world, tmp_path / "older.db")
    lost = world.open_merchant(merchant_id="M-2")
    world.record.close()
    store = Store(open_database(f"sqlite:///{older}"))
    last = store.last_transition()
    missing = accept_database(world.journal, store, by="service:operator", reason="the disk of the database is lost")
    assert missing == len(world.store.transitions(lost.id))
    record = Record.open(world.journal, store)
    store.open(draft("anew"))
    record.catch_up()
    record.close()
    [anew] = store.transitions("anew")
    assert anew.seq == last + 1  # the number of a transition that the lost database had
    told = [each.entry for each in read(world.journal)]
    assert [each["application"] for each in told if each.get("key") == f"transition/{anew.seq}"] == [lost.id, "anew"]
    assert [each["reason"] for each in told if each["event"] == ACCEPTED] == ["the disk of the database is lost"]
    Record.open(world.journal, store).close()  # and the next start finds them together
    verify(world.journal)


def test_a_second_replica_accepts_though_the_first_has_given_the_numbers_out_anew(
    world: RaWorld, tmp_path: Path
) -> None:
    """What it takes over of the first one later is written, whatever its journal has under the same number."""
    world.open_merchant()
    older = backup(world, tmp_path / "older.db")
    case = world.open_merchant(merchant_id="M-2")
    lost = world.store.transitions(case.id)
    for _ in range(_COMPARED):
        world.workflow.open(OPERATOR, "merchant")
    world.record.close()
    first = Store(open_database(f"sqlite:///{older}"), replica="first")
    for identifier in ("anew-1", "anew-2"):
        first.open(draft(identifier))
    store = Store(open_database(f"sqlite:///{older}"))
    missing = accept_database(world.journal, store, by="service:operator", reason="the database's disk is lost")
    assert missing == len(lost) + _COMPARED
    with store.engine.begin() as db:
        db.execute(text("UPDATE transitions SET replica = 'ra' WHERE replica = 'first'"))  # as who takes over does
    Record.open(world.journal, store).close()
    told = [each.entry for each in read(world.journal) if each.entry.get("key") == f"transition/{lost[0].seq}"]
    assert [each["application"] for each in told] == [case.id, "anew-1"]
    assert store.unjournaled() == []


def test_a_process_that_was_killed_finds_journal_and_database_together(tmp_path: Path) -> None:
    url, folder = ra_database("sqlite", tmp_path), tmp_path / "one"
    with processes() as making:
        for step in ("case-stored", "case-written", "order-stored", "order-written"):
            making.killed_at(step, url, folder, "one")  # and each start finds what the one before left
    replica = Replica(url, folder, "one")
    assert (replica.store.unjournaled(), replica.store.unjournaled_entries()) == ([], [])
    replica.close()
    keys = Counter(str(each.entry["key"]) for each in read(journal_of(folder)))
    assert set(keys.values()) == {1}
    assert len(keys) == 4 + 2
