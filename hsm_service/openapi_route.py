"""A route of the signing API as it is served and described: one row of its table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hsm_service.steps import Steps
from hsm_service.templates import Operation


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """What a route does with a key, what it takes and answers.

    A route that is not about a key of a template says in `callers` for whom it is, and in `keys` which keys it uses for
    what (by name). One that `asks` may answer 202 with the request that officers must approve first; one that is
    `keyed` takes an Idempotency-Key; one that can run `dry` takes the query `dry_run=true`.
    The body of a `stream` is of this media type, and read in pieces. One with `steps` is asked for every payment: it is
    answered on the event loop (`hsm_service.hot_path`), which runs what they make of caller and body for its `callers`.
    """

    method: str
    path: str
    endpoint: Callable[[Request], Awaitable[Response]]
    name: str
    summary: str
    operations: tuple[Operation, ...]
    answer: type[msgspec.Struct]
    body: type[msgspec.Struct] | None = None
    stream: str | None = None
    status: int = 200
    callers: tuple[str, ...] = ()
    keys: Mapping[str, Operation] = field(default_factory=dict)
    asks: bool = False
    keyed: bool = False
    dry: bool = False
    steps: Callable[[str, bytes], Steps[msgspec.Struct]] | None = None

    @property
    def plain_path(self) -> str:
        """The path as OpenAPI writes it."""
        return self.path.replace(":int}", "}")
