"""Answers that are signed now: questions of the same moment share a look into the database and a call of the token.

    put in a line, one for each authority → status of all in one snapshot → ResponseData → one batchSign → answers

The lines are bounded together: whoever comes when they are full is told to try later, at once. Two rounds of an
authority are under way at a time, so that the database is read while the token signs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from sqlalchemy.exc import SQLAlchemyError

from ca.errors import StoreUnavailableError
from ca.hierarchy import Authority
from ca.ocsp_answer import (
    CertificateStatus,
    ResponderKey,
    responder_key,
    responder_name,
    response_data,
    single_response,
    times,
)
from ca.ocsp_policy import OcspPolicy
from ca.ocsp_request import SHA1, OcspRequest
from ca.ocsp_store import OcspRecord, OcspStore, Standing
from hsm_service.service import KeyInfo, SignKind
from hsm_service.wire import BatchAnswer, BatchItem
from pki.ocsp_structures import wrap_response
from runtime.logging import get_logger
from runtime.problems import Problem

_ROUNDS: Final = 2
_KEY_AGE: Final = timedelta(minutes=1)
"""How long what is known of a responder's key is believed: its certificate is renewed in service."""
_log: Final = get_logger("ca.ocsp")


class AsyncBatchSigner(Protocol):
    """What is needed of the token boundary: `hsm_service.client.AsyncHsmClient`."""

    async def describe_key(self, name: str) -> KeyInfo: ...

    async def batch_sign(
        self, name: str, kind: SignKind, items: Sequence[BatchItem], *, version: int | None = None
    ) -> BatchAnswer: ...


class CannotAnswerError(Exception):
    """No answer now: `try_later` when waiting helps (token, database, too many questions), else our own fault."""

    def __init__(self, why: str, *, try_later: bool = True) -> None:
        super().__init__(why)
        self.why = why
        self.try_later = try_later


@dataclass(frozen=True, slots=True)
class SignedAnswer:
    """An OCSPResponse (DER), until when it holds, as of which epoch, and whether it may be kept for others who ask."""

    der: bytes
    this_update: datetime
    next_update: datetime
    epoch: int
    lasting: bool


@dataclass(slots=True)
class _Question:
    request: OcspRequest
    answer: asyncio.Future[SignedAnswer]


class LiveResponder:
    """Answers for the authorities it is given. Belongs to one event loop."""

    def __init__(
        self,
        store: OcspStore,
        signer: AsyncBatchSigner,
        policy: OcspPolicy,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._signer = signer
        self._policy = policy
        self._clock = clock
        self._waiting = 0
        self._lines: dict[str, deque[_Question]] = {}
        self._rounds: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._keys: dict[str, tuple[ResponderKey, datetime]] = {}
        self.trouble: str | None = None
        """Why the last round had no answers: `database`, `token`; None if it had."""

    async def answer(self, authority: Authority, request: OcspRequest) -> SignedAnswer:
        """The signed answer to a request about certificates of `authority`; raises CannotAnswerError."""
        if self._waiting >= self._policy.waiting:
            raise CannotAnswerError("busy")
        question = _Question(request, asyncio.get_running_loop().create_future())
        name = authority.name
        self._lines.setdefault(name, deque()).append(question)
        self._waiting += 1
        if self._rounds.get(name, 0) < _ROUNDS:
            self._rounds[name] = self._rounds.get(name, 0) + 1
            task = asyncio.create_task(self._serve(authority))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await question.answer

    async def _serve(self, authority: Authority) -> None:
        line = self._lines[authority.name]
        try:
            while line:
                questions = [line.popleft() for _ in range(min(len(line), self._policy.together))]
                self._waiting -= len(questions)
                try:
                    await self._round(authority, questions)
                except CannotAnswerError as error:
                    self.trouble = error.why
                    _fail(questions, error)
                except Exception as error:  # a fault of ours: nobody shall wait for ever
                    _log.error("ocsp-failed", issuer=authority.name, error=type(error).__name__, detail=str(error))
                    _fail(questions, CannotAnswerError("fault", try_later=False))
        finally:
            self._rounds[authority.name] -= 1

    async def _round(self, authority: Authority, questions: Sequence[_Question]) -> None:
        now = self._clock()
        key = await self._key(authority, now)
        serials = {asked.serial for question in questions for asked in question.request.asked}
        try:
            standing = await asyncio.to_thread(self._store.standing, authority.name, serials, now)
        except (SQLAlchemyError, StoreUnavailableError) as error:
            _log.warning("ocsp-database-away", error=type(error).__name__)
            raise CannotAnswerError("database") from error
        if self.trouble == "database":
            self.trouble = None
        to_sign: list[tuple[_Question, bytes, SignedAnswer]] = []
        for question in questions:
            kept = self._kept(question.request, standing)
            if kept is not None:
                _resolve(question, kept)
            else:
                to_sign.append((question, *self._composed(authority, key, question.request, standing, now)))
        if to_sign:
            await self._sign(authority, key, to_sign)

    async def _sign(
        self, authority: Authority, key: ResponderKey, to_sign: Sequence[tuple[_Question, bytes, SignedAnswer]]
    ) -> None:
        items = [BatchItem(data) for _question, data, _draft in to_sign]
        try:
            answers = (await self._signer.batch_sign(key.name, "ocsp", items)).items
        except Problem as problem:
            self._keys.pop(authority.name, None)
            _log.warning("ocsp-not-signed", key=key.name, type=problem.type, status=problem.status)
            raise CannotAnswerError("token") from problem
        self.trouble = None
        keep = []
        for (question, _data, draft), answer in zip(to_sign, answers, strict=True):
            if answer.signed is None:
                _log.error("ocsp-not-signed", key=key.name, type=(answer.problem or {}).get("type"))
                _fail([question], CannotAnswerError("refused", try_later=False))
                continue
            signed = SignedAnswer(
                wrap_response(answer.signed), draft.this_update, draft.next_update, draft.epoch, draft.lasting
            )
            _resolve(question, signed)
            if draft.lasting and _is_storable(question.request):
                keep.append(
                    OcspRecord(
                        authority.name,
                        question.request.asked[0].serial,
                        signed.epoch,
                        signed.this_update,
                        signed.next_update,
                        signed.der,
                    )
                )
        if keep:
            try:
                await asyncio.to_thread(self._store.keep, keep)
            except (SQLAlchemyError, StoreUnavailableError) as error:  # it was answered; next time it is signed again
                _log.warning("ocsp-not-kept", error=type(error).__name__)

    async def _key(self, authority: Authority, now: datetime) -> ResponderKey:
        known = self._keys.get(authority.name)
        if known is not None and now < known[1]:
            return known[0]
        try:
            found = responder_key(await self._signer.describe_key(responder_name(authority.name)))
        except Problem as problem:
            if known is not None and problem.status >= 500:
                return known[0]
            _log.warning("ocsp-key-unknown", issuer=authority.name, type=problem.type)
            raise CannotAnswerError("token") from problem
        if found is None:
            raise CannotAnswerError("token")
        self._keys[authority.name] = (found, now + _KEY_AGE)
        return found

    def _kept(self, request: OcspRequest, standing: Standing) -> SignedAnswer | None:
        if request.nonce is not None or not _is_storable(request):
            return None
        record = standing.signed.get(request.asked[0].serial)
        if record is None:
            return None
        return SignedAnswer(record.der, record.this_update, record.next_update, standing.epoch, lasting=True)

    def _composed(
        self, authority: Authority, key: ResponderKey, request: OcspRequest, standing: Standing, now: datetime
    ) -> tuple[bytes, SignedAnswer]:
        statuses: list[CertificateStatus] = [standing.statuses[asked.serial] for asked in request.asked]
        known = all(status.state != "unknown" for status in statuses)
        policy = self._policy
        lasting = known and request.nonce is None
        rule = policy.presigned if lasting else policy.live if known else policy.unknown
        when = times(now, rule.lifetime, policy, key)
        cutoff = authority.certificate.not_valid_before_utc
        singles = [
            single_response(asked.cert_id, status, when, cutoff)
            for asked, status in zip(request.asked, statuses, strict=True)
        ]
        draft = SignedAnswer(b"", when.this_update, when.next_update, standing.epoch, lasting)
        return response_data(key, now, singles, request.nonce), draft


def _is_storable(request: OcspRequest) -> bool:
    return len(request.asked) == 1 and request.asked[0].hash_algorithm == SHA1


def _resolve(question: _Question, answer: SignedAnswer) -> None:
    if not question.answer.done():  # whoever asked may have hung up
        question.answer.set_result(answer)


def _fail(questions: Sequence[_Question], error: CannotAnswerError) -> None:
    for question in questions:
        if not question.answer.done():
            question.answer.set_exception(CannotAnswerError(error.why, try_later=error.try_later))
