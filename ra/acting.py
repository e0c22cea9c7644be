"""Who acts, for every route: the one place where it is decided.

An officer whose key is in a token signs the request (`ra.signed_requests`); then the officer acts, and a signature that
does not count ends the request. Without a signature it is the holder of the client certificate of the connection. Both
are judged by the lists of now. `signed` is a dependency of every route of the application that does something or tells
of cases, also where nobody is asked for, so that a signature is nowhere ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from fastapi import Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from ra import openers
from ra.access import Actor, actor_of
from ra.signed_requests import is_signed, judge, judge_again
from runtime.identity import caller_of

if TYPE_CHECKING:
    from ra.workflow import Workflow

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])
_COMPARES: Final = "compares_content_digest"


def compares_content_digest(endpoint: _Endpoint) -> _Endpoint:
    """Mark an endpoint that reads its body in pieces and compares it with Content-Digest itself."""
    setattr(endpoint, _COMPARES, True)
    return endpoint


async def signed(request: Request) -> Actor | None:
    """A dependency of FastAPI: the officer who signed the request, None if nobody did. Raises NotAllowedError."""
    if not is_signed(request):
        return None
    later = getattr(request.scope["route"].endpoint, _COMPARES, False)
    body = None if later else await request.body()
    return await run_in_threadpool(judge, request, body, request.app.state.workflow)


def acting(request: Request, officer: Annotated[Actor | None, Depends(signed)]) -> Actor:
    """A dependency of FastAPI; the application's `state.workflow` is the workflow. Raises NotAllowedError."""
    return officer or _connected(request)


def acting_still(request: Request) -> Actor:
    """Who acts, judged again: for routes whose bodies come slowly, after they were judged. Raises NotAllowedError."""
    carrier = _connected(request)
    return judge_again(request, request.app.state.workflow) if is_signed(request) else carrier


def _connected(request: Request) -> Actor:
    """Whoever holds the certificate of the connection, or the secret that came along."""
    workflow: Workflow = request.app.state.workflow
    now = workflow.now
    actor = actor_of(caller_of(request.scope), trust=workflow.trust(now), now=now)
    secret = openers.brought(request.headers.get("authorization")) if actor.name == openers.NOBODY else None
    return actor if secret is None else Actor(openers.name_of(secret))


Acting = Annotated[Actor, Depends(acting)]
