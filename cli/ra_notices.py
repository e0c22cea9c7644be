"""`kwbp ra notices`: what could not be told to applicants and officers, and to have it told after all."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import enrolment, output
from cli.output import plain
from cli.state import existing
from ra.client import NoticeState
from runtime.language import Message

app = typer.Typer(help="Notices to applicants and officers: what was not delivered.", no_args_is_help=False)


@app.callback(invoke_without_command=True)
def list_notices(
    context: typer.Context,
    state: Annotated[
        list[NoticeState] | None,
        typer.Option(help="Notices in this state; may be repeated.", show_default="UNDELIVERED"),
    ] = None,
) -> None:
    """Show the notices that could not be delivered, newest first."""
    if context.invoked_subcommand is not None:
        return
    found = existing()
    with enrolment.ra(found, found.tls("operator")) as client:
        rows = client.notices(states=state or ())
    output.table(
        "Notices",
        ("Notice", "Event", "To", "State", "Attempts", "Of", "Trouble"),
        [
            (
                row.id,
                row.event,
                plain(row.recipient),
                row.state.value,
                str(row.attempts),
                f"{row.at:%F %H:%M}",
                plain(row.trouble or ""),
            )
            for row in rows
        ],
        document=[row.model_dump(mode="json") for row in rows],
    )


@app.command()
def retry(
    notice: Annotated[str | None, typer.Argument(help="Its identifier; without it, all of them.")] = None,
) -> None:
    """Have an undelivered notice delivered after all, in the next round. It says that it may be a repeat."""
    found = existing()
    with enrolment.ra(found, found.tls("operator")) as client:
        count = client.retry_notices(notice)
    output.emit({"count": count}, [output.said(Message("{count} notices wait for their next attempt", count=count))])
