"""The queue over HTTP: pages of cases, and the figures of all."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import FastAPI, Query

from cps.model import MemberClass
from ra import text_input, views
from ra.access import Act, require
from ra.acting import Acting
from ra.queue import Place, Wanted
from ra.queue_order import Order
from ra.queue_wire import AgeView, QueuePage, RejectionCount, StateCount, StatisticsView, WaitingView
from ra.states import State
from ra.workflow import Workflow

_MOST: Final = 200
_NAME: Final = 64  # characters of an id, an organisation or a role

States = Annotated[list[State], Query(alias="state", description="in one of these states")]
Classes = Annotated[list[MemberClass], Query(alias="class", description="of one of these classes")]
Roles = Annotated[
    list[Annotated[str, Query(max_length=_NAME)]], Query(alias="role", description="waits for one of these roles")
]
Mine = Annotated[bool, Query(description="waits for a role that the caller holds for its class")]
Overdue = Annotated[bool, Query(description="should be decided by now (CPS 4.2.3)")]
Begins = Annotated[
    str,
    Query(max_length=_NAME, pattern=r"^[^\x00]*$", description="beginning of a subject or organisation"),
]
After = Annotated[str | None, Query(max_length=400, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=_MOST)]


def install(app: FastAPI, workflow: Workflow) -> None:
    """Add the routes."""
    queue = workflow.store.queue

    @app.get("/v1/applications")
    def list_applications(
        actor: Acting,
        state: States = [],  # noqa: B006  # FastAPI copies it
        member_class: Classes = [],  # noqa: B006
        role: Roles = [],  # noqa: B006
        mine: Mine = False,
        overdue: Overdue = False,
        begins: Begins = "",
        sort: Order = Order.URGENCY,
        after: After = None,
        limit: Limit = 50,
    ) -> QueuePage:
        """A page of the cases with all the given properties.

        Sorted by `sort`: what is to be decided first, what is oldest or newest; what is looked for by the beginning of
        a name (`begins`), by that name. Cases that come or go while somebody turns pages shift no other.
        """
        require(actor, Act.REVIEW)
        wanted = Wanted(
            states=state,
            classes=member_class,
            roles=role,
            held=actor.holds_for if mine else None,
            overdue=workflow.now if overdue else None,
            begins=text_input.name(begins),
        )
        found = queue.page(wanted, sort, after=None if after is None else Place.read(after), limit=limit)
        cases = workflow.store.applications_of([identifier for identifier, _place in found])
        return QueuePage(
            applications=tuple(views.summary(case) for case in cases),
            next=found[-1][1].text if len(found) == limit else None,
            total=queue.total(wanted),
        )

    @app.get("/v1/statistics")
    def statistics(actor: Acting) -> StatisticsView:
        """What waits for whom, how long already, and what is late."""
        require(actor, Act.REVIEW)
        found = workflow.store.statistics(workflow.now)
        return StatisticsView(
            at=found.at,
            states=tuple(
                StateCount.model_validate({"state": state, "class": member_class, "cases": cases})
                for (state, member_class), cases in sorted(found.states.items())
            ),
            waiting=tuple(
                WaitingView.model_validate(
                    {
                        "step": each.step,
                        "class": each.member_class,
                        "by": each.roles,
                        "cases": each.cases,
                        "oldest": each.oldest,
                        "late": each.late,
                    }
                )
                for each in found.waiting
            ),
            ages=tuple(AgeView(below=below, cases=cases) for below, cases in found.ages),
            late=found.late,
            next_day=found.next_day,
            rejections=tuple(
                RejectionCount.model_validate({"code": code, "class": member_class, "cases": cases})
                for (code, member_class), cases in sorted(found.rejections.items())
            ),
        )
