"""`kwbp ra est-code`: prepare a case for an applicant's machine, which then enrols by EST with a one-time code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from cli import enrolment, output
from cli.output import said
from cli.ra_desk import PassphraseFile, desk, resolve
from cli.state import existing
from cps.model import MemberClass
from runtime.language import Listed, Message

_GROUP = 4  # characters of a code between two hyphens


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("est-code")(est_code)


def est_code(
    application: Annotated[
        str | None,
        typer.Argument(help="A draft or a returned case; without it a draft is opened.", metavar="APPLICATION"),
    ] = None,
    *,
    subject: Annotated[
        Path, typer.Option(help="JSON file with the subject, as an applicant writes it.", exists=True, dir_okay=False)
    ],
    member_class: Annotated[str, typer.Option("--class", help="Class of the draft that is opened.")] = "merchant",
    national_code: Annotated[str | None, typer.Option(help="National code of the applicant, 10 digits.")] = None,
    person: Annotated[
        str | None,
        typer.Option("--as", help="The officer who prepares it on behalf.", show_default="this machine's operator"),
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Prepare a case for a machine that enrols by EST (RFC 7030), and show the one-time code, this once.

    A draft that an officer opens is the officer's own: only they, and this machine's operator, prepare it again.
    """
    fields = _subject(subject)
    found = existing()
    if member_class not in get_args(MemberClass):
        output.fail(
            Message("no class of members is {name}", name=member_class),
            hint=Message("classes: {classes}", classes=Listed(get_args(MemberClass))),
        )
    who = None if person is None else enrolment.acting(found, person, passphrase_file)[1]
    with desk(found, who) as client:
        if application is None:
            application = client.open(cast(MemberClass, member_class)).id
        made = client.prepare_est(resolve(client, application), fields, national_code=national_code)
    code = "-".join(made.code[at : at + _GROUP] for at in range(0, len(made.code), _GROUP))
    lines = (
        Message("prepared until {time}, at {url}", time=made.good_until, url=f"{found.settings.ra.url}{made.path}"),
        Message("user: {user}", user=made.application),
        Message("one-time code, shown this once: {code}", code=code),
    )
    output.emit(made.model_dump(mode="json"), [output.plain(said(line)) for line in lines])


def _subject(file: Path) -> dict[str, Any]:
    try:
        fields = json.loads(file.read_bytes())
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        output.fail(Message("{file} holds no JSON object", file=file))
    return fields
