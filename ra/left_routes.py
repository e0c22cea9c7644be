"""What lost replicas left to be recorded, over HTTP: what waits, and having it written.

| route                             | for                        |
| --------------------------------- | -------------------------- |
| GET /v1/left-behind               | officers, service:operator |
| POST /v1/left-behind/{replica}    | service:operator           |
"""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Path

from ra.access import Act, require
from ra.acting import Acting
from ra.left_behind import Seen
from ra.left_wire import LeftView, TakenOverView, TakeOver
from ra.workflow import Workflow

Replica = Annotated[str, Path(pattern=r"^[0-9A-Za-z-]{1,64}$")]


def install(app: FastAPI, workflow: Workflow) -> None:
    """Add the routes."""
    left_behind = workflow.left_behind

    @app.get("/v1/left-behind")
    def list_left(actor: Acting) -> list[LeftView]:
        """What other replicas stored and wrote into no journal, the oldest first."""
        require(actor, Act.REVIEW)
        return [
            LeftView(replica=each.replica, count=each.count, since=each.since, keys=each.keys)
            for each in left_behind.left(keys=True)
        ]

    @app.post("/v1/left-behind/{replica}")
    def take_over(replica: Replica, body: TakeOver, actor: Acting) -> TakenOverView:
        """Write what a replica left into the journal of this one, but for what stands in its own."""
        seen = None if body.journal is None else Seen(**dict(body.journal))
        done = left_behind.take_over(actor, replica, seen)
        return TakenOverView(noted=done.noted, written=done.written)
