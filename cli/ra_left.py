"""`kwbp ra left-behind`, `kwbp ra accept-database`: after a replica, or the RA's database, was lost."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Annotated

import typer

from cli import output
from cli.output import plain
from cli.ra_desk import desk
from cli.state import existing
from ra.client import SeenJournal
from runtime.language import Message

app = typer.Typer(
    help="""What a replica of the RA that was lost had stored and written into no journal.

    Start the replica again if you can, here or on another machine with its whole home: it writes what it left, and
    nothing is to be taken over. See docs/operations.md.
    """,
    no_args_is_help=False,
)


@app.callback(invoke_without_command=True)
def list_left(context: typer.Context) -> None:
    """Show what waits, by replica, the oldest first."""
    if context.invoked_subcommand is not None:
        return
    with desk(existing()) as client:
        rows = client.left_behind()
    output.table(
        "Left behind",
        ("Replica", "Entries", "Since"),
        [(plain(row.replica), str(row.count), f"{row.since:%F %H:%M:%S}") for row in rows],
        document=[row.model_dump(mode="json", exclude={"keys"}) for row in rows],
    )


@app.command("take")
def take(
    replica: Annotated[str, typer.Argument(help="Its name, as 'kwbp ra left-behind' shows it.")],
    journal: Annotated[
        Path | None,
        typer.Option(help="Its journal, audit/ra.jsonl of its home, as it was when the replica ended.", exists=True),
    ] = None,
    journal_is_gone: Annotated[
        bool, typer.Option("--journal-is-gone", help="It is lost for good: the replica is given up, and never starts.")
    ] = False,
) -> None:
    """Have what a lost replica left written into the journal of the replica that answers here.

    What stands in the lost one's journal is not written again.
    """
    if (journal is None) is not journal_is_gone:
        output.fail(
            Message(
                "say where its journal is ({one}), or that there is none any more ({other})",
                one="--journal",
                other="--journal-is-gone",
            )
        )
    with desk(existing()) as client:
        keys = {key for row in client.left_behind() if row.replica == replica for key in row.keys}
        done = client.take_over(replica, None if journal is None else _seen(journal, keys))
    output.emit(
        done.model_dump(),
        [
            output.said(
                Message(
                    "{noted} stood in its journal, {written} are written now", noted=done.noted, written=done.written
                )
            )
        ],
    )


def accept_database(
    reason: Annotated[str, typer.Option(help="What was lost, and who decided to go on, in a sentence.")],
) -> None:
    """Go on with a database of the RA that lacks what its journal records: the newer one is lost for good.

    Put the newest copy of the database back first. The service must not run. The acceptance is an entry of the journal;
    what the database lacks stays in the journal, and its certificates with the CA ('kwbp ca search'). Each replica on
    that database accepts it.
    """
    from ra.record import accept_database as accept
    from ra.store import Store
    from runtime.database import open_database
    from runtime.replica import replica_name

    found = existing()
    path = found.home.audit / "ra.jsonl"
    if not path.exists():
        output.fail(Message("there is no journal here: nothing is to be accepted"))
    engine = open_database(found.settings.ra.database or found.home.db / "ra.sqlite")
    try:
        store = Store(engine, replica=replica_name(found.home.audit / "ra.replica", os.urandom))
        missing = accept(path, store, by="service:operator", reason=reason)
    finally:
        engine.dispose()
    output.emit(
        {"missing": missing},
        [output.said(Message("accepted; {count} transitions of the journal are in no database", count=missing))],
    )


def _seen(path: Path, keys: set[str]) -> SeenJournal:
    """A journal that is open nowhere, verified: its size, and which of these keys stand in it."""
    from audit import read, verify

    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            output.fail(
                Message("that replica is running: it writes itself what it left"),
                hint=Message("end it first, if it does not"),
            )
        verify(path)
        recorded: dict[str, int] = {}
        size = 0
        for entry in read(path):
            size = entry.index + 1
            if isinstance(key := entry.entry.get("key"), str) and key in keys:
                recorded[key] = entry.index
        return SeenJournal(size=size, searched=tuple(sorted(keys)), recorded=recorded)
