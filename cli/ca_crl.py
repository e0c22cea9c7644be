"""`kwbp ca crl`: the revocation lists in force; a new one now; downloads."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from ca.api import CrlAnswer
from ca.client import CaClient
from cli import output
from cli.ca_service import LOOK, moment, service
from cli.enrolment import now
from cli.state import existing


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=LOOK)(crl)


def crl(
    issue: Annotated[
        list[str] | None, typer.Option(help="Have the next list of this authority signed now; may be repeated.")
    ] = None,
    issuer: Annotated[str | None, typer.Option(help="Only the lists of this authority.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write the lists to, DER.")] = None,
) -> None:
    """Show the revocation lists in force: full ones, deltas over them, partitions.

    They are signed by themselves, after every change and before the last one ends. The root's is signed at a ceremony.
    'Waiting' counts changes of status that are not on a list yet: see 'kwbp ca deadlines'.
    """
    with service(existing()) as client:
        for name in issue or ():
            made = client.publish_crl(name)
            output.done(f"{name}: list {made.number} ({made.scope}), {made.entries} entries")
        lists = [each for each in client.crls() if issuer in (None, each.issuer)]
        if out is not None:
            for each in lists:
                download(client, each, out)
    time = now()
    output.table(
        "Revocation lists in force",
        ("Issuer", "Scope", "Number", "Entries", "Age", "Next update", "Waiting"),
        [
            (each.issuer, _scope(each), each.number, each.entries, _age(each, time), _next(each, time), each.waiting)
            for each in lists
        ],
        document=[each.model_dump(mode="json") for each in lists],
    )


def download(client: CaClient, wanted: CrlAnswer, folder: Path) -> Path:
    """Write one list to <folder>/<issuer>-<scope>.crl, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{wanted.issuer}-{wanted.scope}.crl"
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        client.download_crl(wanted.issuer, wanted.scope, file)
    return part.replace(path)


def _scope(each: CrlAnswer) -> str:
    return each.scope if each.base_number is None else f"{each.scope} over {each.base_number}"


def _age(each: CrlAnswer, time: datetime) -> str:
    minutes = max(0, int((time - each.this_update).total_seconds() // 60))
    return f"{minutes // 60}:{minutes % 60:02}"


def _next(each: CrlAnswer, time: datetime) -> str:
    return f"{moment(each.next_update)}{' ENDED' if each.next_update <= time else ''}"
