"""`kwbp registers`: the simulated registers of the outside world: fictional records, faults, messages."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from cli import output
from cli.state import existing
from registers.client import RegistersAdmin
from runtime.language import Message

app = typer.Typer(help="The simulated registers: fictional records, faults, messages.", no_args_is_help=True)

Status = Annotated[str, typer.Option(help="active, or what the register says otherwise: dissolved, closed, deceased.")]


class FaultKind(Enum):
    """Faults on the command line; see `registers.faults`."""

    SLOW = "slow"
    DRIP = "drip"
    CLOSE = "close"
    GARBAGE = "garbage"
    ENDLESS = "endless"
    CONTRADICT = "contradict"
    UNKNOWN = "unknown"
    ERROR = "error"
    ANOTHER_KEY = "another_key"
    DIFFER = "differ"


@app.command()
def company(
    company_id: Annotated[str, typer.Argument(help="National identifier, 11 digits.")],
    name: Annotated[str, typer.Argument(help="Name in the register.")],
    iban: Annotated[str | None, typer.Option(help="An account of the company's, entered at its bank.")] = None,
    status: Status = "active",
) -> None:
    """Enter a fictional company."""
    with _admin() as admin:
        admin.enter_company(company_id, name, status=status)
        if iban is not None:
            admin.enter_account(iban, [name])
    _entered(name)


@app.command()
def account(
    iban: Annotated[str, typer.Argument(help="IR and 24 digits.")],
    owner: Annotated[list[str], typer.Argument(help="Names of the owners.")],
    status: Status = "active",
) -> None:
    """Enter a fictional account and its owners."""
    with _admin() as admin:
        admin.enter_account(iban, owner, status=status)
    _entered(iban)


@app.command()
def person(
    national_code: Annotated[str, typer.Argument(help="National code, 10 digits.")],
    name: Annotated[str, typer.Argument(help="Name in the register.")],
    status: Status = "active",
) -> None:
    """Enter a fictional person."""
    with _admin() as admin:
        admin.enter_person(national_code, name, status=status)
    _entered(name)


@app.command()
def fault(
    kind: Annotated[str, typer.Argument(help="national_code, company_register, iban_owner or messages.")],
    what: Annotated[FaultKind, typer.Argument(help="What happens.")],
    count: Annotated[int, typer.Option(min=1, help="To how many requests.")] = 1,
    seconds: Annotated[float, typer.Option(min=0, help="For slow and drip.")] = 0.0,
) -> None:
    """Plan a fault for the next requests of a kind."""
    with _admin() as admin:
        admin.add_fault(kind, what.value, count=count, seconds=seconds)
    output.emit(
        {"kind": kind, "fault": what.value, "count": count},
        [output.said(Message("{what} for {kind}, {count} times", what=what.value, kind=kind, count=count))],
    )


@app.command()
def messages(phone: Annotated[str, typer.Argument(help="Mobile number, 09…")]) -> None:
    """Show the messages that a phone got."""
    with _admin() as admin:
        texts = admin.messages_to(phone)
    output.emit(texts, texts)


def _admin() -> RegistersAdmin:
    found = existing()
    return RegistersAdmin(found.settings.registers.url, found.tls("operator"))


def _entered(what: str) -> None:
    output.emit({"entered": what}, [output.said(Message("{what} is on record", what=what))])
