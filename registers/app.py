"""The simulated registers over HTTP.

| route                             | for                             |
| --------------------------------- | ------------------------------- |
| POST /v1/questions/{kind}         | service:ra                      |
| POST /v1/messages                 | service:ra                      |
| PUT /v1/people, companies, accounts | service:operator              |
| GET /v1/messages/{recipient}      | service:operator                |
| POST, DELETE /v1/faults           | service:operator                |

What is asked and answered stands in `ra.checks.wire`, from the other side.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, Path, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from registers.book import Book, ReusedKeyError
from registers.faults import FaultPlan, Planned
from runtime import health, problems
from runtime.identity import require
from runtime.problems import Problem
from shetab.errors import ShetabError

RA = "service:ra"
OPERATOR = "service:operator"
_Key = Annotated[str, Header(alias="Idempotency-Key", pattern=r"^[A-Za-z0-9_-]{1,64}$")]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Status = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,29}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Ask(_Strict):
    """A question."""

    version: Literal[1]
    fields: dict[str, Annotated[str, StringConstraints(max_length=200)]]


class Send(_Strict):
    """A message."""

    version: Literal[1]
    to: Annotated[str, StringConstraints(pattern=r"^09[0-9]{9}$")]
    text: Annotated[str, StringConstraints(min_length=1, max_length=500)]


class Person(_Strict):
    """A person in the population register."""

    national_code: str
    name: _Name
    status: _Status = "active"


class Company(_Strict):
    """A company in its register."""

    company_id: str
    name: _Name
    status: _Status = "active"


class Account(_Strict):
    """An account and its owners."""

    iban: str
    owners: Annotated[list[_Name], Field(min_length=1, max_length=20)]
    status: _Status = "active"


def create_app(book: Book, faults: FaultPlan) -> FastAPI:
    """The application of the simulated registers."""
    app = FastAPI(title="KWBP simulated registers", version="1")
    problems.install(app)
    health.install(app, "registers")
    as_ra, as_operator = [Depends(require(RA))], [Depends(require(OPERATOR))]

    @app.post("/v1/questions/{kind}", dependencies=as_ra)
    async def ask(kind: Literal["national_code", "company_register", "iban_owner"], body: Ask, key: _Key) -> Response:
        """Answer a question; a repeat of the key as the first time."""
        fault = faults.take(kind)
        if fault is not None and (spoiled := await _before(fault, key)) is not None:
            return spoiled
        answer = await run_in_threadpool(_answered, lambda: book.answer(kind, key, body.fields))
        if fault is not None and fault.fault == "differ" and await run_in_threadpool(book.asked, key) > 1:
            answer = _nothing(key)
        return await _after(fault, answer, 200)

    @app.post("/v1/messages", dependencies=as_ra)
    async def send(body: Send, key: _Key) -> Response:
        """Take a message; a repeat of the key once."""
        fault = faults.take("messages")
        if fault is not None and (spoiled := await _before(fault, key)) is not None:
            return spoiled
        await run_in_threadpool(_answered, lambda: book.take_message(key, body.to, body.text))
        accepted = JSONResponse({"version": 1, "key": key, "accepted": True}).body
        return await _after(fault, bytes(accepted), 202)

    @app.put("/v1/people", status_code=204, dependencies=as_operator)
    def enter_person(body: Person) -> None:
        """Enter a fictional person."""
        _entered(lambda: book.enter_person(**body.model_dump()))

    @app.put("/v1/companies", status_code=204, dependencies=as_operator)
    def enter_company(body: Company) -> None:
        """Enter a fictional company."""
        _entered(lambda: book.enter_company(**body.model_dump()))

    @app.put("/v1/accounts", status_code=204, dependencies=as_operator)
    def enter_account(body: Account) -> None:
        """Enter a fictional account."""
        _entered(lambda: book.enter_account(**body.model_dump()))

    @app.get("/v1/messages/{recipient}", dependencies=as_operator)
    def messages_to(recipient: Annotated[str, Path(pattern=r"^09[0-9]{9}$")]) -> list[str]:
        """The texts that a phone got."""
        return [message.text for message in book.messages_to(recipient)]

    @app.post("/v1/faults", status_code=204, dependencies=as_operator)
    def add_fault(body: Planned) -> None:
        """Plan a fault."""
        faults.add(body)

    @app.delete("/v1/faults", status_code=204, dependencies=as_operator)
    def clear_faults() -> None:
        """Forget all faults."""
        faults.clear()

    return app


async def _before(fault: Planned, key: str) -> Response | None:
    """What happens instead of an answer to a request that was not worked through."""
    if fault.fault == "slow":
        await asyncio.sleep(fault.seconds)
    if fault.fault == "error":
        return Response(status_code=500)
    if fault.fault == "contradict":
        return _json(_nothing(key))
    if fault.fault == "unknown":
        return _json(b'{"version":1,"key":"%b","found":null}' % key.encode())
    return None


async def _after(fault: Planned | None, answer: bytes, status: int) -> Response:
    """The answer to a request that was worked through, or what comes of it on the way."""
    kind = None if fault is None else fault.fault
    if kind == "close":
        return StreamingResponse(_broken(answer), status, {"content-length": str(len(answer))})
    if kind == "drip":
        assert fault is not None  # it has a kind
        return StreamingResponse(_dripping(answer, fault.seconds), status, {"content-length": str(len(answer))})
    if kind == "endless":
        return StreamingResponse(_endless(), status)
    if kind == "garbage":
        return Response(b"<html>down for maintenance</html>", status, media_type="application/json")
    if kind == "another_key":
        return _json(answer.replace(b'"key"', b'"key":"another","was"', 1), status)
    return _json(answer, status)


async def _broken(answer: bytes) -> AsyncIterator[bytes]:
    yield answer[:1]  # less than was announced: the server closes the connection


async def _dripping(answer: bytes, seconds: float) -> AsyncIterator[bytes]:
    for at in range(len(answer)):
        yield answer[at : at + 1]
        await asyncio.sleep(seconds)


async def _endless() -> AsyncIterator[bytes]:
    for _ in range(1000):
        yield b" " * 4096


def _nothing(key: str) -> bytes:
    return b'{"version":1,"key":"%b","found":false}' % key.encode()


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _answered(work: Any) -> Any:
    try:
        return work()
    except ReusedKeyError:
        raise Problem(409, "key-reused", "another question was asked with this key") from None


def _entered(work: Any) -> None:
    try:
        work()
    except ShetabError:
        raise Problem(422, "check-digit", "the number has a wrong form or check digit") from None
