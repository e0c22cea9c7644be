"""Refusals that no part of the vault records, because it never came to them: recorded at the edge, once.

A body of another form, a caller who is turned away before the keys are looked at, an Idempotency-Key used again: what
an authenticated caller is refused on a route of the API is one entry of the journal, whichever part refused. What is
recorded already (`Problem.noted`) is not recorded again; what is wrong with the transport, or comes from nobody, never.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hsm_service.access import ANONYMOUS
from hsm_service.workers import Workers
from runtime.identity import caller_of
from runtime.problems import Problem

Endpoint = Callable[[Request], Awaitable[Response]]
Refused = Callable[[str, str, Sequence[str], Problem], None]
"""`Vault.refused`: caller, operation, keys, problem; blocks."""

_REFUSED: Final = range(400, 500)


class Refusals:
    """Records in a thread of `workers`; a refusal that cannot be recorded becomes Problem 503."""

    def __init__(self, refused: Refused, workers: Workers) -> None:
        self._refused = refused
        self._workers = workers

    async def record(self, operation: str, caller: str, key: str | None, problem: Problem) -> None:
        """Record `problem` if it is a refusal of somebody and stands nowhere yet."""
        if problem.noted or caller == ANONYMOUS or problem.status not in _REFUSED:
            return
        keys = [] if key is None else [key]
        await self._workers.run(self._refused, caller, operation, keys, problem)

    def recorded(self, operation: str, endpoint: Endpoint) -> Endpoint:
        """The endpoint, its refusals recorded under the name `operation`."""

        async def recording(request: Request) -> Response:
            try:
                return await endpoint(request)
            except ClientDisconnect:
                raise client_gone() from None
            except Problem as problem:
                await self.record(operation, str(caller_of(request.scope)), request.path_params.get("name"), problem)
                raise

        return recording


def client_gone() -> Problem:
    """What nobody will read: the request broke off."""
    problem = Problem(400, "client-gone", "the request was cut off")
    problem.noted = True
    return problem
