"""`kwbp explain`: the story of a certificate, or of a case that may never have come to one, on one page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final

import typer

from ca.client import StoryAnswer
from cli import enrolment, output
from cli.enrolment import now
from cli.output import plain, said
from cli.ra_case import checks_of
from cli.ra_checks import outcome
from cli.ra_desk import desk, resolve
from cli.state import existing
from ra.client import CheckView, RaClient
from ra.story_wire import StatementView, StoryView
from runtime.language import Message, Term, terms
from runtime.problems import Problem

_SERIAL: Final = re.compile(r"[0-9A-Fa-f]{1,40}")
_APPLICATION: Final = re.compile(r"[0-9a-f]{4,32}…?")
_NOT_FOUND: Final = 404
_LABEL: Final = 12  # columns


def explain(
    what: Annotated[
        str,
        typer.Argument(
            help="Serial number (hexadecimal), a PEM file, or an application, also one that was never certified.",
            metavar="SERIAL|APPLICATION",
        ),
    ],
) -> None:
    """Tell how it came about: under which rules, on what evidence, who decided what and when, and what became of it."""
    found = existing()
    with desk(found) as client:
        story = _story(client, what)
        checks = () if story.application is None else checks_of(client, story.application.id)
    document = story.model_dump(mode="json", by_alias=True) | {
        "checks": [each.model_dump(mode="json") for each in checks]
    }
    output.emit(document, list(page(story, checks)))


def page(story: StoryView, checks: tuple[CheckView, ...] = ()) -> Iterator[str]:
    """The page, in lines."""
    if story.serial is not None:
        title = Message("Certificate {serial} of {issuer}", serial=story.serial, issuer=story.issuer or "?")
        yield f"[bold]{plain(said(title))}[/bold]"
        yield from _certificate(story.ca)
    if story.application is not None:
        yield from _application(story)
        yield from _rules(story)
        yield from _file(story, checks)
        for decision in story.decisions:
            yield from _decision(decision)
        yield from _transitions(story)
        yield from _certificates(story)
    elif story.ca is not None:
        yield from _made(story.ca)


def _story(client: RaClient, what: str) -> StoryView:
    """By a certificate in a file, by a serial number, else by an application."""
    in_file = enrolment.certificate_in(what)
    if in_file is not None:
        return client.explain(f"{in_file.serial_number:x}")
    if _SERIAL.fullmatch(what):
        try:
            return client.explain(what)
        except Problem as problem:
            if problem.status != _NOT_FOUND or not _APPLICATION.fullmatch(what.lower()):
                raise
    return client.explain_application(resolve(client, what))


def _certificate(record: StoryAnswer | None) -> Iterator[str]:
    """What it is, and whether it is in force: by the CA's record, which also knows orders that did not pass the RA."""
    if record is None:
        yield f"  [red]{plain(said(Message('the CA has no record of it')))}[/red]"
        return
    issued, gone = record.certificate, record.revocation
    yield _line("subject", issued.subject)
    yield _line("valid", f"{issued.not_before:%F %H:%M} → {issued.not_after:%F %H:%M}  {issued.purpose or ''}")
    if gone is not None:
        order = Message(
            "{standing}, {time} ({reason}) by order of {person}",
            standing=Term("standing", record.status),
            time=f"{gone.revoked_at:%F %H:%M}",
            reason=gone.reason,
            person=gone.ordered_by,
        )
        yield _line("status", said(order), colour="yellow" if record.status == "good" else "red")
    else:
        yield _line("status", said(Message("expired") if issued.not_after < now() else Message("in force")))
    for change in record.history:
        yield _line(
            "", f"{change.at:%F %H:%M}  {said(Term('standing', change.state))}  {change.reason}  {change.ordered_by}"
        )


def _application(story: StoryView) -> Iterator[str]:
    made = story.application
    assert made is not None  # the caller looked
    if story.serial is None:
        yield f"[bold]{made.id}[/bold]  {plain(said(Term('class', made.member_class)))}"
    state = said(Term("state", made.state))
    opened = Message("opened {time} by {who}", time=f"{made.opened_at:%F %H:%M}", who=made.opened_by)
    yield _line("application", f"{made.id}  {state}; {said(opened)}")
    if story.trouble:
        yield _line("trouble", story.trouble, colour="yellow")
    for older in story.replaced:
        yield _line("replaces", f"{older.id}  {said(Term('state', older.state))}")
    for newer in story.replaced_by:
        yield _line("replaced by", f"{newer.id}  {said(Term('state', newer.state))}")


def _rules(story: StoryView) -> Iterator[str]:
    if story.policy is None:
        yield _line("statement", said(Message("none: it was never submitted")))
        return
    policy = story.policy
    yield _line("statement", f"{policy.id} {policy.version} ({policy.digest.hex()[:16]}…), {policy.section}")
    if story.revision is not None:
        risk = Message(
            "risk {risk} by {signals}", risk=story.risk or 0, signals=", ".join(story.revision.signals) or "-"
        )
        yield _line("risk", said(risk))
    for rule in story.rules:
        asked = Message(
            "{step}: {count} × {roles}",
            step=Term("step", rule.step),
            count=rule.count,
            roles=terms("role", rule.by, "or"),
        )
        but = said(Message(", not {who}", who=", ".join(rule.excluded))) if rule.excluded else ""
        yield _line("rule", said(asked) + but)
    for finding in story.findings:
        yield _line("finding", f"{finding.message} ({finding.clause})", colour="yellow")


def _file(story: StoryView, checks: tuple[CheckView, ...]) -> Iterator[str]:
    for piece in story.evidence:
        taken = Message(
            "{kind} from {source}, taken in by {person}, {time}",
            kind=Term("evidence", piece.kind),
            source=piece.source,
            person=piece.collected_by,
            time=f"{piece.collected_at:%F %H:%M}",
        )
        yield _line("evidence", f"{said(taken)}  {piece.sha256.hex()[:16]}…")
    for check in checks:
        yield _line("check", f"{said(Term('check', check.kind))}: {said(outcome(check))}  {check.source}")


def _decision(decision: StatementView) -> Iterator[str]:
    made = Message(
        "{time} {step}: {choice} by {person} ({roles})",
        time=f"{decision.signed_at:%F %H:%M}",
        step=Term("step", decision.step),
        choice=Term("choice", decision.choice),
        person=decision.person,
        roles=terms("role", decision.roles),
    )
    verified = Message("signature verifies") if decision.signature_verifies else Message("signature does NOT verify")
    counted = Message("counted") if decision.counts else Message("did not count")
    colour = None if decision.signature_verifies else "red"
    yield _line("decision", f"{said(made)}; {said(verified)}, {said(counted)}", colour=colour)
    if decision.reason:
        yield _line("", decision.reason if decision.code is None else f"{decision.code}: {decision.reason}")


def _transitions(story: StoryView) -> Iterator[str]:
    for passage in story.transitions:
        entry = "" if passage.journal_index is None else said(Message("log {index}", index=passage.journal_index))
        step = Message(
            "{action} → {state} by {who}",
            action=Term("action", passage.action),
            state=Term("state", passage.after),
            who=passage.actor,
        )
        yield f"  {passage.at:%F %H:%M:%S}  {plain(said(step))}  [dim]{plain(entry)}[/dim]"


def _certificates(story: StoryView) -> Iterator[str]:
    """Those of the case, each with what the CA did to make it; the one that was asked for is above already."""
    for issued in story.certificates:
        record = story.records.get(issued.serial)
        yield _line("certificate", f"{issued.purpose}  {issued.issuer}/{issued.serial}")
        if issued.serial != story.serial:
            yield from _certificate(record)
        if record is not None:
            yield from _made(record)
    if story.acceptance is not None:
        how = Message("signed") if story.acceptance.signed is not None else Message("by word of who opened the case")
        accepted = f"{story.acceptance.at:%F %H:%M} {story.acceptance.by}"
        yield _line("accepted", f"{accepted} ({said(how)})")


def _made(record: StoryAnswer) -> Iterator[str]:
    if record.intent is not None:
        kept = Message(
            "{count} rules kept, over SHA-256 {digest}",
            count=len(record.intent.lints),
            digest=record.intent.tbs_sha256[:16],
        )
        yield _line("lints", said(kept))
    if record.log:
        yield _line("CA log", ", ".join(f"{event} {index}" for event, index in record.log.items()))


def _line(label: str, text: str, *, colour: str | None = None) -> str:
    named = plain(said(Term("label", label))) if label else ""
    body = plain(text)
    return f"  {named:<{_LABEL}}{f'[{colour}]{body}[/{colour}]' if colour else body}".rstrip()
