"""`kwbp ra`: the officers' daily work: applications, evidence, signed decisions, revocations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from cli import enrolment, output, ra_checks, ra_notices, ra_review
from cli.enrolment import now
from cli.output import plain
from cli.packs import statements
from cli.state import Installation, existing
from cps.decision import Choice
from cps.model import ORDER_REASONS
from ra.client import ApplicationView, State
from ra.officer import draft_decision, draft_revocation
from runtime.language import Listed, Message, Term, terms

app = typer.Typer(help="The registration authority: applications, decisions, revocations.", no_args_is_help=True)
app.add_typer(ra_notices.app, name="notices")
app.add_typer(ra_checks.app, name="checks")
app.add_typer(ra_review.app, name="review")

ApplicationId = Annotated[
    str, typer.Argument(help="Application id, as 'kwbp ra list' shows it.", metavar="APPLICATION")
]
AsPerson = Annotated[str, typer.Option("--as", help="The officer who acts; the key must be on this machine.")]
PassphraseFile = Annotated[
    Path | None, typer.Option(help="File of mode 0600 with the officer's passphrase; without it you are asked.")
]
Step = Annotated[str | None, typer.Option(help="Step to decide.", show_default="the one that is due")]
Reason = Annotated[str, typer.Option(help="Why, in a sentence; part of what is signed.")]


@app.command("list")
def list_applications(
    state: Annotated[list[State] | None, typer.Option(help="Only applications in this state; may be repeated.")] = None,
) -> None:
    """Show the applications, newest first."""
    found = existing()
    with enrolment.ra(found, found.tls("operator")) as client:
        rows = client.list(states=state or ())
    output.table(
        "Applications",
        ("Application", "Class", "State", "Subject", "Organisation", "Due"),
        [
            (
                row.id,
                row.member_class,
                output.said(Term("state", row.state)),
                row.subject_id,
                row.organisation,
                f"{row.due_at:%F %H:%M}",
            )
            for row in rows
        ],
        document=[row.model_dump(mode="json", by_alias=True) for row in rows],
    )


@app.command()
def show(application: ApplicationId) -> None:
    """Show one application: state, findings, evidence, decisions."""
    found = existing()
    with enrolment.ra(found, found.tls("operator")) as client:
        view = client.show(application)
    output.emit(view.model_dump(mode="json", by_alias=True), _lines(view))


@app.command()
def evidence(
    application: ApplicationId,
    documents: Annotated[list[str], typer.Argument(help="KIND=FILE: kind as the CPS names it.", metavar="KIND=FILE…")],
    source: Annotated[str, typer.Option(help="Where the documents come from.")],
    person: AsPerson,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Take in documents as evidence; a vetting officer vouches for them."""
    found = existing()
    pieces = [_document(document) for document in documents]
    _officer, tls = enrolment.officer(found, person, passphrase_file)
    with enrolment.ra(found, tls) as client:
        for kind, content in pieces:
            view = client.add_evidence(application, kind, content, source=source)
    kinds = output.plain(", ".join(kind for kind, _content in pieces))
    output.emit(view.model_dump(mode="json", by_alias=True), [f"On file: {kinds}; {_state(view)}."])


def _document(text: str) -> tuple[str, bytes]:
    kind, separator, file = text.partition("=")
    path = Path(file)
    if not separator or not path.is_file():
        output.fail(
            Message("{text} is not a document", text=repr(text)),
            hint=Message("expected {form}, for example {example}", form="KIND=FILE", example="iban_owner=letter.pdf"),
        )
    return kind, path.read_bytes()


@app.command()
def vet(
    application: ApplicationId,
    person: AsPerson,
    passphrase_file: PassphraseFile = None,
    reason: Reason = "",
) -> None:
    """Sign that the case was vetted."""
    _decide(application, "vet", Choice.APPROVE, person, passphrase_file, reason)


@app.command()
def approve(
    application: ApplicationId,
    person: AsPerson,
    passphrase_file: PassphraseFile = None,
    step: Step = None,
    reason: Reason = "",
) -> None:
    """Sign the step that is due. When it was the last one, the certificates are issued."""
    _decide(application, step, Choice.APPROVE, person, passphrase_file, reason)


@app.command()
def reject(
    application: ApplicationId,
    person: AsPerson,
    reason: Reason,
    passphrase_file: PassphraseFile = None,
    step: Step = None,
) -> None:
    """Sign that the case is rejected."""
    _decide(application, step, Choice.REJECT, person, passphrase_file, reason)


@app.command()
def revoke(
    certificate: Annotated[str, typer.Argument(help="Serial number (hexadecimal) or a PEM file.")],
    person: AsPerson,
    reason: Annotated[str, typer.Option(help=f"One of {', '.join(ORDER_REASONS)}.")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign the order to revoke a certificate, to suspend it (certificateHold) or to release it (removeFromCRL).

    It takes effect in the next purchase.
    """
    found = existing()
    signer, tls = enrolment.officer(found, person, passphrase_file)
    if reason not in ORDER_REASONS:
        output.fail(
            Message("{reason} is no reason of the CPS", reason=repr(reason)),
            hint=Message("reasons: {reasons}", reasons=Listed(tuple(ORDER_REASONS))),
        )
    with enrolment.ra(found, tls) as client:
        target = _certificate(found, certificate)
        draft = draft_revocation(target, reason, now=now())
        for line in draft.lines:
            output.note(output.plain(line))
        answer = client.revoke(signer.sign(draft, now=now()))
    output.emit(
        answer.model_dump(mode="json"),
        [f"Certificate {answer.serial} is {answer.state} ({answer.reason}) by order of {answer.ordered_by}."],
    )


@app.command()
def withdraw(application: ApplicationId, reason: Reason = "") -> None:
    """End an open application."""
    found = existing()
    with enrolment.ra(found, found.tls("operator")) as client:
        view = client.withdraw(application, reason)
    output.emit(view.model_dump(mode="json", by_alias=True), [f"The application is {_state(view)}."])


def _decide(
    application: str, step: str | None, choice: Choice, person: str, passphrase_file: Path | None, reason: str
) -> None:
    found = existing()
    signer, tls = enrolment.officer(found, person, passphrase_file)
    with enrolment.ra(found, tls) as client:
        view = client.dossier(application)
        due = step or (view.next_step.name if view.next_step else None)
        if due is None:
            findings = "; ".join(f"{finding.message} ({finding.clause})" for finding in view.findings)
            output.fail(Message("no step is due: {why}", why=findings or Message("the case is decided")))
        pack = statements(found)().governing(view.dossier.revision.cps, now())
        draft = draft_decision(view.dossier, due, choice, pack=pack, now=now(), reason=reason)
        for line in draft.lines:
            output.note(output.plain(line))
        after = client.decide(application, signer.sign(draft, now=now()))
    output.emit(after.model_dump(mode="json", by_alias=True), [f"{person} signed {due}; {_state(after)}."])


def _certificate(found: Installation, text: str) -> x509.Certificate:
    if (found_in_file := enrolment.certificate_in(text)) is not None:
        return found_in_file
    with enrolment.ra(found, found.tls("operator")) as client:
        story = client.explain(text)
    if story.certificate is None:
        output.fail(
            Message("no application has led to the certificate {serial}", serial=text),
            hint=Message("give its PEM file instead"),
        )
    return x509.load_der_x509_certificate(story.certificate.certificate)


def _state(view: ApplicationView) -> str:
    state = Term("state", view.state)
    if view.next_step is not None:
        return output.said(
            Message(
                "{state}, next: {step} by {roles} ({missing})",
                state=state,
                step=Term("step", view.next_step.name),
                roles=terms("role", view.next_step.by, "or"),
                missing=view.next_step.missing,
            )
        )
    return output.said(state)


def _lines(view: ApplicationView) -> list[str]:
    lines = [
        f"[bold]{view.id}[/bold]  {view.member_class}  {_state(view)}",
        f"  subject    {plain(view.subject_id or '-')}  {plain(view.organisation or '')}",
        f"  opened     {view.opened_at:%F %H:%M} by {view.opened_by}, due {view.due_at:%F %H:%M}",
    ]
    lines += [
        f"  evidence   {piece.kind} from {plain(piece.source)}, by {plain(piece.collected_by)}"
        for piece in view.evidence
    ]
    lines += [
        f"  decision   {plain(each.step)}: {each.choice} by {plain(each.person)} at {each.signed_at:%F %H:%M}"
        + ("" if each.counts else " (does not count)")
        for each in view.decisions
    ]
    lines += [f"  finding    {plain(finding.message)} ({finding.clause})" for finding in view.findings]
    lines += [
        f"  issued     {issued.purpose} {issued.serial} until {issued.not_after:%F}" for issued in view.certificates
    ]
    return lines
