"""What the officers' commands have in common: who acts, on which case, and nobody signs what they have not read."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from cli import enrolment, output
from cli.output import plain, said
from cli.state import Installation
from ra.client import ApplicationView, RaClient
from runtime.language import Listed, Message, Term, Text, terms
from runtime.problems import Problem

SHORT: Final = 8
"""Digits of an application's id in tables: whole ids are 32."""
_WHOLE: Final = re.compile(r"[0-9a-f]{32}")
_PREFIX: Final = re.compile(r"[0-9a-f]{4,31}")

ApplicationId = Annotated[
    str, typer.Argument(help="Application id, or its first digits (4 at least).", metavar="APPLICATION")
]
AsPerson = Annotated[
    str,
    typer.Option("--as", envvar="KWBP_OFFICER", help="The officer who acts; the key must be here or in their token."),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        envvar="KWBP_OFFICER_PASSPHRASE_FILE",
        help="File of mode 0600 with the officer's passphrase or PIN; without it you are asked.",
    ),
]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Sign without being asked; what is signed is shown all the same.")
]
Why = Annotated[str, typer.Option("--reason", help="Why, in a sentence.")]
"""Why something is done to a case; kept in its history, and told to its applicant."""

_LOOK: Final = Message("see how the case stands: {command}", command="'kwbp ra show APPLICATION'")
_HINTS: Final[dict[str, Text]] = {
    "wrong-state": _LOOK,
    "changed-meanwhile": _LOOK,
    "refused": Message(
        "nothing was changed; who may do it and what is missing: {command}", command="'kwbp ra show APPLICATION'"
    ),
    "unknown": Message("see the queue: {command}", command="'kwbp ra list'"),
    "not-allowed": Message("see who holds which role: {command}", command="'kwbp officer list'"),
    "request-signature": Message("is the clock of this machine right? is it the newest certificate of the officer?"),
    "evidence-changed": Message(
        "the database holds another document than was taken in: tell the auditor, and change nothing"
    ),
}


@contextmanager
def desk(found: Installation, who: enrolment.Acting | None = None) -> Iterator[RaClient]:
    """The RA as `who`, by default this machine's operator; refusals end the command with a next step."""
    try:
        with enrolment.ra(found, who or found.tls("operator")) as client:
            yield client
    except Problem as problem:
        hint = _HINTS.get(problem.type)
        if hint is None:
            raise
        language = output.language()
        output.fail(problem.text(language), hint=hint, document={**problem.document(), "hint": said(hint)})


def resolve(client: RaClient, text: str) -> str:
    """The application that `text` means: its id, or the first digits of it. Ends the command if that is not one."""
    text = text.strip().lower().rstrip("…")
    if _WHOLE.fullmatch(text):
        return text
    if not _PREFIX.fullmatch(text):
        output.fail(
            Message("{text} is no application", text=repr(text)),
            hint=Message(
                "its id, or the first 4 digits or more of it, as {command} shows them", command="'kwbp ra list'"
            ),
        )
    ids = client.beginning_with(text)
    if not ids:
        output.fail(Message("no application begins with {digits}", digits=text), hint=_HINTS["unknown"])
    if len(ids) > 1:
        output.fail(
            Message("more than one application begins with {digits}", digits=text),
            hint=Message("which one? {ids}", ids=Listed(tuple(each[: len(text) + SHORT] for each in ids), "or")),
        )
    return ids[0]


def agree(lines: Sequence[str], *, yes: bool, person: str) -> None:
    """Show what is about to be signed, and go on only if the officer says so."""
    for line in lines:
        output.note(plain(line))
    if yes:
        return
    if not sys.stdin.isatty():
        output.fail(
            Message("nobody is here to read this and agree; nothing was signed"),
            hint=Message("whoever has read it passes {option}", option="--yes"),
        )
    if not typer.confirm(said(Message("Sign this as {person}?", person=person)), err=True):
        output.fail(Message("nothing was signed"))


def state(view: ApplicationView) -> Message | Term:
    """The state of a case, and the step that is due."""
    named = Term("state", view.state)
    if view.next_step is None:
        return named
    return Message(
        "{state}, next: {step} by {roles} ({missing})",
        state=named,
        step=Term("step", view.next_step.name),
        roles=terms("role", view.next_step.by, "or"),
        missing=view.next_step.missing,
    )


def tell(view: ApplicationView) -> None:
    """How a case stands after something was done to it."""
    line = Message("application {application}: {state}", application=view.id[:SHORT], state=state(view))
    lines = [plain(said(line))]
    if view.trouble:
        lines.append(f"  {plain(view.trouble)}")
    output.emit(view.model_dump(mode="json", by_alias=True), lines)
