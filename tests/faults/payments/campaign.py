"""A run: purchases on a whole system, chaos meanwhile, then quiet, and the judgement over every book.

    outcome = run(folder, Size(purchases=160, events=40), seed=7)
    assert not outcome.findings, outcome.report()

The seed decides what is bought, what befalls it and by which purchase (`tests.faults.payments.plans`). A report shows
for each order that is wrong its history in all books, what the services said of it, and the chaos around it.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

import httpx
import psycopg
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

import gateway.schema
from runtime.problems import Problem
from shetab.jalali import IRAN_STANDARD_TIME
from storefront.merchant import schema as shop_schema
from storefront.merchant.money import schema
from tests.faults.payments import plans
from tests.faults.payments.books import Books, Finding, counted, judge
from tests.faults.payments.buyers import Crowd
from tests.faults.payments.plans import Event, What
from tests.faults.payments.reading import (
    gateway_engine,
    gateway_open,
    merchant_engine,
    merchant_open,
    read_books,
    rows_about,
)
from tests.faults.payments.system import SHOPS, SQLITE, Service, System
from tests.faults.payments.wire import Fault
from tests.support.payment_site import ACQUIRER
from tests.support.shop_front import Customer

BUYERS: Final = 8
_RICH, _POOR = 60_000_000, 4_000_000
_STEPS: Final = (0, 180, 900, 900, 1800)
"""Seconds by which all clocks go on, one after the other, while something is open: pauses and deadlines come up."""
_LOOK_AFTER: Final = 0.5
"""Seconds between two looks at services that may have ended by themselves."""
_QUIET: Final = 15.0
"""Seconds that a step may take until nothing is open any more."""
_AROUND: Final = 6
"""Events that a report shows before and after the last thing that is known of an order."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is."""

    purchases: int
    events: int
    database: str = SQLITE
    gateways: int = 1


@dataclass
class Outcome:
    """What a run came to."""

    seed: int
    size: Size
    books: Books
    findings: list[Finding]
    histories: dict[bytes, list[str]]
    chaos: list[str]
    notes: list[str]
    given_up: int

    @property
    def counted(self) -> dict[str, int]:
        return counted(self.books.orders)

    def report(self) -> str:
        """For people: what is wrong, and everything that is known of it."""
        lines = [f"seed {self.seed}: {self.size.purchases} purchases, {self.counted}; {len(self.findings)} finding(s)"]
        for finding in self.findings:
            lines.append(f"  {finding.kind}: {finding.said}")
            if finding.xid is not None:
                lines += [f"      {line}" for line in self.histories.get(finding.xid, [])]
        if self.findings:
            lines += ["what befell the system:", *(f"  {line}" for line in self.chaos)]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def run(folder: Path, size: Size, *, seed: int, tell: Callable[[str], None] = lambda _line: None) -> Outcome:
    """One run. `tell` is given a line of progress now and then."""
    random = Random(seed)
    bought = plans.purchases(random, size.purchases, buyers=BUYERS, shops=SHOPS)
    planned = plans.schedule(random, size.purchases, events=size.events, postgresql=size.database != SQLITE)
    with System.running(folder, random=random, database=size.database, gateways=size.gateways) as system:
        customers = [
            Customer.of(system.site, balance=_POOR if number == BUYERS - 1 else _RICH * size.purchases // 100)
            for number in range(BUYERS)
        ]
        chaos = Chaos(system, planned, tell)
        crowd = Crowd(system, bought, customers, chaos.begun)
        tell(f"the system runs; {size.purchases} purchases begin")
        with chaos:
            crowd.run()
        tell("all were tried; everything is started again")
        notes = [f"{name} had to be started anew: it did not recover by itself" for name in system.heal()]
        notes += _settle(system, crowd, tell)
        system.stop()
        books = read_books(system, crowd)
        findings = judge(books)
        histories = {each.xid: _history(system, each.xid) for each in findings if each.xid is not None}
        return Outcome(seed, size, books, findings, histories, chaos.said, notes, len(crowd.given_up))


# --- chaos ------------------------------------------------------------------------------------------------------------


@dataclass
class Chaos:
    """Does what is planned when its purchase begins, in a thread of its own; leaving it ends all of it."""

    system: System
    planned: list[Event]
    tell: Callable[[str], None]
    said: list[str] = field(default_factory=list)
    done: list[Event] = field(default_factory=list)
    _begun: int = 0
    _stopped: bool = False

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="chaos", daemon=True)
        self._undoing: list[threading.Timer] = []
        self._failed: BaseException | None = None

    def begun(self, count: int) -> None:
        """So many purchases have begun."""
        with self._changed:
            self._begun = max(self._begun, count)
            self._changed.notify_all()

    def __enter__(self) -> Chaos:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()
        for timer in self._undoing:
            timer.join()
        if self._failed is not None:
            raise self._failed

    def _work(self) -> None:
        try:
            for event in self.planned:
                self._wait_for(event)
                if self._stopped:
                    return
                self._note(str(event))
                self._do(event)
                self.done.append(event)
        except BaseException as error:
            self._failed = error

    def _wait_for(self, event: Event) -> None:
        """Until its purchase begins; meanwhile what ended by itself is started again."""
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._stopped or self._begun >= event.at, _LOOK_AFTER):
                    return
            for name in self.system.look_after():
                self._note(f"{name} ended by itself and is started again")

    def _note(self, text: str) -> None:
        self.said.append(f"{datetime.now(UTC):%H:%M:%S.%f} (people's clock {self.system.people():%d %H:%M:%S}) {text}")
        self.tell(text)

    def _later(self, seconds: float, undo: Callable[[], object]) -> None:
        def work() -> None:
            try:
                undo()
            except BaseException as error:
                self._failed = error

        timer = threading.Timer(seconds, work)
        self._undoing.append(timer)
        timer.start()

    def _do(self, event: Event) -> None:
        match event.what:
            case What.KILL:
                service = self._pick(event)
                service.kill()
                self._later(event.seconds, service.start)
            case What.PAUSE:
                service = self._pick(event)
                service.signal(signal.SIGSTOP)
                self._later(event.seconds, lambda: service.signal(signal.SIGCONT))
            case What.DISK:
                service = self._pick(event)
                service.fill_disk(full=True)
                self._later(event.seconds, lambda: self._empty_disk(service))
            case What.CLOCK:
                service = self._pick(event)
                service.clock.move(self.system.people.offset + float(event.how))
                self._later(event.seconds, lambda: service.clock.move(self.system.people.offset))
            case What.WIRE:
                wire = self.system.wires[event.target]
                wire.fault = Fault(event.how)
                self._later(event.seconds, lambda: setattr(wire, "fault", Fault.NONE))
            case What.MIDNIGHT:
                self.system.move_clocks(self.system.people.offset + _until_midnight(self.system.people()))
            case What.KEYS | What.SWITCH:
                self._ask_switch(event)
            case What.DATABASE:
                self._strike_database(event)

    def _pick(self, event: Event) -> Service:
        found = self.system.of_kind(event.target)
        return found[event.at % len(found)]

    def _empty_disk(self, service: Service) -> None:
        service.fill_disk(full=False)
        if service.name == "hsm":
            # A log that could not be written is written no more: the service ends its work, and is started again.
            service.kill()
            service.start()

    def _ask_switch(self, event: Event) -> None:
        admin = self.system.site.switch.admin
        with suppress(httpx.HTTPError, Problem):  # it may be away
            if event.what is What.KEYS:
                admin.change_keys(ACQUIRER)
            elif event.how == "amount":
                admin.add_fault("02x0", "alter", changed={4: "000000000077"})
            else:
                admin.add_fault("0xx0" if event.how == "drop" else "02x0", event.how, seconds=2.0)  # type: ignore[arg-type]

    def _strike_database(self, event: Event) -> None:
        cluster, url = self.system.cluster, self.system.database_url
        assert cluster is not None
        assert url is not None
        if event.how == "killed backend":
            with suppress(psycopg.Error, ProcessLookupError), psycopg.connect(url, autocommit=True) as db:
                query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
                for (pid,) in db.execute(query).fetchmany(1):
                    os.kill(pid, signal.SIGKILL)
            return
        cluster.kill()
        self._later(event.seconds, cluster.resume)


def _until_midnight(now: datetime) -> float:
    """Seconds until a little before the next business day in Iran."""
    local = now.astimezone(IRAN_STANDARD_TIME)
    midnight = (local + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return max(0.0, (midnight - local).total_seconds() - 1.0)


# --- quiet ------------------------------------------------------------------------------------------------------------


def _settle(system: System, crowd: Crowd, tell: Callable[[str], None]) -> list[str]:
    """Wait until nothing is open; the clocks go on while something is. What there is to note."""
    notes: list[str] = []
    book, shops = gateway_engine(system), [merchant_engine(front) for front in system.fronts]
    for step in _STEPS:
        if step:
            system.move_clocks(system.people.offset + step)
        deadline = time.monotonic() + _QUIET
        while True:
            at_shops = [_open(merchant_open, shop) for shop in shops]
            left = crowd.settle(), _open(gateway_open, book), *at_shops
            if not any(left) or time.monotonic() > deadline:
                break
            time.sleep(0.3)
        tell(f"open: {left[0]} with people, {left[1]} at the gateway, {sum(left[2:])} at shops")
        if not any(left):
            return notes
    return [*notes, f"still open at the end: {left}"]


def _open(count: Callable[[Engine], int], engine: Engine) -> int:
    try:
        return count(engine)
    except (SQLAlchemyError, sqlite3.Error):
        return 1  # nobody knows


# --- history ----------------------------------------------------------------------------------------------------------


def _history(system: System, xid: bytes) -> list[str]:
    """All that is known of one order, oldest last of each book."""
    lines: list[str] = []
    with suppress(SQLAlchemyError):
        lines += rows_about(gateway_engine(system), [gateway.schema.orders, gateway.schema.settlings], xid)
    for front in system.fronts:
        rows = rows_about(merchant_engine(front), [shop_schema.orders, shop_schema.documents, schema.requests], xid)
        lines += [f"{front.name} {row}" for row in rows]
    with sqlite3.connect(system.site.home.db / "switch.sqlite") as bank:
        query = "SELECT id, kind, state, rc, stan, amount, original, received_at, reference FROM transactions"
        lines += [
            f"bank: {row}"
            for row in bank.execute(f"{query} WHERE reference LIKE ? ORDER BY id", (f"KWBP2 {xid.hex()}%",))
        ]
    for log in sorted(system.folder.rglob("*.log")):
        if log.is_file():
            said = log.read_text("utf-8", "replace").splitlines()
            lines += [f"{log.stem}: {line}" for line in said if xid.hex() in line]
    return lines
