"""`kwbp gateway reconcile`, `settle`, `payment …`, `ledger`, `report`: the acquirer's money, for its people.

Reconcile a day with the network, decide its differences, pay out what is closed, hand the payment file to the bank,
take in what the bank says. One officer makes a payment file, another sends it: `--as` names who acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer

from cli import output, typed_days
from cli.gateway_officer import gateway_as
from cli.gateway_orders import Person, moment, reason
from cli.key_approval import PassphraseFile
from cli.state import existing
from runtime.client import raise_problem
from runtime.language import Message

payment_app = typer.Typer(
    help="Payment files for the bank, and what it answers: make, then send by another person, then answer.",
    no_args_is_help=True,
)


_PATIENCE = 20
"""Seconds that the networks have to answer before the days are shown as they stand."""


class Format(Enum):
    """Of a report."""

    CSV = "csv"
    PDF = "pdf"


class Tongue(Enum):
    """Of a report."""

    EN = "en"
    FA = "fa"


class Decision(Enum):
    """What a person says of a difference."""

    EXPLAIN = "explain"
    CORRECT = "correct"


LEFT: Mapping[str, Message] = {
    "not-ended": Message("the network still counts in this day; it is closed by itself when that ends"),
    "not-compared": Message(
        "the network has not said its totals since the day ended; it is asked again by itself, "
        "or now with 'kwbp gateway reconcile'"
    ),
    "undecided": Message("something of it is not decided yet; 'kwbp gateway orders' shows what"),
    "totals-differ": Message(
        "the network has other totals; take in its list with 'kwbp gateway reconcile --import FILE'"
    ),
    "differences-open": Message("differences wait for a decision; 'kwbp gateway differences' shows them"),
    "no-account": Message("the merchant has no account yet; register one with 'kwbp gateway add-merchant … --iban'"),
    "account-not-bound": Message(
        "the registered account is not that of the merchant's certificate; one of the two must be put right"
    ),
}
"""Why a day is not paid out (`gateway.acquirer.payout.Left`), and what to do next."""
_AMONG_DIFFERENCES: Final = Message(
    "No such difference: 'kwbp gateway reconcile' shows which merchants and days there are, --all what is decided."
)
_AMONG_PAYOUTS: Final = Message(
    "Nothing was paid to such a merchant for such a day: 'kwbp gateway reconcile' shows which there are."
)
_AMONG_ACCOUNTS: Final = Message(
    "Nothing was ever booked in an account of this name: 'kwbp gateway ledger' shows the accounts."
)
Day = Annotated[
    date | None, typer.Option("--day", parser=typed_days.business_day, help=f"Business day: {typed_days.HELP}")
]
Reason = Annotated[str, typer.Option(help="Why, in 3 to 400 characters; it is kept with your name.", callback=reason)]
MerchantId = Annotated[str | None, typer.Option("--merchant", help="Merchant id.")]
Number = Annotated[int, typer.Argument(help="Number of the payment file.", parser=typed_days.number)]


def install(app: typer.Typer) -> None:
    """Add the commands to `kwbp gateway`."""
    for command in (reconcile, differences, decide, settle, settlements, ledger, report):
        app.command()(command)
    app.add_typer(payment_app, name="payment")


# --- reconciliation ---------------------------------------------------------------------------------------------------


def reconcile(
    day: Day = None,
    merchant: MerchantId = None,
    list_: Annotated[Path | None, typer.Option("--import", help="The network's settlement list to take in.")] = None,
    route: Annotated[str, typer.Option(help="Name of the connector whose network made the list.")] = "switch",
    person: Person = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Compare open business days with the network (0500), or take in its list of a day; then show how they stand."""
    with gateway_as(existing(), person, passphrase_file) as client:
        if list_ is not None:
            taken = _said(client.post("/v1/settlement-lists", params={"route": route}, content=_read(list_)))
            if output.json_wanted():
                output.emit(taken)
            else:
                _differences(client, {"day": taken["business_day"]})
            return
        asked = {"wait": _PATIENCE}
        compared = _said(client.post("/v1/reconciliations:compare", params=asked, json=_which(day, merchant)))
        rows = _said(client.get("/v1/reconciliations", params=_which(day, merchant)))
    output.table(
        "Business days",
        ("Merchant", "Day", "Route", "State", "Ours", "Theirs", "Booked"),
        [
            (
                row["merchant_id"],
                row["business_day"],
                row["route"],
                row["state"],
                net_of(row["own"]),
                net_of(row["theirs"]),
                row["booked"],
            )
            for row in rows
        ],
        document=rows,
    )
    if not rows:
        output.note(output.said(Message("No money was moved for such a merchant on such a day.")))
    if compared["unanswered"]:
        message = Message(
            "Not compared yet, because no network has answered: {count} days.", count=compared["unanswered"]
        )
        output.note(output.said(message))


def net_of(sums: dict[str, str] | None) -> int | None:
    """DE 97 of sums, in rial: C is the merchant's, D the acquirer's."""
    net = (sums or {}).get("97")
    return None if net is None else int(net[1:]) * (1 if net[0] == "C" else -1)


def differences(
    day: Day = None,
    merchant: MerchantId = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that are decided.")] = False,
    person: Person = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Show where the network's lists and our books differ, movement by movement."""
    with gateway_as(existing(), person, passphrase_file) as client:
        _differences(client, _which(day, merchant) | ({} if every else {"state": "OPEN"}))


def decide(
    number: Annotated[int, typer.Argument(help="Number of the difference.", parser=typed_days.number)],
    decision: Annotated[Decision, typer.Argument(help="explain: no booking is needed; correct: book it to suspense.")],
    reason: Reason,
    excess: Annotated[
        int | None,
        typer.Option(
            parser=typed_days.whole,
            help="Rial in the column Excess when you looked; if a newer list says otherwise by now, nothing is done.",
        ),
    ] = None,
    person: Person = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Explain a difference, or take it into the books.

    \b
    kwbp gateway differences                                  # column Excess: what the network pays beyond our books
    kwbp gateway decide 7 correct --excess -40000 --reason "void at the bank, letter 31"
    kwbp gateway decide 8 explain --excess 50000 --reason "counted in the next day"
    """
    body = {"decision": {"explain": "EXPLAINED", "correct": "CORRECTED"}[decision.value], "reason": reason}
    body |= _query({"excess": excess})
    with gateway_as(existing(), person, passphrase_file) as client:
        row = _said(client.post(f"/v1/differences/{number}:decide", json=body))
    output.emit(row, [output.said(Message("Difference {number}: {state}.", number=number, state=row["state"]))])


def _differences(client: httpx.Client, which: Mapping[str, Any]) -> None:
    rows = _said(client.get("/v1/differences", params=which))
    numbers, amounts = ("number", "merchant_id", "business_day", "kind", "rrn", "stan"), ("own_amount", "their_amount")
    names = (*numbers, *amounts, "excess", "state")
    titles = ("Number", "Merchant", "Day", "Kind", "RRN", "STAN", "Ours", "Theirs", "Excess", "State")
    output.table("Differences", titles, [[row[name] for name in names] for row in rows], document=rows)
    if not rows and ("day" in which or "merchant_id" in which):
        _nothing_of_these(_AMONG_DIFFERENCES)


# --- payouts ----------------------------------------------------------------------------------------------------------


def settle(
    day: Day = None, merchant: MerchantId = None, person: Person = None, passphrase_file: PassphraseFile = None
) -> None:
    """Pay out every closed business day that was not: net of the day, fees deducted.

    A day is closed by itself: after its end the gateway asks the network until the totals agree. Days that are not paid
    out are told, with the reason and what to do. The bank gets nothing yet: see 'kwbp gateway payment'.
    """
    with gateway_as(existing(), person, passphrase_file) as client:
        done = _said(client.post("/v1/payouts", json=_which(day, merchant)))
    if output.json_wanted():
        output.emit(done)
        return
    _payouts(done["made"])
    _left(done["left"])
    if not done["made"] and not done["left"]:
        output.note(output.said(Message("No day waits to be paid out: 'kwbp gateway settlements' shows what was.")))


def _left(days: list[dict[str, Any]]) -> None:
    """Which days were not paid out, why, and what to do about it."""
    for each in days:
        why = LEFT.get(each["reason"]) or Message(each["reason"])
        told = {"merchant": each["merchant_id"], "day": each["business_day"], "why": why}
        output.note(output.said(Message("Not paid out: {merchant}, {day}: {why}.", **told)))


def settlements(
    day: Day = None, merchant: MerchantId = None, person: Person = None, passphrase_file: PassphraseFile = None
) -> None:
    """Show what is paid to merchants, and how far it is."""
    with gateway_as(existing(), person, passphrase_file) as client:
        rows = _said(client.get("/v1/payouts", params=_which(day, merchant)))
    _payouts(rows)
    if not rows and (day, merchant) != (None, None):
        _nothing_of_these(_AMONG_PAYOUTS)


def _payouts(rows: list[dict[str, Any]]) -> None:
    names = ("reference", "merchant_id", "business_day", "gross", "fees", "brought_forward", "amount", "state", "file")
    titles = ("Reference", "Merchant", "Day", "Gross", "Fees", "Brought forward", "Paid", "State", "File")
    output.table("Settlements", titles, [[row[name] for name in names] for row in rows], document=rows)


@payment_app.command()
def make(
    out: Annotated[Path | None, typer.Option(help="Write the file there too.")] = None,
    person: Person = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a payment file (ISO 20022 pain.001) of all payouts that are in none. For an officer; another sends it."""
    with gateway_as(existing(), person, passphrase_file) as client:
        made = _said(client.post("/v1/payment-files"))
        if out is not None:
            _fetch(client, made["number"], out)
    lines = [f"Payment file {made['number']}: {made['count']} payouts, {made['total']} rial.", f"  {made['digest']}"]
    output.emit(made, lines)
    _left(made["left"])


@payment_app.command("list")
def list_files(person: Person = None, passphrase_file: PassphraseFile = None) -> None:
    """Show the payment files."""
    with gateway_as(existing(), person, passphrase_file) as client:
        rows = _said(client.get("/v1/payment-files"))
    titles = ("Number", "Message", "Payouts", "Rial", "Made", "By")
    names = ("number", "message_id", "count", "total")
    shown = [[*(row[name] for name in names), moment(row["made_at"]), row["made_by"]] for row in rows]
    output.table("Payment files", titles, shown, document=rows)


@payment_app.command()
def export(
    number: Number,
    out: Annotated[Path, typer.Option(help="File to write.")],
    table: Annotated[bool, typer.Option("--csv", help="As CSV instead of pain.001.")] = False,
    person: Person = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write a payment file for the bank."""
    with gateway_as(existing(), person, passphrase_file) as client:
        _fetch(client, number, out, "csv" if table else "xml")
    output.emit({"file": str(out)}, [output.plain(f"Written to {out}.")])


@payment_app.command()
def send(
    number: Number,
    file: Annotated[Path, typer.Option(help="The pain.001 that you looked at and give to the bank.")],
    person: Person = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Say that the bank gets this payment file now. For another officer than made it or its payouts."""
    digest = sha256(_read(file)).hexdigest()
    with gateway_as(existing(), person, passphrase_file) as client:
        _payouts(_said(client.post(f"/v1/payment-files/{number}:send", json={"digest": digest})))


@payment_app.command()
def withdraw(number: Number, person: Person = None, passphrase_file: PassphraseFile = None) -> None:
    """Say that the bank does not get this payment file: the next one has its payouts."""
    with gateway_as(existing(), person, passphrase_file) as client:
        done = _said(client.post(f"/v1/payment-files/{number}:withdraw"))
    output.emit(done, [f"Payment file {number} is withdrawn: {done['payouts']} payouts."])


@payment_app.command()
def answer(
    file: Annotated[Path, typer.Argument(help="pain.002, or CSV with reference,status,reason (PAID, RETURNED).")],
    person: Person = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Take in what the bank says of payouts."""
    with gateway_as(existing(), person, passphrase_file) as client:
        _payouts(_said(client.post("/v1/bank-answers", content=_read(file))))


@payment_app.command()
def again(
    reference: Annotated[str, typer.Argument(help="Reference of a payout that the bank returned.")],
    person: Person = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Pay a returned payout once more, to the account that is registered now."""
    with gateway_as(existing(), person, passphrase_file) as client:
        _payouts([_said(client.post(f"/v1/payouts/{reference}:again"))])


# --- books and reports ------------------------------------------------------------------------------------------------


def ledger(
    account: Annotated[str | None, typer.Argument(help="An account, for its last lines; or 'verify'.")] = None,
    through: Annotated[
        date | None, typer.Option(parser=typed_days.business_day, help=f"Up to this business day: {typed_days.HELP}")
    ] = None,
    person: Person = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Show the ledger's accounts, one account's lines, or verify the ledger against what caused it ('verify')."""
    with gateway_as(existing(), person, passphrase_file) as client:
        if account == "verify":
            _verified(_said(client.get("/v1/ledger-verification")))
            return
        if account is not None:
            rows = _said(client.get(f"/v1/ledger/{account}"))
            names = ("business_day", "cause_kind", "cause", "amount", "balance")
            titles = ("Day", "Cause", "Of", "Amount", "Balance")
            output.table(account, titles, [[row[name] for name in names] for row in rows], document=rows)
            if not rows:
                _nothing_of_these(_AMONG_ACCOUNTS)
            return
        rows = _said(client.get("/v1/ledger", params=_query({"through": through and through.isoformat()})))
    sums = [(row["account"], row["debits"], row["credits"], row["balance"]) for row in rows]
    output.table("Ledger", ("Account", "Debits", "Credits", "Balance"), sums, document=rows)


def _verified(findings: list[dict[str, Any]]) -> None:
    if output.json_wanted():
        output.emit(findings)
    elif not findings:
        output.emit({}, [output.said(Message("The ledger is what its causes make of it."))])
    else:
        rows = [(each["fault"], each["cause_kind"], each["cause"]) for each in findings]
        output.table("Ledger", ("Fault", "Cause", "Of"), rows)
    if findings:
        raise typer.Exit(1)


def report(
    day: Annotated[date, typer.Option(parser=typed_days.business_day, help=f"Business day: {typed_days.HELP}")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    merchant: MerchantId = None,
    form: Annotated[Format, typer.Option("--format", help="csv or pdf.")] = Format.CSV,
    lang: Annotated[Tongue, typer.Option(help="en or fa.")] = Tongue.EN,
    bom: Annotated[bool, typer.Option("--bom", help="CSV begins with U+FEFF, for spreadsheets.")] = False,
    person: Person = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write the report of a business day: of one merchant, or of all at a glance."""
    query = _query({"merchant_id": merchant, "format": form.value, "lang": lang.value, "bom": bom})
    with gateway_as(existing(), person, passphrase_file) as client:
        content = raise_problem(client.get(f"/v1/reports/{day.isoformat()}", params=query)).content
    out.write_bytes(content)
    output.emit({"file": str(out), "bytes": len(content)}, [output.plain(f"Written to {out}.")])


# --- inside -----------------------------------------------------------------------------------------------------------


def _said(response: httpx.Response) -> Any:
    return raise_problem(response).json()


def _fetch(client: httpx.Client, number: int, out: Path, form: str = "xml") -> None:
    out.write_bytes(raise_problem(client.get(f"/v1/payment-files/{number}", params={"format": form})).content)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        output.fail(f"{path} cannot be read: {error.strerror}")


def _nothing_of_these(told: Message) -> None:
    """An empty table may be good news, or a name that is mistyped."""
    output.note(output.said(told))


def _which(day: date | None, merchant: str | None) -> dict[str, Any]:
    return _query({"day": day and day.isoformat(), "merchant_id": merchant})


def _query(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
