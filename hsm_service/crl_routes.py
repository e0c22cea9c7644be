"""The routes that sign a revocation list of any size: it is sent as DER, judged while it comes, and held nowhere.

    POST /v1/keys/{name}:signCrl  …/versions/{n}:signCrl    body: the TBSCertList    answer: what follows it

There is no Idempotency-Key, which would be bound to the whole body: the same list may be signed again under the same
number (`hsm_service.ledger`), so a caller whose answer was lost sends it again.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hsm_service.calls import DER
from hsm_service.crl_reader import LARGEST, CrlReader
from hsm_service.openapi_route import ApiRoute
from hsm_service.service import SignedCrl
from hsm_service.steps import Steps
from hsm_service.templates import Operation
from hsm_service.vault import Vault
from hsm_service.workers import Workers
from runtime.identity import caller_of
from runtime.problems import Problem

T = TypeVar("T")

_AT_ONCE: Final = 1024 * 1024
"""Bytes that are judged together, in a thread: what comes at a time is little, and handing it over costs."""
_PATH: Final = re.compile(r"/v1/keys/[^/]+(?:/versions/[0-9]+)?:signCrl")
_encoder: Final = msgspec.json.Encoder()


def largest_body(scope: Any) -> int | None:
    """Bytes that the body of a request may have if it is one that is read in pieces, otherwise None."""
    return LARGEST if _PATH.fullmatch(scope["path"]) is not None else None


class CrlRoutes:
    """Handlers: they pass on what comes and leave every decision to `Signing`."""

    def __init__(self, vault: Vault, workers: Workers) -> None:
        self._vault = vault
        self._workers = workers

    def routes(self) -> list[ApiRoute]:
        """The table of these routes."""
        return [
            self._route("/v1/keys/{name}:signCrl", "sign_crl", "the version of the key that is in use"),
            self._route(
                "/v1/keys/{name}/versions/{version:int}:signCrl", "sign_crl_version", "this version of the key"
            ),
        ]

    def _route(self, path: str, name: str, by: str) -> ApiRoute:
        summary = f"Sign a TBSCertList of any size with {by}"
        return ApiRoute("POST", path, self.sign, name, summary, (Operation.CRL,), answer=SignedCrl, stream=DER)

    async def sign(self, request: Request) -> Response:
        caller, name = str(caller_of(request.scope)), request.path_params["name"]
        version: int | None = request.path_params.get("version")
        signing = self._vault.signing
        reader = await self._run(signing.read_crl(caller, name, version))
        try:
            await self._read(request, reader)
        except Problem as problem:
            if problem.noted or problem.status >= 500:
                raise
            await self._run(signing.refuse_crl(caller, name, problem))
        signed = await self._run(signing.sign_crl(caller, name, reader, version))
        return Response(_encoder.encode(signed), media_type="application/json")

    async def _read(self, request: Request, reader: CrlReader) -> None:
        gathered = bytearray()
        async for part in request.stream():
            gathered += part
            if len(gathered) >= _AT_ONCE:
                await self._workers.run(reader.feed, bytes(gathered))
                gathered.clear()
        await self._workers.run(reader.feed, bytes(gathered))

    async def _run(self, steps: Steps[T]) -> T:
        return await self._workers.run(self._vault.run, steps)
