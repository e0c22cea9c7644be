"""`kwbp ra list` and `kwbp ra stats`: what waits for whom, what is late, how the queue stands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, cast, get_args

import typer

from cli import output
from cli.enrolment import now
from cli.output import plain, said
from cli.ra_desk import SHORT, desk
from cli.spans import span, until
from cli.state import existing
from cps.model import MemberClass
from ra.client import ApplicationSummary, OfficerView, RaClient
from ra.queue_order import Order
from ra.queue_wire import StatisticsView
from ra.states import DECIDING, ENDED_WITHOUT, State
from runtime.language import Listed, Message, Term
from runtime.problems import Problem

_NOT_FOUND: Final = 404
_PAGE: Final = 200
_CLOSED: Final = ENDED_WITHOUT | {State.ISSUED, State.ACTIVE, State.REVOKED}
_OPEN: Final = tuple(each for each in State if each not in _CLOSED)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("list")(list_applications)
    app.command("stats")(stats)


def list_applications(
    state: Annotated[
        list[State] | None,
        typer.Option(help="In this state; may be repeated.", show_default="every state that is not an end"),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Cases that are over, too.")] = False,
    member_class: Annotated[list[str] | None, typer.Option("--class", help="Of this class; may be repeated.")] = None,
    mine: Annotated[
        str | None, typer.Option(metavar="PERSON", help="Waits for a role that this officer holds now.")
    ] = None,
    role: Annotated[list[str] | None, typer.Option(help="Waits for this role; may be repeated.")] = None,
    overdue: Annotated[bool, typer.Option("--overdue", help="Should have been decided by now.")] = False,
    begins: Annotated[
        str, typer.Option("--subject", help="Whose id or organisation begins so; sorted by that name.")
    ] = "",
    sort: Annotated[Order, typer.Option(help="What comes first.")] = Order.URGENCY,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
) -> None:
    """Show the queue: what is to be decided first comes first."""
    found, at = existing(), now()
    asked: dict[str, Any] = {
        "states": tuple(state or (() if every or overdue else _OPEN)),
        "classes": tuple(map(_class, member_class or ())),
        "roles": tuple(role or ()),
        "overdue": overdue,
        "begins": begins,
        "sort": sort,
    }
    with desk(found) as client:
        officer = None if mine is None else client.officer(mine)
        if officer is not None:
            asked["roles"] = tuple({*asked["roles"], *officer.roles}) or ("nobody",)
        rows, total = _pages(client, asked, limit)
    if officer is not None:
        rows = [row for row in rows if _may_wait_for(row, officer)]
    output.table(
        said(Message("Applications")),
        _named("Application", "Class", "State", "Subject", "Waits for", "Due", "Age"),
        [
            (
                row.id[:SHORT],
                said(Term("class", row.member_class)),
                said(Term("state", row.state)),
                " · ".join(filter(None, (row.subject_id and row.subject_id[:24], row.organisation))),
                _waits_for(row),
                said(_due(row, at)),
                said(span(at - row.opened_at)),
            )
            for row in rows
        ],
        document=[row.model_dump(mode="json", by_alias=True) for row in rows],
    )
    if officer is None and (total is None or total > len(rows)):
        more = Message(
            "{shown} of {total}; more with {option}", shown=len(rows), total=total or "> 1000", option="--limit"
        )
        output.note(plain(said(more)))


def stats() -> None:
    """Show what waits for whom and how long, what is late, what registers and notices still owe."""
    found = existing()
    with desk(found) as client:
        figures = client.statistics()
        undelivered = _undelivered(client)
    unanswered = sum(each.cases for each in figures.states if each.state is State.SCREENING)
    document = {
        **figures.model_dump(mode="json", by_alias=True),
        "checks_unanswered": unanswered,
        "notices_undelivered": undelivered,
    }
    if output.json_wanted():
        output.emit(document)
        return
    at = figures.at
    output.table(
        said(Message("Waiting for people")),
        _named("Step", "Class", "Waits for", "Cases", "Late", "Oldest"),
        [
            (
                said(Term("step", each.step)),
                said(Term("class", each.member_class)),
                said(_roles(each.by)),
                each.cases,
                each.late or "",
                said(span(at - each.oldest)),
            )
            for each in figures.waiting
        ],
    )
    output.table(said(Message("Age of what waits")), _named("Age", "Cases"), _ages(figures))
    output.table(
        said(Message("All cases")),
        _named("State", "Class", "Cases"),
        [
            (said(Term("state", each.state)), said(Term("class", each.member_class)), each.cases)
            for each in figures.states
        ],
    )
    if figures.rejections:
        output.table(
            said(Message("Rejected by officers")),
            _named("Reason", "Class", "Cases"),
            [(each.code, said(Term("class", each.member_class)), each.cases) for each in figures.rejections],
        )
    alarming = Message("{late} late, {soon} more within a day", late=figures.late, soon=figures.next_day)
    owed = Message(
        "{checks} cases wait for registers, {notices} notices are undelivered",
        checks=unanswered,
        notices="?" if undelivered is None else undelivered,
    )
    colour = "red" if figures.late else "green"
    output.emit({}, [f"[{colour}]{plain(said(alarming))}[/{colour}]", plain(said(owed))])


def _undelivered(client: RaClient) -> int | None:
    """How many notices were not delivered; None if the authority sends none."""
    try:
        return len(client.notices())
    except Problem as problem:
        if problem.status != _NOT_FOUND:
            raise
        return None


def _roles(names: Sequence[str]) -> Listed:
    """Roles in words that a narrow column can break."""
    return Listed(tuple(Term("role", each, each.replace("_", " ")) for each in names), "or")


def _pages(client: RaClient, asked: dict[str, Any], limit: int) -> tuple[list[ApplicationSummary], int | None]:
    """So many cases, and how many there are; page after page."""
    rows: list[ApplicationSummary] = []
    after: str | None = None
    while True:
        page = client.queue(**asked, after=after, limit=min(_PAGE, limit - len(rows)))
        rows += page.applications
        after = page.next
        if after is None or len(rows) >= limit:
            return rows, page.total


def _class(typed: str) -> MemberClass:
    for each in get_args(MemberClass):
        if each == typed:
            return cast(MemberClass, each)
    return output.fail(
        Message("{text} is no class of members", text=repr(typed)),
        hint=Message("one of {classes}", classes=Listed(get_args(MemberClass), "or")),
    )


def _may_wait_for(row: ApplicationSummary, officer: OfficerView) -> bool:
    """Whether one of the officer's roles, in its scope, is one that the case waits for."""
    if row.next_step is None:
        return False
    grants = [grant for each in officer.credentials for grant in each.grants if grant.in_effect]
    return any(
        grant.role in row.next_step.by and (grant.scope is None or row.member_class in grant.scope) for grant in grants
    )


def _waits_for(row: ApplicationSummary) -> str:
    if row.next_step is None:
        return ""
    step = row.next_step
    text = Message("{step}: {roles}", step=Term("step", step.name), roles=_roles(step.by))
    return said(text) + (f" ×{step.missing}" if step.missing > 1 else "")


def _due(row: ApplicationSummary, at: datetime) -> Message:
    """The clock that matters: of deciding while it runs, else of the request, else of acceptance."""
    if row.state in DECIDING and row.decide_by is not None:
        return until(row.decide_by, at)
    if row.state is State.ISSUED and row.accept_by is not None:
        return Message("accept {when}", when=until(row.accept_by, at))
    if row.state in _CLOSED:
        return Message("over")
    return Message("lapses {when}", when=until(row.due_at, at))


def _ages(figures: StatisticsView) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for each in figures.ages:
        label = Message("under {span}", span=span(each.below)) if each.below is not None else Message("older")
        rows.append((said(label), each.cases))
    return rows


def _named(*columns: str) -> Sequence[Term]:
    return [Term("column", each) for each in columns]
