"""`kwbp ra left-behind` and `kwbp ra accept-database`: after a replica, or the database, was lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import typer
from sqlalchemy import text
from typer.testing import CliRunner

from audit import read
from cli import output, ra_left
from ra.app import create_app
from ra.client import RaClient
from ra.errors import ApartError
from ra.left_behind import PATIENCE
from ra.record import ACCEPTED, Record
from ra.store import Store
from runtime.database import open_database
from runtime.identity import Caller
from runtime.language import Language
from runtime.settings import Home
from tests.support.cps_cases import Office
from tests.support.lost_replica import draft, journal_of
from tests.support.pki_factory import PkiFactory
from tests.support.ra_world import InProcess, RaWorld, as_caller


class InProcessRa(RaClient):
    """The RA's own client on the RA's own application, as the operator's console, without a socket between."""

    def __init__(self, world: RaWorld) -> None:
        operator = Caller("service", "operator", world.office.pki.service("operator").certificate)
        self._http = httpx.Client(
            transport=InProcess(as_caller(create_app(world.workflow), operator)), base_url="http://ra"
        )


@pytest.fixture(autouse=True)
def plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "language", lambda: Language.EN)
    monkeypatch.setattr(output, "json_wanted", lambda: False)


def test_what_a_lost_replica_left_is_shown_and_written_but_for_what_its_journal_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = RaWorld(tmp_path, Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0))))
    client = InProcessRa(world)

    @contextmanager
    def in_process(*_given: object) -> Iterator[RaClient]:
        yield client

    monkeypatch.setattr(ra_left, "desk", in_process)
    monkeypatch.setattr(ra_left, "existing", lambda: None)
    lost = Store(world.engine, replica="lost")
    journal = journal_of(tmp_path)
    record = Record.open(journal, lost)
    lost.open(replace(draft("written"), opened_at=world.now))
    record.catch_up()
    with world.engine.begin() as db:
        db.execute(text("UPDATE transitions SET journal_index = NULL"))  # it died before it noted that
    lost.open(replace(draft("stored"), opened_at=world.now))
    world.clock.forward(2 * PATIENCE)

    run = CliRunner()
    shown = run.invoke(ra_left.app, [], terminal_width=200)
    assert (shown.exit_code, "lost" in shown.output) == (0, True)
    for options in ([], ["--journal", str(journal), "--journal-is-gone"]):
        assert run.invoke(ra_left.app, ["take", "lost", *options]).exit_code == 1
    running = run.invoke(ra_left.app, ["take", "lost", "--journal", str(journal)])
    assert (running.exit_code, "that replica is running" in running.output) == (1, True)
    record.close()
    done = run.invoke(ra_left.app, ["take", "lost", "--journal", str(journal)])
    assert (done.exit_code, done.output.strip()) == (0, "1 stood in its journal, 1 are written now")
    told = [each.entry["application"] for each in read(world.journal) if each.entry["event"] == "ra.transition"]
    assert told == ["stored"]
    Record.open(journal, lost).close()
    assert [each.entry["application"] for each in read(journal)] == ["written"]
    client.close()
    world.close()


def test_a_database_that_lacks_what_the_journal_has_is_gone_on_with_once_it_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    home.create()
    found = SimpleNamespace(home=home, settings=SimpleNamespace(ra=SimpleNamespace(database=None)))
    monkeypatch.setattr(ra_left, "existing", lambda: found)
    command = typer.Typer()
    command.command()(ra_left.accept_database)
    run, journal = CliRunner(), home.audit / "ra.jsonl"
    nothing = run.invoke(command, ["--reason", "lost"])
    assert (nothing.exit_code, "there is no journal here" in nothing.output) == (1, True)

    store = Store(open_database(tmp_path / "lost.sqlite"))
    record = Record.open(journal, store)
    for case in ("one", "two"):
        store.open(draft(case))
    record.catch_up()
    record.close()
    anew = Store(open_database(home.db / "ra.sqlite"))
    with pytest.raises(ApartError):
        Record.open(journal, anew)
    accepted = run.invoke(command, ["--reason", "the disk is lost"])
    assert accepted.exit_code == 0, accepted.output
    assert accepted.output.strip() == "accepted; 2 transitions of the journal are in no database"
    Record.open(journal, anew).close()
    assert [each.entry["reason"] for each in read(journal) if each.entry["event"] == ACCEPTED] == ["the disk is lost"]
