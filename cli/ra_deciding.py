"""`kwbp ra vet`, `approve`, `reject`, and what needs no signature: return, hold, release, withdraw, accept, issue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from cli import enrolment, output
from cli.enrolment import now
from cli.output import plain, said
from cli.packs import statements
from cli.ra_desk import SHORT, ApplicationId, AsPerson, PassphraseFile, Why, Yes, agree, desk, resolve, state, tell
from cli.state import existing
from cps.decision import Choice
from cps.rejection import RejectionReason, rejections_of
from ra.client import ApplicationView, DossierView, RaClient
from ra.officer import draft_decision
from runtime.language import Listed, Message, Term, terms

Step = Annotated[str | None, typer.Option(help="Step to decide.", show_default="the one that is due")]
Reason = Annotated[str, typer.Option(help="Why, in a sentence; part of what is signed.")]


def _list_codes(wanted: bool) -> None:
    """Print for what cases are rejected, by the statement in force, and end."""
    if not wanted:
        return
    listed = statements(existing())().in_force(now()).rejections
    document = {code: {"classes": each.classes, **each.text.model_dump()} for code, each in listed.items()}
    output.emit(document, [_listed(code, each) for code, each in listed.items()])
    raise typer.Exit


def _listed(code: str, reason: RejectionReason) -> str:
    told = Message("{reason} ({classes})", reason=reason.told, classes=terms("class", reason.classes))
    return plain(f"{code:<20} {said(told)}")


Code = Annotated[str, typer.Option(help="For which of the statement's reasons; --codes lists them.")]
Codes = Annotated[
    bool,
    typer.Option("--codes", is_eager=True, callback=_list_codes, help="List the codes of the reasons, and end."),
]

_VET = "vet"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (vet, approve, reject):
        app.command()(command)
    app.command("return")(send_back)
    for other in (hold, release, withdraw, accept, issue):
        app.command()(other)


def vet(
    application: ApplicationId,
    person: AsPerson,
    passphrase_file: PassphraseFile = None,
    reason: Reason = "",
    yes: Yes = False,
) -> None:
    """Sign that the case was vetted."""
    _decide(application, _VET, Choice.APPROVE, person, passphrase_file, reason, yes)


def approve(
    application: ApplicationId,
    person: AsPerson,
    passphrase_file: PassphraseFile = None,
    step: Step = None,
    reason: Reason = "",
    yes: Yes = False,
) -> None:
    """Sign the step that is due. When it was the last one, the certificates are issued."""
    _decide(application, step, Choice.APPROVE, person, passphrase_file, reason, yes)


def reject(
    application: ApplicationId,
    person: AsPerson,
    reason: Reason,
    code: Code,
    codes: Codes = False,
    passphrase_file: PassphraseFile = None,
    step: Step = None,
    yes: Yes = False,
) -> None:
    """Sign that the case is rejected: it ends there, and the applicant is told for which of the statement's reasons."""
    _decide(application, step, Choice.REJECT, person, passphrase_file, reason, yes, code=code)


def send_back(
    application: ApplicationId, person: AsPerson, reason: Why, passphrase_file: PassphraseFile = None
) -> None:
    """Return a case to its applicant, who amends or withdraws it; decisions made over it fall away then."""
    _act(application, person, passphrase_file, lambda client, found: client.send_back(found, reason))


def hold(application: ApplicationId, person: AsPerson, reason: Why, passphrase_file: PassphraseFile = None) -> None:
    """Stop a case for the time being: nobody decides, and the clock of deciding stands still."""
    _act(application, person, passphrase_file, lambda client, found: client.hold(found, reason))


def release(application: ApplicationId, person: AsPerson, reason: Why, passphrase_file: PassphraseFile = None) -> None:
    """Let a held case go on from where it was, judged anew."""
    _act(application, person, passphrase_file, lambda client, found: client.release(found, reason))


def withdraw(application: ApplicationId, reason: Annotated[str, typer.Option(help="Why, in a sentence.")] = "") -> None:
    """End an open application on its applicant's word."""
    _act(application, None, None, lambda client, found: client.withdraw(found, reason))


def accept(application: ApplicationId) -> None:
    """Accept the certificates of a case that this machine's operator handed in (CPS 4.4.1); else they are revoked."""
    _act(application, None, None, lambda client, found: client.accept(found))


def issue(application: ApplicationId) -> None:
    """Ask the CA again for a case that is approved and not certified yet; it is never certified twice."""
    _act(application, None, None, lambda client, found: client.issue(found))


def _act(
    application: str,
    person: str | None,
    passphrase_file: Path | None,
    act: Callable[[RaClient, str], ApplicationView],
) -> None:
    """Do something to a case as an officer, or as this machine's operator, and tell how it stands then."""
    found = existing()
    who = None if person is None else enrolment.acting(found, person, passphrase_file)[1]
    with desk(found, who) as client:
        view = act(client, resolve(client, application))
    tell(view)


def _decide(
    application: str,
    step: str | None,
    choice: Choice,
    person: str,
    passphrase_file: Path | None,
    reason: str,
    yes: bool,
    code: str | None = None,
) -> None:
    found = existing()
    signer, who = enrolment.acting(found, person, passphrase_file)
    with desk(found, who) as client:
        view = client.dossier(resolve(client, application))
        due = _step(view, step, choice)
        pack = statements(found)().governing(view.dossier.revision.cps, now())
        if code is not None:
            _require_listed(code, rejections_of(pack, view.dossier.revision.member_class))
        draft = draft_decision(view.dossier, due, choice, pack=pack, now=now(), reason=reason, code=code)
        agree(draft.lines, yes=yes, person=person)
        after = client.decide(view.dossier.revision.application_id, signer.sign(draft, now=now()))
    line = Message(
        "{person} signed {step} of {application}; {state}",
        person=person,
        step=Term("step", due),
        application=after.id[:SHORT],
        state=state(after),
    )
    output.emit(after.model_dump(mode="json", by_alias=True), [plain(said(line))])


def _require_listed(code: str, listed: Mapping[str, RejectionReason]) -> None:
    """End the command, with the reasons that there are, unless the code is one of them."""
    if code not in listed:
        output.fail(
            Message("{code} is no reason for which a case of this class is rejected", code=repr(code)),
            hint=Message("reasons: {reasons}", reasons=Listed(tuple(listed))),
        )


def _step(view: DossierView, named: str | None, choice: Choice) -> str:
    """The step to sign: the one that is due, or the named one; ends the command, and says why, if none is.

    A case whose steps are all decided can still be rejected, by naming the step.
    """
    if named is not None and (choice is Choice.REJECT or view.next_step is not None):
        return named
    if view.next_step is None:
        findings = "; ".join(f"{finding.message} ({finding.clause})" for finding in view.findings)
        short = view.dossier.revision.application_id[:SHORT]
        output.fail(
            Message("no step is due: {why}", why=findings or Message("the case is decided")),
            hint=Message("see how the case stands: {command}", command=f"'kwbp ra show {short}'"),
        )
    return view.next_step.name
