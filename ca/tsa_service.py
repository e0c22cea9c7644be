"""The time-stamp authority over HTTP (RFC 3161 3.4): what waits at a moment is signed together by the token key.

    POST /tsa   application/timestamp-query → application/timestamp-reply

Every request that arrives whole is answered by a TimeStampResp with status 200, a refusal too; where asking again may
help, Retry-After says when. While one batch is with the HSM service, the next one gathers. genTime is taken when a
batch leaves, never when a request arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography import x509
from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ca.tsa import MAX_REQUEST, Numbers, Question, Rejection, read_request, tst_info
from ca.tsa_clock import TimeDoubtfulError, TrustedClock
from hsm_service.retry import RetryPolicy
from hsm_service.service import SignKind
from hsm_service.wire import BatchAnswer, BatchItem
from pki.timestamp import grant, reject, without_certificates
from pki.timestamp_structures import Failure
from runtime.logging import get_logger
from runtime.problems import Problem

KEY: Final = "tsa"
QUERY_TYPE: Final = "application/timestamp-query"
REPLY_TYPE: Final = "application/timestamp-reply"
RETRY: Final = RetryPolicy(attempts=2, deadline=2.0, keyed=False)
"""For the client that it signs with: a TSTInfo is too old after five seconds, and another is made for nothing."""

_BATCH: Final = 200
_AT_ONCE: Final = 2  # batches under way: one in the token, one between the processes
_MOST_WAITING: Final = 2_000
_NAME_AGE: Final = 60.0  # seconds after which the authority's certificate is looked at again
_TIME_FAULTS: Final = frozenset({"bad-gen-time", "time-went-back"})

_log = get_logger("tsa")
_ANSWERS: Final = Counter("kwbp_tsa_answers", "Answers of the time-stamp authority", ["result"])


class BatchSigner(Protocol):
    """What is needed of `hsm_service.client.AsyncHsmClient`."""

    def certificate_chain(self, name: str) -> Awaitable[tuple[bytes, ...]]: ...

    def batch_sign(self, name: str, kind: SignKind, items: Sequence[BatchItem]) -> Awaitable[BatchAnswer]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    question: Question
    answer: asyncio.Future[bytes]


class TimestampAuthority:
    """Answers requests; belongs to one event loop."""

    def __init__(
        self,
        signer: Callable[[], BatchSigner],
        *,
        key: str = KEY,
        clock: TrustedClock | None = None,
        rng: Callable[[int], bytes] = os.urandom,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`signer` gives the client of the HSM service once the loop runs; `key` is the name of the token key."""
        self._open = signer
        self._key = key
        self._signer: BatchSigner | None = None
        self._clock = clock or TrustedClock()
        self._numbers = Numbers(rng)
        self._monotonic = monotonic
        self._name: tuple[x509.Name, float] | None = None
        self._waiting: deque[_Waiting] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._at_work = 0
        """Workers that will look again for who waits; `_workers` has one that ended for a turn of the loop more."""

    @property
    def routes(self) -> list[Route]:
        """Its place in an application."""
        return [Route("/tsa", self._endpoint, methods=["POST"])]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Around the life of an application: what is open is closed at its end."""
        try:
            yield
        finally:
            for task in list(self._workers):
                task.cancel()
            await asyncio.gather(*self._workers, return_exceptions=True)
            _tell(self._waiting, [_stopping()] * len(self._waiting))
            self._waiting.clear()
            if self._signer is not None:
                await self._signer.close()

    async def answer(self, request: bytes) -> tuple[bytes, int | None]:
        """The TimeStampResp (DER) to a TimeStampReq, and after how many seconds asking again may help."""
        try:
            question = read_request(request)
            token = await self._stamped(question)
        except Rejection as error:
            _ANSWERS.labels(error.failure.name.lower()).inc()
            return reject(error.failure, error.text), error.retry_after
        _ANSWERS.labels("granted").inc()
        return grant(token if question.wants_certificates else without_certificates(token)), None

    async def _endpoint(self, request: Request) -> Response:
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != QUERY_TYPE:
            raise Problem(415, "unsupported-media-type", f"the body must be {QUERY_TYPE}", clause="RFC 3161 3.4")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_REQUEST:
                raise Problem(413, "body-too-large", f"a time-stamp request has at most {MAX_REQUEST} bytes")
        der, retry_after = await self.answer(bytes(body))
        headers = {"Cache-Control": "no-store"}
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        return Response(der, media_type=REPLY_TYPE, headers=headers)

    async def _stamped(self, question: Question) -> bytes:
        if len(self._waiting) >= _MOST_WAITING:
            raise Rejection(Failure.SYSTEM_FAILURE, "too many requests are waiting", retry_after=1)
        waiting = _Waiting(question, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._at_work < _AT_ONCE:
            self._at_work += 1
            task = asyncio.create_task(self._work())
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)
        return await waiting.answer

    async def _work(self) -> None:
        """Sign what waits, together, until nothing does."""
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                batch = [each for each in batch if not each.answer.done()]  # whoever hung up waits no more
                if batch:
                    await self._sign(batch)
        finally:
            self._at_work -= 1  # with no turn of the loop since nobody waited: who comes next finds it gone

    async def _sign(self, batch: Sequence[_Waiting]) -> None:
        try:
            outcomes = await self._signed([each.question for each in batch])
        except Exception as error:
            _tell(batch, [_rejection(error)] * len(batch))
        except BaseException:  # whoever waits is told, whatever it was
            _tell(batch, [_stopping()] * len(batch))
            raise
        else:
            _tell(batch, outcomes)

    async def _signed(self, questions: Sequence[Question]) -> list[bytes | Rejection]:
        if self._signer is None:
            self._signer = self._open()
        name = await self._authority(self._signer)
        moment = self._clock.now()
        items = [
            BatchItem(tst_info(question, moment=moment, serial=self._numbers.next(moment), authority=name))
            for question in questions
        ]
        answer = await self._signer.batch_sign(self._key, "timestamp", items)
        outcomes: list[bytes | Rejection] = []
        for _item, result in zip(items, answer.items, strict=True):  # nobody has another's, or none
            if result.signed is not None:
                outcomes.append(result.signed)
            else:
                outcomes.append(_rejection(Problem.from_document(422, result.problem or {})))
        if any(isinstance(outcome, Rejection) for outcome in outcomes):
            self._name = None  # the key may have another certificate by now
        return outcomes

    async def _authority(self, signer: BatchSigner) -> x509.Name:
        """The name that the key's certificate gives the authority."""
        if self._name is None or self._monotonic() - self._name[1] > _NAME_AGE:
            chain = await signer.certificate_chain(self._key)
            self._name = (x509.load_der_x509_certificate(chain[0]).subject, self._monotonic())
        return self._name[0]


def _stopping() -> Rejection:
    return Rejection(Failure.SYSTEM_FAILURE, "the authority is being stopped", retry_after=2)


def _tell(waiting: Iterable[_Waiting], outcomes: Iterable[bytes | Rejection]) -> None:
    for each, outcome in zip(waiting, outcomes, strict=True):
        if each.answer.done():
            continue
        if isinstance(outcome, Rejection):
            each.answer.set_exception(outcome)
        else:
            each.answer.set_result(outcome)


def _rejection(error: Exception) -> Rejection:
    """How a failure is told; what is the matter inside stays in the log."""
    if isinstance(error, TimeDoubtfulError):
        _log.warning("no time-stamps", reason=str(error))
        return Rejection(Failure.TIME_NOT_AVAILABLE, "the time is in doubt", retry_after=5)
    if isinstance(error, Problem):
        _log.warning("no time-stamps", reason=error.type)
        if error.type in _TIME_FAULTS:
            return Rejection(Failure.TIME_NOT_AVAILABLE, "the time is in doubt", retry_after=5)
    else:
        _log.error("no time-stamps", error=type(error).__name__)
    return Rejection(Failure.SYSTEM_FAILURE, "the token key cannot sign now", retry_after=2)
