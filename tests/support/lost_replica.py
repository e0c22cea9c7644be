"""Replicas of the RA that are killed on the way from the database to their journal.

For each line `DATABASE FOLDER NAME STEP` that comes in, a child is the replica NAME, whose journal is in FOLDER. It
opens a case and revokes a certificate, and stands still when it first passes the step, and says so. Steps, of the case
and of the revocation: `case-stored`, `case-written` (into the journal), `case-noted`, `order-stored`, …

    python -m tests.support.lost_replica
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import ra.database  # noqa: F401  # which a store loads late, so that each child would do it by itself
from ra.record import Record
from ra.records import Application, JournalEntry, Numbers, Transition
from ra.states import State
from ra.store import Store
from runtime.database import open_database

NOW = datetime(2027, 3, 1, 9, tzinfo=UTC)
STEPS = ("case-stored", "case-written", "case-noted", "order-stored", "order-written", "order-noted")


def draft(identifier: str) -> Application:
    """A case that somebody opened and did nothing about yet."""
    return Application(
        id=identifier,
        member_class="merchant",
        state=State.DRAFT,
        version=1,
        opened_by="service:operator",
        opened_at=NOW,
        due_from=NOW,
        due_at=NOW + timedelta(days=7),
        nonce_cca=None,
        national_code=None,
        subject_id=None,
        organisation=None,
        revision=None,
        trouble=None,
    )


def serial_of(name: str, step: str) -> str:
    """The serial number (hexadecimal) of the certificate that a replica revokes."""
    return f"{name}-{step}".encode().hex()


def journal_of(folder: str | Path) -> Path:
    return Path(folder) / "ra.jsonl"


class Replica:
    """A store and a journal; `stop` is the step at which it stands still."""

    def __init__(self, database: str, folder: str | Path, name: str, stop: str = "") -> None:
        self.engine = open_database(database)
        self.store = Store(self.engine, replica=name)
        self.record = Record.open(journal_of(folder), self.store)
        self.name = name
        self._stop = stop
        self._doing = ""
        self._write, self.record._write = self.record._write, self._watched  # type: ignore[method-assign]

    def open_case(self, identifier: str) -> None:
        self._doing = "case"
        self.store.open(draft(identifier))
        self.record.catch_up()
        self._pass("case-noted")

    def revoke(self, serial: str) -> None:
        self._doing = "order"
        order = {"issuer": "merchant-ca", "serial": serial, "reason": "keyCompromise"}
        self.record.note_once("ra.revoked", f"revocation/merchant-ca/{serial}", NOW, **order)
        self._pass("order-noted")

    def close(self) -> None:
        self.record.close()
        self.engine.dispose()

    def _watched(self, transitions: Sequence[Transition], entries: Sequence[JournalEntry]) -> Numbers:
        self._pass(f"{self._doing}-stored")
        numbers = self._write(transitions, entries)
        self._pass(f"{self._doing}-written")
        return numbers

    def _pass(self, step: str) -> None:
        if step == self._stop:
            print(f"reached {os.getpid()}", flush=True)
            time.sleep(600)


def work(database: str, folder: str, name: str, step: str) -> None:
    """Open a case and revoke a certificate, both called after the replica."""
    replica = Replica(database, folder, name, step)
    replica.open_case(f"{name}-{step}")
    replica.revoke(serial_of(name, step))
    replica.close()


class Processes:
    """Makes a process for each replica, and kills it."""

    def __init__(self, made: subprocess.Popen[str]) -> None:
        self._made = made

    def killed_at(self, step: str, database: str, folder: Path, name: str) -> None:
        """Have a replica work until a step, and kill it there with SIGKILL."""
        assert self._made.stdin is not None
        assert self._made.stdout is not None
        folder.mkdir(exist_ok=True)
        self._made.stdin.write(f"{database} {folder} {name} {step}\n")
        said = self._made.stdout.readline().split()
        assert said[0] == "reached", said
        os.kill(int(said[1]), signal.SIGKILL)
        assert self._made.stdout.readline().strip() == "killed"


@contextmanager
def processes() -> Iterator[Processes]:
    """Children have the imports of one process, and nothing that was opened."""
    command = [sys.executable, "-m", "tests.support.lost_replica"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as made:
        yield Processes(made)
        made.communicate()


def main() -> None:
    """A child for each line."""
    open_database("postgresql+psycopg:///").dispose()  # loads the driver, which each child would do by itself
    while line := sys.stdin.readline():
        if os.fork() == 0:
            work(*line.split())
            os._exit(0)
        _child, status = os.wait()
        print("killed" if os.WIFSIGNALED(status) else f"ended {status}", flush=True)


if __name__ == "__main__":
    main()
