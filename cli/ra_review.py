"""`kwbp ra review`: what one officer ordered alone, and another officer's second look at it (CPS 4.9.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import enrolment, output
from cli.enrolment import now
from cli.output import plain
from cli.state import existing
from cps.review import Judgement
from ra.officer import draft_review
from ra.wire import ReviewView
from runtime.language import Message

app = typer.Typer(help="Revocations that one officer ordered alone: another looks at them.", no_args_is_help=False)

Order = Annotated[
    str, typer.Argument(help="The order, as 'kwbp ra review' shows it, or how it begins.", metavar="ORDER")
]
AsPerson = Annotated[str, typer.Option("--as", help="The officer who reviews; another one than ordered it.")]
Why = Annotated[str, typer.Option("--reason", help="What you found, in a sentence; part of what is signed.")]
PassphraseFile = Annotated[
    Path | None, typer.Option(help="File of mode 0600 with the officer's passphrase; without it you are asked.")
]


@app.callback(invoke_without_command=True)
def list_reviews(context: typer.Context) -> None:
    """Show the orders that wait for a review, the most urgent first."""
    if context.invoked_subcommand is not None:
        return
    found = existing()
    with enrolment.ra(found, found.tls("operator")) as client:
        rows = client.reviews()
    output.table(
        "Orders to review",
        ("Order", "Certificate", "Reason", "Ordered by", "Review by"),
        [
            (row.order_sha256[:16], row.serial, row.reason, plain(row.ordered_by), f"{row.due_at:%F %H:%M}")
            for row in rows
        ],
        document=[row.model_dump(mode="json") for row in rows],
    )


@app.command()
def confirm(order: Order, person: AsPerson, reason: Why, passphrase_file: PassphraseFile = None) -> None:
    """Sign that the order was justified."""
    _review(order, Judgement.JUSTIFIED, person, reason, passphrase_file)


@app.command("object")
def object_to(order: Order, person: AsPerson, reason: Why, passphrase_file: PassphraseFile = None) -> None:
    """Sign that the order was not justified. The certificate stays revoked; what you found is on record."""
    _review(order, Judgement.UNJUSTIFIED, person, reason, passphrase_file)


def _review(order: str, judgement: Judgement, person: str, reason: str, passphrase_file: Path | None) -> None:
    found = existing()
    signer, who = enrolment.acting(found, person, passphrase_file)
    with enrolment.ra(found, who) as client:
        wanted = _only([row for row in client.reviews() if row.order_sha256.startswith(order.lower())], order)
        draft = draft_review(wanted.order, judgement, reason, now=now())
        for line in draft.lines:
            output.note(plain(line))
        view = client.review(wanted.order_sha256, signer.sign(draft, now=now()))
    output.emit(
        view.model_dump(mode="json"),
        [f"{person} found the order about certificate {view.serial} {view.judgement}."],
    )


def _only(rows: list[ReviewView], order: str) -> ReviewView:
    if len(rows) != 1:
        output.fail(
            Message("{order} is not the beginning of one order that waits for a review", order=order),
            hint=Message("see {command}", command="'kwbp ra review'"),
        )
    return rows[0]
