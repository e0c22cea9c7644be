"""`kwbp ra show`: one case on one screen, with what can be done next, by whom, and the command for it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import typer

from cli import output
from cli.enrolment import now
from cli.output import plain, said
from cli.packs import statements
from cli.ra_checks import outcome
from cli.ra_desk import SHORT, ApplicationId, desk, resolve
from cli.ra_who import Candidates, candidates
from cli.spans import since, span, until
from cli.state import existing
from cps.dossier import rule_of
from cps.model import SYSTEM, EvidenceRule, Pack
from ra.client import ApplicationView, CheckView, RaClient
from ra.states import DECIDABLE, DECIDING, OPEN, State
from ra.waiting import EVIDENCE
from ra.wire import DecisionView, EvidenceView
from runtime.language import Listed, Message, Term, Text, terms
from runtime.problems import Problem

_LABEL: Final = 13  # columns
_WIDTH: Final = 100
_NOT_FOUND: Final = 404
_HOLDERS: Final = frozenset({State.DRAFT, State.RETURNED})
"""States in which the applicant has the next move."""


@dataclass(frozen=True, slots=True)
class Case:
    """What the screen shows; `pack` governs the case, None while there is nothing to govern."""

    view: ApplicationView
    pack: Pack | None
    checks: tuple[CheckView, ...]
    who: Candidates
    at: datetime

    @property
    def lacking(self) -> tuple[EvidenceRule, ...]:
        """Evidence that the statement asks for, and of which there is nothing on file that is new enough."""
        if self.view.revision is None or self.pack is None or self.view.state not in DECIDABLE:
            return ()
        return tuple(rule for rule in self._rules() if not any(self._serves(rule, each) for each in self.view.evidence))

    def good_until(self, piece: EvidenceView) -> datetime | None:
        """When a piece is too old for the statement, or runs out; None if the statement does not ask for it."""
        ends = [] if piece.expires_at is None else [piece.expires_at]
        ends += [piece.collected_at + rule.max_age for rule in self._rules() if piece.kind in (rule.kind, rule.instead)]
        return min(ends, default=None)

    def _rules(self) -> tuple[EvidenceRule, ...]:
        if self.view.revision is None or self.pack is None:
            return ()
        return rule_of(self.view.revision, self.pack).evidence

    def _serves(self, rule: EvidenceRule, piece: EvidenceView) -> bool:
        end = self.good_until(piece)
        return piece.kind in (rule.kind, rule.instead) and (end is None or self.at < end)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(show)


def show(application: ApplicationId) -> None:
    """Show one case: what it is, its clocks, its risk, findings, evidence, decisions, and what to do next."""
    found = existing()
    with desk(found) as client:
        view = client.show(resolve(client, application))
        pack = None if view.revision is None else statements(found)().governing(view.revision.cps, now())
        who = Candidates((), ()) if pack is None else candidates(view, pack, client.officers())
        case = Case(view, pack, checks_of(client, view.id), who, now())
    todo, command = next_of(case)
    document = view.model_dump(mode="json", by_alias=True) | {
        "checks": [each.model_dump(mode="json") for each in case.checks],
        "next": {
            "what": str(todo),
            "command": command,
            "may": list(who.may),
            "may_not": {person: str(why) for person, why in who.may_not},
        },
    }
    output.emit(document, list(_screen(case, todo, command)))


def checks_of(client: RaClient, application: str) -> tuple[CheckView, ...]:
    """What registers were asked about a case; nothing of an authority that asks none."""
    try:
        return client.checks(application)
    except Problem as problem:
        if problem.status != _NOT_FOUND:
            raise
        return ()


def next_of(case: Case) -> tuple[Text, str | None]:
    """What is to be done next, and the command for it, if it is one of the officers'."""
    view, short = case.view, case.view.id[:SHORT]
    person = case.who.may[0] if case.who.may else "PERSON"
    if view.state in DECIDABLE and case.lacking:
        missing = Message("evidence is missing: {kinds}", kinds=terms("evidence", [each.kind for each in case.lacking]))
        return missing, _bring(case, short)
    if view.state in DECIDABLE and view.next_step is not None and view.next_step.name == EVIDENCE:
        return _UNFIT, f"kwbp ra return {short} --reason 'WHY' --as {person}"
    if view.state in DECIDABLE and view.next_step is not None:
        if view.next_step.by == (SYSTEM,):
            return Message("the registration authority decides it by itself"), None
        due = Message(
            "{step} by {roles}, {missing} missing",
            step=Term("step", view.next_step.name),
            roles=terms("role", view.next_step.by, "or"),
            missing=view.next_step.missing,
        )
        verb = "vet" if view.next_step.name == "vet" else "approve"
        return due, f"kwbp ra {verb} {short} --as {person}"
    if view.state in _HOLDERS:
        return Message("the applicant amends it or withdraws it"), None
    command = _COMMANDS.get(view.state)
    return _AFTER.get(view.state, _NOTHING), None if command is None else command.format(short)


def _bring(case: Case, short: str) -> str | None:
    """How an officer brings what is missing; what is signed elsewhere, its signer brings."""
    kinds = [each.instead or each.kind for each in case.lacking if each.form == "document"]
    if kinds:
        step = case.view.next_step
        by = case.who.may[0] if case.who.may and step is not None and _VETTING in step.by else "PERSON"
        return f"kwbp ra evidence add {short} {kinds[0]}=FILE --source 'WHERE FROM' --as {by}"
    if any(each.form == "check" for each in case.lacking):
        return f"kwbp ra checks show {short}"
    return None


_VETTING: Final = "vetting_officer"
_UNFIT: Final = Message("evidence on file does not count; other evidence is brought, or the case goes back")
_NOTHING: Final = Message("nothing is to be done")
_AFTER: Final[dict[State, Text]] = {
    State.SCREENING: Message("registers of others are being asked"),
    State.ON_HOLD: Message("somebody lets it go on"),
    State.APPROVED: Message("the certificates are on their way"),
    State.ISSUING: Message("the certificates are on their way"),
    State.ISSUE_FAILED: Message("the CA is asked again, when what it named is put right"),
    State.ISSUED: Message("the applicant accepts the certificates"),
}
_COMMANDS: Final[dict[State, str]] = {
    State.SCREENING: "kwbp ra checks show {}",
    State.ON_HOLD: "kwbp ra release {} --reason 'WHY' --as PERSON",
    State.ISSUE_FAILED: "kwbp ra issue {}",
    State.ISSUED: "kwbp ra accept {}",
    State.ACTIVE: "kwbp explain {}",
    State.REVOKED: "kwbp explain {}",
    State.REJECTED: "kwbp explain {}",
    State.WITHDRAWN: "kwbp explain {}",
    State.EXPIRED: "kwbp explain {}",
}


def _screen(case: Case, todo: Text, command: str | None) -> Iterator[str]:
    view = case.view
    yield f"[bold]{view.id}[/bold]  {plain(said(Term('class', view.member_class)))}  [bold]{_state(view)}[/bold]"
    yield from _what(view)
    yield from _clocks(case)
    yield from _judgement(case)
    yield from _file(case)
    yield from _decisions(view, case.at)
    for issued in view.certificates:
        gone = "" if issued.revocation is None else said(Message("revoked: {reason}", reason=issued.revocation.reason))
        yield _line("certificate", f"{issued.purpose}  {issued.serial}  → {issued.not_after:%F}  {gone}")
    yield _line("next", said(todo))
    for person, why in case.who.may_not:
        yield _line("", said(Message("not {person}, who {why}", person=person, why=why)))
    if case.who.may:
        yield _line("", said(Message("may: {persons}", persons=Listed(case.who.may, "or"))))
    if command is not None:
        yield f"\n  [bold]{plain(command)}[/bold]"


def _what(view: ApplicationView) -> Iterator[str]:
    yield _line("subject", "  ".join(filter(None, (view.subject_id or "-", view.organisation))))
    if view.revision is not None:
        fields = view.revision.subject.model_dump(mode="json", by_alias=True, exclude_none=True)
        said_of = [
            f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}"
            for name, value in fields.items()
            if name not in _SHOWN_ELSEWHERE and value != []
        ]
        for line in textwrap.wrap(" · ".join(said_of), _WIDTH, break_long_words=False, break_on_hyphens=False):
            yield _line("", line)
        yield _line("written by", ", ".join(author.person for author in view.revision.authors))
    if view.replaces is not None:
        yield _line("replaces", view.replaces[:SHORT])
    if view.trouble:
        yield _line("trouble", view.trouble, colour="yellow")


_SHOWN_ELSEWHERE: Final = frozenset({"class", "organisation", "merchant_id", "gateway_id", "person_id", "iban_salt"})


def _clocks(case: Case) -> Iterator[str]:
    view, at = case.view, case.at
    yield _line("opened", said(Message("{when} by {who}", when=since(view.opened_at, at), who=view.opened_by)))
    for label, end, runs in (
        ("decide", view.decide_by, view.state in DECIDING),
        ("lapses", view.due_at, view.state in OPEN),
        ("accept", view.accept_by, view.state is State.ISSUED),
    ):
        if runs and end is not None:
            yield _line(label, f"{said(until(end, at))}  ({end:%F %H:%M})", colour="red" if at >= end else None)
    if view.held_since is not None:
        yield _line("held", said(since(view.held_since, at)))


def _judgement(case: Case) -> Iterator[str]:
    view, pack = case.view, case.pack
    if view.revision is None or pack is None:
        return
    weights = [f"{each} +{pack.risk.signals.get(each, 0)}" for each in view.revision.signals]
    yield _line("risk", f"{view.risk}  ({', '.join((str(pack.risk.base), *weights))})")
    yield _line(
        "statement", f"{view.revision.cps.id} {view.revision.cps.version}, {rule_of(view.revision, pack).section}"
    )
    for finding in view.findings:
        yield _line("finding", f"{finding.message} ({finding.clause})", colour="yellow")


def _file(case: Case) -> Iterator[str]:
    for piece in case.view.evidence:
        age = Message(
            "{kind}, {age} old, from {source}, taken in by {person}, {sha256}",
            kind=Term("evidence", piece.kind),
            age=span(case.at - piece.collected_at),
            source=piece.source,
            person=piece.collected_by,
            sha256=piece.sha256.hex()[:SHORT],
        )
        end = case.good_until(piece)
        good = "" if end is None else said(Message("good for {span}", span=span(end - case.at)))
        if end is not None and end <= case.at:
            good = said(Message("too old"))
        yield _line("evidence", f"{said(age)}; {good}" if good else said(age))
    newest = max((each.revision for each in case.checks), default=0)
    for check in case.checks:
        if check.revision == newest:
            yield _line("check", f"{said(Term('check', check.kind))}: {said(outcome(check))}")


def _decisions(view: ApplicationView, at: datetime) -> Iterator[str]:
    for index, each in enumerate(view.decisions):
        counted = said(Message("counts")) if each.counts else said(_why_not(view, index, each))
        yield _line("decision", f"{said(_decided(each, at))}; {counted}", colour=None if each.counts else "dim")
        if each.reason:
            yield _line("", each.reason if each.code is None else f"{each.code}: {each.reason}")


def _decided(each: DecisionView, at: datetime) -> Message:
    return Message(
        "{step}: {choice} by {person}, {when}",
        step=Term("step", each.step),
        choice=Term("choice", each.choice),
        person=each.person,
        when=since(each.signed_at, at),
    )


def _why_not(view: ApplicationView, index: int, each: DecisionView) -> Text:
    for finding in view.findings:
        if finding.decision == index:
            return Message("does not count: {why}", why=finding.message)
    if each.revision_digest != view.revision_digest:
        return Message("over another revision")
    if each.evidence_digest != view.evidence_digest:
        return Message("over other evidence")
    return Message("decided")


def _state(view: ApplicationView) -> str:
    return plain(said(Term("state", view.state)))


def _line(label: str, text: str, *, colour: str | None = None) -> str:
    named = said(Term("label", label)) if label else ""
    body = plain(text)
    return f"  {plain(named):<{_LABEL}}{f'[{colour}]{body}[/{colour}]' if colour else body}".rstrip()
