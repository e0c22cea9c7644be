"""Who acts, for every route: the actor behind the caller's certificate, checked by the lists of now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Depends
from starlette.requests import Request

from ra.access import Actor, actor_of
from runtime.identity import caller_of

if TYPE_CHECKING:
    from ra.workflow import Workflow


def acting(request: Request) -> Actor:
    """A dependency of FastAPI; the application's `state.workflow` is the workflow. Raises NotAllowedError."""
    workflow: Workflow = request.app.state.workflow
    now = workflow.now
    return actor_of(caller_of(request.scope), trust=workflow.trust(now), now=now)


Acting = Annotated[Actor, Depends(acting)]
