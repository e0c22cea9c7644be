"""`kwbp bank`: the counter of the banks behind the switch simulator: accounts, cards, statements, faults on demand."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer

from cli import bank_faults, output, typed_days
from cli.bank_controls import controls
from cli.state import Installation, existing
from runtime.language import Message
from shetab.errors import ValueFormatError
from shetab.types import Cvv2, Expiry, Pan, Pin, Rial
from switch.client import SwitchAdmin
from switch.errors import BankError

if TYPE_CHECKING:
    from switch.bank import Bank

app = typer.Typer(help="The banks behind the switch simulator: accounts, cards, faults.", no_args_is_help=True)
bank_faults.add_to(app)

DEFAULT_BIN = "603770"
_LOOK_AGAIN = 0.1


@dataclass(frozen=True, slots=True, repr=False)
class CardData:
    """What is printed on a card and its PIN letter. Has no repr."""

    pan: Pan
    expiry: Expiry
    cvv2: Cvv2
    pin2: Pin


@app.command("open-account")
def open_account(
    holder: Annotated[str, typer.Option(help="Name of the account's holder.")],
    balance: Annotated[int, typer.Option(min=0, help="First deposit in rial.")] = 0,
    bank_bin: Annotated[str, typer.Option("--bin", help="BIN of the bank, a member of the network.")] = DEFAULT_BIN,
    national_code: Annotated[str | None, typer.Option(help="The holder's national code, 10 digits.")] = None,
    phone: Annotated[
        str | None, typer.Option(help="Where one-time passwords go, 09 and nine digits; made up without it.")
    ] = None,
) -> None:
    """Open a deposit account (scenario A)."""
    with counter(existing()) as bank:
        account = bank.open_account(
            bank_bin, holder=holder, national_code=national_code, balance=Rial(balance), phone=phone
        )
    output.emit(
        {"iban": account.iban, "bank": account.bank, "balance": account.balance},
        [f"Account {account.iban} at {account.bank}, balance {output.rial(account.balance)}."],
    )


@app.command("issue-card")
def issue_card(
    iban: Annotated[str, typer.Option(help="The account that the card debits.")],
    years: Annotated[int, typer.Option(min=1, max=10, help="Jalali years for which the card is valid.")] = 3,
) -> None:
    """Issue a card on an account. Its data are shown this one time and stored nowhere in clear."""
    with counter(existing()) as bank:
        card = bank.issue_card(iban, years=years)
    shown = {
        "card_id": card.card_id,
        "pan": card.pan.reveal(),
        "expiry": card.expiry.reveal(),
        "cvv2": card.cvv2.reveal(),
        "pin2": card.pin2.reveal(),
    }
    year, month = shown["expiry"][:2], shown["expiry"][2:]
    output.emit(
        shown,
        [
            f"Card {shown['pan']}  expiry {month}/{year}  CVV2 {shown['cvv2']}  PIN2 {shown['pin2']}",
            "Keep them: nobody can show them again.",
        ],
    )


@app.command("static-pin2")
def static_pin2(
    card_id: Annotated[str, typer.Argument(help="The card, as issue-card named it.")],
    allowed: Annotated[bool, typer.Option("--allow/--forbid", help="Whether PIN2 pays with this card.")],
) -> None:
    """Say whether PIN2 pays with a card, or a one-time password alone."""
    with counter(existing()) as bank:
        bank.set_static_pin2(card_id, allowed)
    output.emit(
        {"card_id": card_id, "static_pin2": allowed}, [f"{card_id}: PIN2 {'pays' if allowed else 'does not pay'}."]
    )


@app.command()
def messages(
    card_id: Annotated[str, typer.Argument(help="The card, as issue-card named it.")],
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for one that is not there yet.")] = 0.0,
) -> None:
    """Show what the running simulator's banks have sent to the telephone of a card's holder: one-time passwords."""
    admin = controls(existing())
    if admin is None:
        output.fail("the simulator has never run here", hint="start it with 'kwbp serve'")
    deadline = time.monotonic() + wait
    try:
        found = admin.messages(card_id)
        while not found and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN)
            found = admin.messages(card_id)
    finally:
        admin.close()
    output.emit(
        {
            "messages": [
                {
                    "number": each.number,
                    "password": each.password,
                    "amount": each.amount,
                    "merchant": each.merchant,
                    "valid_until": each.valid_until.isoformat(),
                }
                for each in found
            ]
        },
        [line for each in found for line in (f"{each.number}:", *each.text.splitlines())],
    )


@app.command("cut-over")
def cut_over(
    day: Annotated[
        date | None,
        typer.Argument(
            parser=typed_days.business_day, help="The business day from now on; without it, the calendar's."
        ),
    ] = None,
) -> None:
    """Have the network count in another business day from now on (DE 15)."""
    with counter(existing()) as bank:
        open_day = bank.cut_over(day)
    output.emit(
        {"day": open_day.isoformat()}, [output.said(Message("The network counts in {day}.", day=open_day.isoformat()))]
    )


@app.command()
def balance(iban: Annotated[str, typer.Argument(help="The account.")]) -> None:
    """Show the balance of an account."""
    with counter(existing()) as bank:
        account = bank.account(iban)
    output.emit(
        {"iban": account.iban, "holder": account.holder, "balance": account.balance},
        [f"{account.iban}  {output.plain(account.holder)}  {output.rial(account.balance)}"],
    )


@app.command()
def settle(
    acquirer: Annotated[str | None, typer.Option(help="The acquirer's code; that of the gateway by default.")] = None,
) -> None:
    """Show what the acquirer owes each merchant: the settle line."""
    found = existing()
    with counter(found) as bank:
        totals = bank.merchant_totals(acquirer or found.settings.gateway.acquirer_bin)
    output.table(
        "Settlement",
        ("Merchant", "Sales", "Reversed", "Amount"),
        [(total.merchant, total.sales, total.reversed, total.amount) for total in totals],
    )


@app.command("register-acquirer")
def register_acquirer(
    name: Annotated[str, typer.Option(help="Name of the acquirer.")] = "KWBP acquirer",
    code: Annotated[str | None, typer.Option(help="Its code; that of the gateway by default.")] = None,
) -> None:
    """Make an acquirer known to the switch, with its intermediary account."""
    found = existing()
    with counter(found) as bank:
        account = bank.register_acquirer(code or found.settings.gateway.acquirer_bin, name)
    output.emit({"intermediary": account.iban}, [f"Intermediary account {account.iban}."])


@app.command("change-keys")
def change_keys(
    code: Annotated[str | None, typer.Option(help="Code of the acquirer; that of the gateway by default.")] = None,
) -> None:
    """Send an acquirer that has signed on its next zone keys, without being asked."""
    found = existing()
    admin = controls(found)
    if admin is None:
        output.fail("the simulator has never run here", hint="start it with 'kwbp serve'")
    try:
        sent = admin.change_keys(code or found.settings.gateway.acquirer_bin)
    finally:
        admin.close()
    output.emit({"sent": sent}, [output.said(Message("Sent: {keys}.", keys=", ".join(sent)))])


@app.command("settlement-list")
def settlement_list(
    day: Annotated[date, typer.Argument(parser=typed_days.business_day, help=f"Business day: {typed_days.HELP}")],
    out: Annotated[Path, typer.Option(help="File to write.")],
) -> None:
    """Write the switch's signed list of what it counted of a day, for 'kwbp gateway reconcile --import'."""
    found = existing()
    admin = controls(found)
    if admin is None:
        output.fail("the simulator has never run here", hint="start it with 'kwbp serve'")
    try:
        content = admin.settlement_list(found.settings.gateway.acquirer_bin, day)
    finally:
        admin.close()
    out.write_bytes(content)
    output.emit({"file": str(out), "bytes": len(content)}, [output.plain(f"Written to {out}.")])


@contextmanager
def counter(found: Installation) -> Iterator[Bank | SwitchAdmin]:
    """The bank's counter: of the running simulator if there is one, else on its database."""
    admin = controls(found)
    try:
        if admin is not None and _answers(admin):
            yield admin
        else:
            # Only now: it brings the database along, which the other case does without.
            from switch.service import open_bank

            yield open_bank(found.home)
    except (BankError, ValueFormatError) as error:
        output.fail(str(error))
    finally:
        if admin is not None:
            admin.close()


def _answers(admin: SwitchAdmin) -> bool:
    try:
        admin.faults()
    except (httpx.HTTPError, OSError):
        return False
    return True


def read_card() -> CardData:
    """Card data as JSON from standard input, as `kwbp --json bank issue-card` prints them."""
    try:
        document: dict[str, Any] = json.load(sys.stdin)
        return CardData(
            Pan.parse(document["pan"]),
            Expiry.parse(document["expiry"]),
            Cvv2.parse(document["cvv2"]),
            Pin.parse(document["pin2"]),
        )
    except (ValueError, KeyError, TypeError):
        # Nothing of the input may be in the message: it is card data.
        output.fail(
            "standard input has no card data", hint='expected {"pan": …, "expiry": "YYMM", "cvv2": …, "pin2": …}'
        )
