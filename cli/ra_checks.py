"""`kwbp ra checks`: what registers of others were asked about an application, and the applicant's phone."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cli import output
from cli.output import plain
from cli.ra_desk import ApplicationId, desk, resolve
from cli.state import existing
from ra.client import CheckView, PhoneView
from runtime.language import Message, Term

app = typer.Typer(help="Identity checks: what registers answered, and the applicant's phone.", no_args_is_help=True)


@app.command("show")
def show_checks(application: ApplicationId) -> None:
    """Show what registers were asked about an application, what they answered, and who stays silent."""
    found = existing()
    with desk(found) as client:
        checks = client.checks(resolve(client, application))
    output.table(
        "Identity checks",
        ("Revision", "Check", "Outcome", "Tries", "Asked of", "Until"),
        [
            (
                str(check.revision),
                output.said(Term("check", check.kind)),
                output.said(outcome(check)),
                str(check.attempts),
                plain(check.source),
                f"{check.answered_at or check.gives_up_at:%F %H:%M}",
            )
            for check in checks
        ],
        document=[check.model_dump(mode="json") for check in checks],
    )


@app.command()
def phone(application: ApplicationId, number: Annotated[str, typer.Argument(help="Mobile number, 09…")]) -> None:
    """Give the applicant's phone number, or have another code sent to it."""
    found = existing()
    with desk(found) as client:
        _tell(client.give_phone(resolve(client, application), number))


@app.command()
def code(application: ApplicationId) -> None:
    """Type in the code that came to the applicant's phone; it is read from standard input, never from the command."""
    found = existing()
    asked = output.said(Message("Code from the phone"))
    typed = typer.prompt(asked, hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
    with desk(found) as client:
        _tell(client.confirm_phone(resolve(client, application), typed.strip()))


def _tell(view: PhoneView) -> None:
    output.emit(view.model_dump(mode="json"), [output.said(_where(view))])


def _where(view: PhoneView) -> Message:
    if view.state == "confirmed":
        return Message("the phone is confirmed")
    if view.state == "sending":
        return Message("the gateway did not answer yet; the code is sent as soon as it does")
    return Message("a code was sent; {left} tries left", left=view.tries_left)


def outcome(check: CheckView) -> Message:
    """What a register answered, or why there is no answer."""
    if check.answer == "contradicted":
        return Message("contradicted ({reason})", reason=Term("check_reason", check.reason or "unspecified"))
    if check.answer == "confirmed":
        return Message("confirmed")
    if check.answer == "unknown":
        return Message("the register cannot tell")
    if check.state == "not_asked":
        return Message("not asked: there was nothing to ask with")
    if check.state == "gave_up":
        return Message("silent to the end ({trouble})", trouble=check.trouble or "-")
    return Message("waiting for an answer ({trouble})", trouble=check.trouble or "-")
