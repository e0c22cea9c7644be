"""`kwbp bank faults`: make the running simulator misbehave, and see what waits; `kwbp bank page`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from cli import output
from cli.bank_controls import running
from cli.state import existing
from runtime.language import Message
from switch.client import admin_url
from switch.faults import KINDS, Fault

FaultKind = Enum("FaultKind", {kind.upper(): kind for kind in KINDS})  # type: ignore[misc]  # as switch.faults has them

_COLUMNS = ("Fault", "Messages", "Count", "Probability", "Seconds", "Response code", "Card")

faults = typer.Typer(help="Faults on demand: what the simulated network does to messages.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Hang the commands into `kwbp bank`."""
    app.add_typer(faults, name="faults")
    app.command()(page)


@faults.command("set")
def set_fault(
    kind: Annotated[FaultKind, typer.Argument(help="What happens to the messages or their answers.")],
    mti: Annotated[str, typer.Option(help="Which requests: 0200, 042x …; x is any digit.")] = "0200",
    count: Annotated[int, typer.Option(min=1, help="How many times.")] = 1,
    probability: Annotated[float, typer.Option(min=0.000001, max=1, help="How likely each time.")] = 1.0,
    seconds: Annotated[float, typer.Option(min=0, max=3600, help="For a delay.")] = 0.0,
    rc: Annotated[str, typer.Option(help="Response code, for a refusal.")] = "91",
    card: Annotated[str | None, typer.Option(help="Only cards that end with these four digits.")] = None,
    field: Annotated[
        list[str] | None, typer.Option(help="For alter: NUMBER=VALUE of a field of the answer; may be repeated.")
    ] = None,
) -> None:
    """Make the running simulator misbehave for the next messages."""
    try:
        fault = Fault.model_validate(
            {
                "mti": mti,
                "kind": kind.value,
                "count": count,
                "probability": probability,
                "seconds": seconds,
                "rc": rc,
                "card": card,
                "fields": dict(each.split("=", 1) for each in field or ()),
            }
        )
    except ValueError:
        output.fail(
            Message("this is no fault"),
            hint=Message(
                "an MTI is 0200 or 042x, a card four digits, a response code two; delay needs --seconds, "
                "alter needs --field NUMBER=VALUE"
            ),
        )
    with running() as admin:
        admin.add(fault)
    output.emit(
        fault.model_dump(mode="json"),
        [output.said(Message("The next {count} of {mti}: {kind}.", count=count, mti=mti, kind=kind.value))],
    )


@faults.command("list")
def list_faults() -> None:
    """Show the faults that have not happened yet."""
    with running() as admin:
        waiting = admin.faults()
    output.table(
        "Faults",
        _COLUMNS,
        [
            (each.kind, each.mti, each.count, each.probability, each.seconds, each.rc, each.card or "")
            for each in waiting
        ],
        document=[each.model_dump(mode="json") for each in waiting],
    )


@faults.command("clear")
def clear_faults() -> None:
    """Forget all faults."""
    with running() as admin:
        admin.clear_faults()
    output.emit({"cleared": True}, [output.said(Message("No fault waits any more."))])


@faults.command("break-lines")
def break_lines() -> None:
    """Abort every connection of the line, as a network that fails."""
    with running() as admin:
        admin.break_connections()
    output.emit({"broken": True}, [output.said(Message("All lines are broken."))])


def page() -> None:
    """Show where the simulator's page is, and where the token is that it asks for."""
    found = existing()
    url = f"{admin_url(found.home, found.settings.switch)}/page/"
    token = str(found.home.secrets / "switch-admin-token")
    output.emit(
        {"url": url, "token": token},
        [output.said(Message("{url}; it asks for the token in {file}.", url=url, file=token))],
    )
