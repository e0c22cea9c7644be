"""The simulator's banks over HTTPS with JSON: the same bank, rules and faults as on the line (`shetab.json_form`).

`POST /v1/transactions` takes a message of a gateway (client certificate) and answers it. The acquirer is whoever DE 32
names, if he is known here, and where the settings ask for a MAC, whose key made it. The same idempotency key
with another message is refused (409); with the same message the bank itself knows the repeat, as it does on the line.

Faults: what is lost on the line is here a 503 before the work ("ignore") or a 500 after it (all that loses the answer),
because HTTP has no silence that a proxy would not break.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Header
from starlette.requests import Request
from starlette.responses import Response

from runtime import health, problems
from runtime.identity import Caller, require
from runtime.problems import Problem
from shetab.dialect import Dialect, Direction
from shetab.errors import ShetabError
from shetab.json_form import LARGEST, JsonForm
from shetab.message import Message
from switch.faults import Fault
from switch.key_ring import KeyRing
from switch.processing import Processor

CANONICAL: Final = "shetab87_ascii"
MEDIA_TYPE: Final = "application/json"
GATEWAY: Final = "service:gateway"
"""Who may move money here: every other certificate of the installation logs in somewhere else."""
_LOST: Final = frozenset({"drop", "disconnect", "partial", "bad_length"})
_REMEMBERED: Final = 10_000
"""Idempotency keys that are told apart; what is older is told apart by the bank alone."""


def create_app(processor: Processor, ring: KeyRing, *, with_mac: bool, ready: Callable[[], bool]) -> FastAPI:
    """The authoriser as an ASGI application."""
    app = FastAPI(title="Authoriser")
    problems.install(app)
    health.install(app, "authoriser", ready)
    form = JsonForm(Dialect.load(CANONICAL))
    seen: OrderedDict[str, bytes] = OrderedDict()

    @app.get("/v1/schema")
    async def schema() -> dict[str, Any]:
        """JSON Schema of the messages."""
        return form.schema()

    @app.post("/v1/transactions", response_class=Response)
    async def transact(
        request: Request,
        _caller: Annotated[Caller, Depends(require(GATEWAY))],
        idempotency_key: Annotated[str, Header(pattern=r"^[0-9a-f]{64}$")],
        kwbp_mac: Annotated[str, Header()] = "",
    ) -> Response:
        """One message in, its answer out."""
        body = await request.body()
        message = _message(form, body)
        acquirer = message.get(32) or message.get(33) or ""
        if with_mac:
            _require_mac(ring, acquirer, body, kwbp_mac)
        _require_same(seen, idempotency_key, message)
        answer, fault = await processor.judge(message, acquirer)
        if answer is None:
            raise Problem(503, "not-now", "the request was lost on its way")
        if fault is not None:
            answer = await _spoilt(answer, fault)
        raw = form.encode(answer)
        if fault is not None and fault.kind == "garble":
            raw = hashlib.shake_256(raw).digest(len(raw))
        mac = ring.mac(acquirer, raw) if with_mac else b""
        if fault is not None and fault.kind == "corrupt_mac" and mac:
            mac = bytes([mac[0] ^ 1]) + mac[1:]
        headers = {"kwbp-mac": mac.hex().upper()} if mac else {}
        return Response(raw, media_type=MEDIA_TYPE, headers=headers)

    return app


def _message(form: JsonForm, body: bytes) -> Message:
    if len(body) > LARGEST:
        raise Problem(413, "too-large", f"a message has at most {LARGEST} bytes")
    try:
        message = form.decode(body, Direction.TO_SWITCH)
    except ShetabError as error:
        raise Problem(422, "malformed", str(error)) from None  # names field and rule, never the value
    if message.is_response:
        raise Problem(422, "malformed", "an answer was not asked for")
    return message


def _require_mac(ring: KeyRing, acquirer: str, body: bytes, told: str) -> None:
    try:
        mac = bytes.fromhex(told)
    except ValueError:
        mac = b""
    if ring.verify_mac(acquirer, body, mac) is None:
        raise Problem(401, "wrong-mac", "the body has no MAC, or a wrong one")


def _require_same(seen: OrderedDict[str, bytes], key: str, message: Message) -> None:
    """A repeat differs in its role and DE 7 alone."""
    told = repr(sorted((number, value) for number, value in message.fields.items() if number != 7)).encode()
    digest = hashlib.sha256(told).digest()
    if seen.setdefault(key, digest) != digest:
        raise Problem(409, "other-message", "this idempotency key came with another message")
    if len(seen) > _REMEMBERED:
        seen.popitem(last=False)


async def _spoilt(answer: Message, fault: Fault) -> Message:
    if fault.kind in _LOST:
        raise Problem(500, "answer-lost", "the answer was lost")
    if fault.kind == "delay":
        await asyncio.sleep(fault.seconds)
    changed = dict(fault.fields) if fault.kind == "alter" else {}
    if fault.kind == "wrong_stan":
        changed[11] = f"{(int(answer[11]) + 1) % 1_000_000:06d}"
    if fault.kind == "wrong_amount":
        changed[4] = f"{int(answer[4]) + 1:012d}"
    return Message(answer.mti, {**answer.fields, **changed})
