"""Routes that are called for every payment, as bare ASGI: a framework costs more than the policy.

    POST /v1/keys/{name}:sign  …/versions/{n}:sign             one structure   ?dry_run=true: judged, not signed
    POST /v1/keys/{name}:batchSign  …/versions/{n}:batchSign   many structures of one kind
    POST whatever else plug-ins have steps for

Whatever takes long to judge (a certificate and its approvals, a revocation list) goes to a thread; the rest is judged
on the event loop, and waits for disk and token there without a thread (`hsm_service.steps`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any, Final

import msgspec
from starlette.requests import Request

from audit import Journal
from hsm_service.idempotency import Idempotency, idempotency_key
from hsm_service.kinds import KINDS
from hsm_service.metrics import METRICS, Timing, result_of
from hsm_service.openapi_route import ApiRoute
from hsm_service.refusals import Refusals, client_gone
from hsm_service.service import SignCommand, Signed
from hsm_service.steps import AsyncRunner, Steps, run
from hsm_service.vault import Vault
from hsm_service.wire import BatchAnswer, BatchCommand, BatchResult, read
from hsm_service.workers import Workers
from runtime.identity import caller_of, check
from runtime.problem_handlers import answer_error
from runtime.problems import Problem
from runtime.server import is_gone

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

LARGEST_CONTENT: Final = 4 * 1024 * 1024
"""Bytes of structures in one request, however many they are."""

_PATH: Final = re.compile(r"/v1/keys/([^/]+?)(?:/versions/([0-9]{1,9}))?:(sign|batchSign)")
_DRY_RUN: Final = b"dry_run=true"
_encoder: Final = msgspec.json.Encoder()
_sign_command: Final = msgspec.json.Decoder(SignCommand)
_batch_command: Final = msgspec.json.Decoder(BatchCommand)


class HotPath:
    """ASGI application in front of another: answers what it knows, hands on the rest."""

    def __init__(
        self,
        vault: Vault,
        workers: Workers,
        idempotency: Idempotency,
        refusals: Refusals,
        plugged: Sequence[ApiRoute] = (),
    ) -> None:
        """`plugged` are the routes of plug-ins; those with steps, whose paths name nothing, are answered here."""
        self._plugged: Final = {route.path: route for route in plugged if route.steps is not None}
        self._vault = vault
        self._workers = workers
        self._idempotency = idempotency
        self._refusals = refusals
        self._runner = AsyncRunner(vault.journal, workers.run)

    def knows(self, scope: Scope) -> re.Match[str] | ApiRoute | None:
        """The match of a request's path, or the route of a plug-in, if it is answered here."""
        if scope["method"] != "POST":
            return None
        return self._plugged.get(scope["path"]) or _PATH.fullmatch(scope["path"])

    async def answer(self, known: re.Match[str] | ApiRoute, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that it knows."""
        try:
            if isinstance(known, ApiRoute):
                content = await self._plugged_in(known, scope, receive)
            else:
                content = await self._signing(known, scope, receive)
        except Exception as error:
            if isinstance(error, Problem):
                if error.status == 413 and error.clause == "KWBP K1":
                    raise  # the limit of the server itself, which answers it
                error = await self._recorded(known, scope, error)
            response = await answer_error(Request(scope), error)
            await response(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": _headers(content)})
        await send({"type": "http.response.body", "body": content})

    async def _plugged_in(self, route: ApiRoute, scope: Scope, receive: Receive) -> bytes:
        caller = str(check(caller_of(scope), *route.callers))
        assert route.steps is not None  # only such routes are known
        steps = route.steps(caller, await _body(receive))
        return _encoder.encode(await self._runner.run(steps, lambda: is_gone(scope)))

    async def _signing(self, match: re.Match[str], scope: Scope, receive: Receive) -> bytes:
        body = await _body(receive)
        name, number, verb = match.groups()
        version = int(number) if number is not None else None
        work = self._sign if verb == "sign" else self._sign_batch
        caller = str(caller_of(scope))
        key = idempotency_key(scope["headers"])
        if key is None:
            return await work(scope, caller, name, version, body)
        route = f"{scope['path']}?{scope['query_string'].decode('latin-1')}"
        return await self._idempotency.answer(
            caller, key, route, body, lambda: work(scope, caller, name, version, body)
        )

    async def _recorded(self, known: re.Match[str] | ApiRoute, scope: Scope, problem: Problem) -> Problem:
        """The problem, its refusal recorded; or why that cannot be."""
        what, key = (known.name, None) if isinstance(known, ApiRoute) else (known[3], known[1])
        try:
            await self._refusals.record(what, str(caller_of(scope)), key, problem)
        except Problem as trouble:
            return trouble
        return problem

    async def _sign(self, scope: Scope, caller: str, name: str, version: int | None, body: bytes) -> bytes:
        command = read(_sign_command, body)
        if scope["query_string"] == _DRY_RUN:
            steps: Any = self._vault.signing.check(caller, name, command, version)
        elif scope["query_string"]:
            raise Problem(422, "invalid-request", "the only query is dry_run=true")
        else:
            steps = self._vault.signing.sign(caller, name, command, version)
        labels = (name, command.kind, "check" if scope["query_string"] else "sign")
        spent, began = Timing(), perf_counter()
        try:
            if KINDS[command.kind].quick:
                answer = await self._runner.run(steps, lambda: is_gone(scope), spent)
            else:
                answer = await self._workers.run(_run_in_thread, steps, self._vault.journal, spent, began)
        except BaseException as error:
            METRICS.observe(labels, spent, perf_counter() - began, result_of(error), self._vault.knows)
            raise
        METRICS.observe(labels, spent, perf_counter() - began)
        return _encoder.encode(answer)

    async def _sign_batch(self, scope: Scope, caller: str, name: str, version: int | None, body: bytes) -> bytes:
        command = read(_batch_command, body)
        if scope["query_string"]:
            raise Problem(422, "invalid-request", "a batch takes no query")
        if command.size() > LARGEST_CONTENT:
            raise Problem(413, "batch-too-large", f"a batch has at most {LARGEST_CONTENT} bytes of structures")
        commands = command.commands()
        steps = self._vault.signing.sign_many(caller, name, commands, version)
        labels = (name, command.kind, "batch")
        spent, began = Timing(), perf_counter()
        try:
            if KINDS[command.kind].quick:
                answers = await self._runner.run(steps, lambda: is_gone(scope), spent)
            else:
                answers = await self._workers.run(_run_in_thread, steps, self._vault.journal, spent, began)
        except BaseException as error:
            METRICS.observe(labels, spent, perf_counter() - began, result_of(error), self._vault.knows, len(commands))
            raise
        refused = [each for each in answers if isinstance(each, Problem)]
        METRICS.observe(labels, spent, perf_counter() - began, count=len(answers) - len(refused))
        for problem in refused:
            METRICS.count(labels, result_of(problem))
        results = [
            BatchResult(ref=item.ref, version=answer.version, log_index=answer.log_index, signed=answer.signed)
            if isinstance(answer, Signed)
            else BatchResult(ref=item.ref, problem=answer.document())
            for item, answer in zip(command.items, answers, strict=True)
        ]
        first = next((answer for answer in answers if isinstance(answer, Signed)), None)
        return _encoder.encode(
            BatchAnswer(key=name, algorithm=first.algorithm if first is not None else None, items=results)
        )


def _run_in_thread(steps: Steps[Any], journal: Journal, spent: Timing, asked: float) -> Any:
    spent.queue = perf_counter() - asked
    return run(steps, journal, spent)


async def _body(receive: Receive) -> bytes:
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        return body
    parts = []
    while True:
        if message["type"] == "http.disconnect":
            raise client_gone()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


def _headers(content: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode("ascii"))]
