"""What a replica that was killed left: shown, taken over by another one, and in one journal, also if it comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from audit import read, verify
from ra.access import OPERATOR, Actor
from ra.app import create_app
from ra.errors import ApartError, ConflictError, NotAllowedError, UnknownError
from ra.left_behind import PATIENCE, LeftBehind, Seen, TakenOver
from ra.notices.kinds import NoticeState
from ra.notices.service import Notices
from ra.record import Record
from runtime.identity import Caller
from runtime.notice_settings import NoticesSettings
from tests.support.databases import ra_database
from tests.support.lost_replica import NOW, STEPS, Processes, Replica, journal_of, processes, serial_of
from tests.support.ra_world import RaWorld, as_caller

ACTOR = Actor(OPERATOR)


class Clock:
    now = NOW + 2 * PATIENCE

    def __call__(self) -> datetime:
        return self.now


class Site:
    """A database, and the replica `two` that works; `one` is killed."""

    def __init__(self, folder: Path, making: Processes) -> None:
        self.folder = folder
        self._making = making
        self.url = ra_database("postgresql", folder)
        self.one, self.two = folder / "one", folder / "two"
        self.other = Replica(self.url, self.two, "two")
        self.clock = Clock()
        self.left = LeftBehind(self.other.store, self.other.record, self.clock)

    def lose(self, step: str) -> None:
        self._making.killed_at(step, self.url, self.one, "one")

    def seen(self) -> Seen:
        """The lost one's journal, as the command reads it."""
        verify(journal_of(self.one))
        entries = list(read(journal_of(self.one)))
        keys = {key for left in self.left.left(keys=True) for key in left.keys}
        recorded = {str(each.entry["key"]): each.index for each in entries if each.entry.get("key") in keys}
        return Seen(len(entries), keys, recorded)

    def back(self) -> None:
        """The lost replica starts again, and ends."""
        Replica(self.url, self.one, "one").close()

    def keys(self) -> Counter[str]:
        """How often each thing stands in all journals together."""
        found: Counter[str] = Counter()
        for folder in (self.one, self.two):
            verify(journal_of(folder))
            found.update(
                str(each.entry["key"])
                for each in read(journal_of(folder))
                if str(each.entry["event"]) != "ra.taken-over" and "key" in each.entry
            )
        return found

    def stored(self) -> set[str]:
        """What the database has that must stand in a journal."""
        with self.other.engine.begin() as db:
            seqs = db.execute(text("SELECT seq FROM transitions")).scalars().all()
            keys = db.execute(text("SELECT key FROM journal_entries WHERE event = 'ra.revoked'")).scalars().all()
        return {f"transition/{seq}" for seq in seqs} | set(keys)

    def each_stands_in_one_journal(self) -> None:
        assert self.keys() == dict.fromkeys(self.stored(), 1)
        with self.other.engine.begin() as db:
            for table in ("transitions", "journal_entries"):
                left = f"SELECT count(*) FROM {table} WHERE journal_index IS NULL"  # noqa: S608
                assert db.execute(text(left)).scalar_one() == 0


@pytest.fixture(scope="module")
def making() -> Iterator[Processes]:
    with processes() as made:
        yield made


@pytest.fixture
def site(tmp_path: Path, making: Processes) -> Iterator[Site]:
    made = Site(tmp_path, making)
    yield made
    made.other.close()


def test_with_the_lost_ones_journal_each_thing_is_written_once_though_it_comes_back(site: Site) -> None:
    for step in STEPS:
        site.lose(step)
        if step.endswith("noted"):
            assert site.left.left() == []
        else:
            done = site.left.take_over(ACTOR, "one", site.seen())
            assert done == (TakenOver(1, 0) if step.endswith("written") else TakenOver(0, 1))
            assert site.left.left() == []
        site.each_stands_in_one_journal()
        site.back()
        site.each_stands_in_one_journal()


@pytest.mark.parametrize("step", ["case-stored", "order-stored"])
def test_one_whose_journal_is_gone_is_given_up_and_starts_never_again(site: Site, step: str) -> None:
    site.lose(step)
    assert site.left.take_over(ACTOR, "one", None) == TakenOver(0, 1)
    site.each_stands_in_one_journal()
    with pytest.raises(ApartError, match="was given up on 2027-03-01T09:02:00Z"):
        site.back()
    told = [each.entry for each in read(journal_of(site.two)) if each.entry["event"] == "ra.taken-over"]
    assert [(each["replica"], each["journal"], each["written"]) for each in told] == [("one", "gone", 1)]


def test_one_that_comes_back_by_itself_leaves_nothing_to_take_over(site: Site) -> None:
    site.lose("case-stored")
    site.back()
    site.each_stands_in_one_journal()
    with pytest.raises(UnknownError):
        site.left.take_over(ACTOR, "one", site.seen())


def test_it_is_shown_when_it_has_waited_for_a_while(site: Site) -> None:
    site.lose("order-stored")
    site.clock.now = NOW + PATIENCE
    site.left.look()
    assert (site.left.is_degraded, site.left.details) == (False, {})
    site.clock.now += timedelta(seconds=1)
    site.left.look()
    [found] = site.left.left(keys=True)
    assert (found.replica, found.count, found.since) == ("one", 1, NOW)
    assert found.keys == (f"revocation/merchant-ca/{serial_of('one', 'order-stored')}",)
    assert site.left.is_degraded
    assert site.left.details == {"left_behind": [{"replica": "one", "count": 1, "since": NOW.isoformat()}]}
    site.left.take_over(ACTOR, "one", site.seen())
    assert not site.left.is_degraded


def test_an_older_copy_of_its_journal_is_refused(site: Site) -> None:
    site.lose("order-stored")
    with pytest.raises(ConflictError, match="older copy"):
        site.left.take_over(ACTOR, "one", Seen(0, {}, {}))
    assert site.left.left() != []


def test_what_the_journal_was_not_searched_for_is_left_for_the_next_time(site: Site) -> None:
    """It was not listed yet when somebody read the journal, and may stand in it."""
    site.lose("order-written")
    with pytest.raises(UnknownError):
        site.left.take_over(ACTOR, "one", replace(site.seen(), searched=(), recorded={}))
    assert site.left.take_over(ACTOR, "one", site.seen()) == TakenOver(1, 0)
    site.each_stands_in_one_journal()


def test_it_is_the_operator_who_does_it_and_not_for_the_replica_itself(site: Site) -> None:
    site.lose("case-stored")
    with pytest.raises(NotAllowedError):
        site.left.take_over(Actor("officer:officer-1", person="officer-1"), "one", site.seen())
    with pytest.raises(ConflictError):
        site.left.take_over(ACTOR, "two", site.seen())


def test_what_a_replica_writes_at_this_moment_is_not_taken_from_it(site: Site) -> None:
    """The other one waits for its rows, and then finds them written."""
    one = Replica(site.url, site.one, "one")
    write = one.record._write

    def meanwhile(*arguments: object) -> object:
        with site.other.engine.connect() as db, pytest.raises(Exception, match="lock timeout"), db.begin():
            db.execute(text("SET LOCAL lock_timeout = '100ms'"))
            db.execute(text("SELECT * FROM transitions WHERE journal_index IS NULL FOR UPDATE"))
        return write(*arguments)  # type: ignore[arg-type]

    one.record._write = meanwhile  # type: ignore[assignment, method-assign]
    one.open_case("one-case")
    one.close()
    with pytest.raises(UnknownError):
        site.left.take_over(ACTOR, "one", site.seen())
    site.each_stands_in_one_journal()


def test_every_event_of_both_is_told_once_although_one_was_killed(site: Site, tmp_path: Path) -> None:
    """Each has a journal of its own; what is told of does not hang on whose, nor on who reads it."""
    settings = NoticesSettings.model_validate(
        {"sender": "ra@kwbp.example", "recipients": [{"role": "security_officer", "address": "security@kwbp.example"}]}
    )

    def notices(replica: Replica) -> Notices:
        return Notices(
            replica.engine,
            settings,
            spool=tmp_path / f"notices-{replica.name}",
            statement=lambda: None,  # type: ignore[arg-type, return-value]  # not asked: only entries are derived
            sign=lambda content: content,
            clock=site.clock,
        )

    told = notices(site.other)
    for serial in ("2a", "2b"):
        site.other.revoke(serial)
    told._entries.read(told.outbox, site.clock())
    steps = ("order-noted", "order-written", "order-stored")  # the killed one told nobody
    for step in steps:
        site.lose(step)
    site.other.revoke("2c")
    told._entries.read(told.outbox, site.clock())
    again = Replica(site.url, site.one, "one")
    again.revoke("1a")
    of_one = notices(again)
    for each in (of_one, told, of_one):
        each._entries.read(each.outbox, site.clock())
    again.close()
    found = told.outbox.listing(list(NoticeState))
    wanted = ["2a", "2b", *(serial_of("one", step) for step in steps), "2c", "1a"]
    assert [each.fields["serials"] for each in found][::-1] == wanted
    assert told.courier.deliver() == len(wanted)
    assert of_one.courier.deliver() == 0


def test_health_and_the_routes_show_it(world: RaWorld) -> None:
    case = world.workflow.open(ACTOR, "merchant")
    with world.engine.begin() as db:
        db.execute(text("UPDATE transitions SET journal_index = NULL, replica = 'lost'"))
    world.clock.forward(2 * PATIENCE)
    app = create_app(world.workflow)
    operator = TestClient(
        as_caller(app, Caller("service", "operator", world.office.pki.service("operator").certificate))
    )
    assert operator.get("/health/ready").json() == {"service": "ra", "status": "ready"}
    world.workflow.left_behind.look()
    ready = operator.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    [shown] = ready.json()["left_behind"]
    assert (shown["replica"], shown["count"]) == ("lost", 1)
    assert "kwbp_ra_left_behind 1.0" in operator.get("/metrics").text
    [row] = operator.get("/v1/left-behind").json()
    assert (row["replica"], row["count"], len(row["keys"])) == ("lost", 1, 1)
    body = {"journal": {"size": 4, "searched": row["keys"], "recorded": {row["keys"][0]: 3}}}
    assert operator.post("/v1/left-behind/lost", json=body).json() == {"noted": 1, "written": 0}
    assert operator.post("/v1/left-behind/lost", json=body).status_code == 404
    assert operator.get("/health/ready").json()["status"] == "ready"
    assert world.store.transitions(case.id)[0].journal_index == 3


def test_a_replica_that_was_given_up_does_not_open_its_journal(world: RaWorld) -> None:
    with world.engine.begin() as db:
        db.execute(
            text("INSERT INTO replicas_given_up VALUES ('ra', '2027-01-01 00:00:00.000000', 'service:operator')")
        )
    world.record.close()
    with pytest.raises(ApartError):
        Record.open(world.journal, world.store)
