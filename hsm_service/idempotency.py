"""Requests that may be repeated: the answer of the first is given again, instead of a second signature.

A caller who lost an answer cannot know whether it was given, and PSS and ECDSA signatures differ each time. With the
header `Idempotency-Key` a request is answered once: the key is bound to the caller, the route and the exact body, the
answer is on the disk before it leaves, and a repeat within a day gets the same bytes. The same key with anything else
is refused; a repeat that comes while the first is still at work waits for it. Refusals are not kept: nothing was done,
so they are judged anew. A service killed between the signature and the keeping of its answer signs once more for the
repeat: both are in the journal, one was received.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    select,
)
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from hsm_service.steps import GONE
from runtime.database import put, reading
from runtime.group_writer import DatabaseUnavailableError, GroupWriter
from runtime.identity import caller_of
from runtime.problems import Problem

LIFETIME: Final = timedelta(hours=24)
_HEADER: Final = b"idempotency-key"
_FORM: Final = re.compile(rb"[\x21-\x7e]{1,128}")
_PRUNE_EVERY: Final = timedelta(minutes=10)
_encoder: Final = msgspec.json.Encoder()

_metadata = MetaData()
_answers = Table(
    "answers",
    _metadata,
    Column("caller", String(80), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("request", LargeBinary(32), nullable=False),  # SHA-256 of route and body
    Column("answer", LargeBinary, nullable=False),
    Column("kept", String(32), nullable=False, index=True),  # RFC 3339, UTC
)


# Composed once: composing them costs more than running them.
_find: Final = select(_answers.c.request, _answers.c.answer).where(
    _answers.c.caller == bindparam("caller"), _answers.c.key == bindparam("key"), _answers.c.kept >= bindparam("oldest")
)
_prune: Final = delete(_answers).where(_answers.c.kept < bindparam("oldest"))


def idempotency_key(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key of a request, None if it has none; Problem 400 unless it is one of 1 to 128 visible ASCII characters."""
    values = [value for name, value in headers if name == _HEADER]
    if not values:
        return None
    if len(values) > 1 or _FORM.fullmatch(values[0]) is None:
        raise Problem(400, "bad-idempotency-key", "an Idempotency-Key is one of 1 to 128 visible ASCII characters")
    return values[0].decode("ascii")


async def answer_once(
    idempotency: Idempotency, request: Request, work: Callable[[], Awaitable[object]], status: int = 200
) -> Response:
    """The answer of `work` as JSON; under an Idempotency-Key, the same for every repeat."""

    async def encoded() -> bytes:
        return _encoder.encode(await work())

    key = idempotency_key(request.scope["headers"])
    if key is None:
        content = await encoded()
    else:
        caller, route = str(caller_of(request.scope)), request.scope["path"]
        content = await idempotency.answer(caller, key, route, await request.body(), encoded)
    return Response(content, status, media_type="application/json")


class Idempotency:
    """Kept answers in a database of their own. Belongs to one event loop; `close` it."""

    def __init__(self, engine: Engine, *, clock: Callable[[], datetime]) -> None:
        _metadata.create_all(engine)
        self._engine = engine
        self._clock = clock
        self._writer = GroupWriter(engine, "idempotency")
        self._writer.start()
        self._at_work: dict[tuple[str, str], tuple[bytes, asyncio.Future[bytes]]] = {}
        self._pruned = datetime.min.replace(tzinfo=UTC)
        self._closed = False

    def close(self) -> None:
        """Finishes writing and lets go of the database."""
        self._closed = True
        self._writer.close()
        self._engine.dispose()

    async def answer(
        self, caller: str, key: str, route: str, body: bytes, work: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        """The answer of this request: the kept one, or that of `work`, kept now.

        Raises Problem 422 when the key was used for another request, 503 when the answer cannot be kept, and what
        `work` raises.
        """
        request = hashlib.sha256(route.encode() + b"\x00" + body).digest()
        while (running := self._at_work.get((caller, key))) is not None:
            _require_same(running[0], request)
            try:
                return await asyncio.shield(running[1])
            except Problem as problem:
                if problem.type != GONE:
                    raise
                # The first was dropped because its caller hung up. Whoever asks again is here, and is the first now.
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._at_work[caller, key] = (request, future)
        try:
            answer = await self._answer(caller, key, request, work)
        except BaseException as error:
            # Whoever waits for the same is told the same.
            future.set_exception(error if isinstance(error, Exception) else _interrupted())
            future.exception()  # read, so that nobody waiting is no fault
            raise
        else:
            future.set_result(answer)
            return answer
        finally:
            del self._at_work[caller, key]

    async def _answer(self, caller: str, key: str, request: bytes, work: Callable[[], Awaitable[bytes]]) -> bytes:
        now = self._clock()
        oldest = _text(now - LIFETIME)
        kept = self._kept(caller, key, oldest)
        if kept is not None:
            _require_same(kept[0], request)
            return kept[1]
        answer = await work()

        prune = now - self._pruned > _PRUNE_EVERY

        def keep(connection: Connection) -> None:
            put(connection, _answers, caller=caller, key=key, request=request, answer=answer, kept=_text(now))
            if prune:
                connection.execute(_prune, {"oldest": oldest})

        try:
            await self._writer.run(keep)
        except DatabaseUnavailableError:
            raise _unavailable() from None
        if prune:  # not in `keep`, which may run twice, or in vain
            self._pruned = now
        return answer

    def _kept(self, caller: str, key: str, oldest: str) -> tuple[bytes, bytes] | None:
        """Request and answer under this key, on the event loop: readers wait for nobody, and a thread costs more."""
        if self._closed:
            raise _unavailable()
        try:
            with reading(self._engine) as connection:
                row = connection.execute(_find, {"caller": caller, "key": key, "oldest": oldest}).one_or_none()
        except SQLAlchemyError:
            raise _unavailable() from None
        return None if row is None else (row.request, row.answer)


def _unavailable() -> Problem:
    return Problem(503, "answers-unavailable", "answers cannot be kept now", headers={"Retry-After": "5"})


def _require_same(first: bytes, second: bytes) -> None:
    if first != second:
        raise Problem(422, "idempotency-key-reused", "this Idempotency-Key was used for another request")


def _interrupted() -> Problem:
    return Problem(503, "interrupted", "the request was interrupted", headers={"Retry-After": "1"})


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
