"""The routes of dual control: requests listed, shown, approved and, where the token was away, executed.

    GET  /v1/operations                    all requests                      officers
    GET  /v1/operations/{id}               one request                       officers, and who asked
    POST /v1/operations/{id}/approvals     hand in an approval or rejection  officers
    POST /v1/operations/{id}:execute       do what is approved               officers, and who asked

There is no route that makes a request: whoever asks for an operation that needs approvals (`POST /v1/keys` …) is
answered 202 with its request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hsm_service.openapi_route import ApiRoute
from hsm_service.operation_info import ApproveCommand, OperationInfo, OperationList
from hsm_service.operations import OFFICERS, Operations
from hsm_service.wire import read
from hsm_service.workers import Workers
from runtime.identity import caller_of
from runtime.problems import Problem

REQUESTER: Final = "{requester}"
"""Stands in the OpenAPI document for the caller who asked."""

_ID: Final = re.compile(r"[0-9a-f]{64}")
_encoder: Final = msgspec.json.Encoder()
_approve_command: Final = msgspec.json.Decoder(ApproveCommand)


class OperationRoutes:
    """Handlers: they read what comes and leave every decision to `Operations`."""

    def __init__(self, operations: Operations, workers: Workers) -> None:
        self._operations = operations
        self._workers = workers

    def routes(self) -> list[ApiRoute]:
        """The table of these routes."""
        return [
            ApiRoute(
                "GET",
                "/v1/operations",
                self.list,
                "operations",
                "The requests for operations on keys, the newest first",
                (),
                answer=OperationList,
                callers=(OFFICERS,),
            ),
            ApiRoute(
                "GET",
                "/v1/operations/{id}",
                self.show,
                "operation",
                "A request, who approved it, and what came of it",
                (),
                answer=OperationInfo,
                callers=(OFFICERS, REQUESTER),
            ),
            ApiRoute(
                "POST",
                "/v1/operations/{id}/approvals",
                self.approve,
                "approve",
                "Hand in a signed approval or rejection; the last one that was missing executes the operation",
                (),
                body=ApproveCommand,
                answer=OperationInfo,
                callers=(OFFICERS,),
            ),
            ApiRoute(
                "POST",
                "/v1/operations/{id}:execute",
                self.execute,
                "execute",
                "Do what is approved and could not be done when it was, because the token was away",
                (),
                answer=OperationInfo,
                callers=(OFFICERS, REQUESTER),
            ),
        ]

    async def list(self, request: Request) -> Response:
        return _json(OperationList(await self._run(self._operations.list, request)))

    async def show(self, request: Request) -> Response:
        return _json(await self._run(self._operations.show, request, _id(request)))

    async def approve(self, request: Request) -> Response:
        # Who asks comes before what they sent: to others the form of a body says nothing.
        request_id = _id(request)
        await self._run(self._operations.admit, request, request_id)
        command = read(_approve_command, await request.body())
        return _json(await self._run(self._operations.approve, request, request_id, command.approval))

    async def execute(self, request: Request) -> Response:
        return _json(await self._run(self._operations.execute, request, _id(request)))

    async def _run(self, method: Callable[..., Any], request: Request, *arguments: Any) -> Any:
        return await self._workers.run(method, str(caller_of(request.scope)), *arguments)


def _id(request: Request) -> str:
    text: str = request.path_params["id"]
    if _ID.fullmatch(text) is None:
        raise Problem(404, "operation-not-found", "there is no such operation request")
    return text


def _json(value: object) -> Response:
    return Response(_encoder.encode(value), media_type="application/json")
