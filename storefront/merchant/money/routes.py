"""The money after the authorisation over HTTP, for the merchant's own people (the operator) alone.

    GET  /orders/{xid}/money             how it stands, and every request about it
    POST /orders/{xid}/money             {wish, operation, amount?, of?, reason?}: one request, done once
    GET  /batches                        the newest batch by the own book, and every request about batches
    POST /batches                        {wish, operation: open|close|status}
    GET  /settlement-advices/{date}      YYYY-MM-DD: the acquirer's advice, compared with the own book

A request that is answered 202 is open: nobody knows yet whether it was done. The shop goes on asking.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from kwbp.codes import BatchOperation, EntryKind, ReversalReason
from kwbp.common import instant, read_signed
from kwbp.errors import ProtocolError
from kwbp.settling import (
    BatchAdminReqTBS,
    BatchAdminResTBS,
    LedgerEntry,
    Standing,
    read_request,
)
from pki.oids import (
    CT_AUTH_REV_REQ,
    CT_BATCH_ADMIN_REQ,
    CT_BATCH_ADMIN_RES,
    CT_CAP_REQ,
    CT_CAP_REV_REQ,
    CT_CRED_REQ,
    CT_CRED_REV_REQ,
)
from runtime.identity import Caller, require
from runtime.language import Message
from runtime.problems import Problem, reader_of
from shetab.types import RIAL_LIMIT
from storefront.errors import GatewayUnreachable, MoneyRefused
from storefront.merchant.money.advices import AdviceReport
from storefront.merchant.money.batches import compared
from storefront.merchant.money.book import Request
from storefront.merchant.money.office import MoneyOffice
from storefront.merchant.money.states import RequestState, money_state
from storefront.merchant.money.wishes import Operation, Wish

_XID: Final = re.compile(r"[0-9a-f]{40}")
_OPERATIONS: Final = {
    CT_CAP_REQ: Operation.CAPTURE,
    CT_CAP_REV_REQ: Operation.UNCAPTURE,
    CT_AUTH_REV_REQ: Operation.CANCEL,
    CT_CRED_REQ: Operation.REFUND,
    CT_CRED_REV_REQ: Operation.UNREFUND,
}


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    wish: Annotated[str, Field(min_length=1, max_length=80)]


class MoneyAsked(_Asked):
    """Body of `POST /orders/{xid}/money`; amounts in rial."""

    operation: Literal["capture", "uncapture", "cancel", "refund", "unrefund"]
    amount: Annotated[int | None, Field(ge=0, lt=RIAL_LIMIT)] = None
    of: Annotated[str | None, Field(pattern="^[0-9a-f]{4,64}$")] = None
    reason: Literal["customer-cancellation", "not-deliverable", "wrong-amount", "suspected-fraud"] = (
        "customer-cancellation"
    )

    def as_wish(self) -> Wish:
        """The wish that it is."""
        reason = ReversalReason[self.reason.replace("-", "_").upper()]
        return Wish(Operation(self.operation), self.amount, self.of, reason)


class BatchAsked(_Asked):
    """Body of `POST /batches`."""

    operation: Literal["open", "close", "status"]


async def _office(request: HttpRequest) -> MoneyOffice:
    office = request.app.state.shop.money
    assert isinstance(office, MoneyOffice)
    return office


Office = Annotated[MoneyOffice, Depends(_office)]
Operator = Annotated[Caller, Depends(require("service:operator"))]


def install(app: FastAPI) -> None:
    """Give the merchant server these routes."""
    app.get("/orders/{xid}/money")(money)
    app.post("/orders/{xid}/money")(ask)
    app.get("/batches")(all_batches)
    app.post("/batches")(ask_batch)
    app.get("/settlement-advices/{day}")(advice)
    app.add_exception_handler(MoneyRefused, _on_refused)


async def _on_refused(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, MoneyRefused)
    return Problem(409, "money-refused", error.told, clause=error.clause).response(reader_of(request.scope))


async def money(_caller: Operator, office: Office, xid: str) -> dict[str, Any]:
    """How the money of an order stands; `standing` is null where nothing was approved."""
    key = _order(office, xid)
    standing = office.book.standing(key)
    return {
        "xid": xid,
        "standing": None if standing is None else standing_document(standing),
        "requests": [request_document(each, office.word(each)) for each in office.book.of_order(key)],
    }


async def ask(_caller: Operator, office: Office, xid: str, asked: MoneyAsked) -> Response:
    """Ask for a movement of money."""
    key = _order(office, xid)
    request = await office.ask(key, asked.as_wish(), asked.wish)
    standing = office.book.standing(key)
    document = request_document(request, office.word(request))
    return _outcome(request, document | {"standing": None if standing is None else standing_document(standing)})


async def all_batches(_caller: Operator, office: Office) -> dict[str, Any]:
    """The newest batch, and what was asked about batches."""
    newest = office.book.newest_batch()
    return {
        "newest": None
        if newest is None
        else {"batch": newest.batch_id, "begins": _iso(newest.begins), "until": _iso(newest.until)},
        "requests": [request_document(each, office.word(each)) for each in office.book.of_batches()],
    }


async def ask_batch(_caller: Operator, office: Office, asked: BatchAsked) -> Response:
    """Open, close, or ask how the newest stands."""
    try:
        request = await office.batch(BatchOperation[asked.operation.upper()], asked.wish)
    except ProtocolError as error:  # no gateway can be named
        raise _cannot_judge(error) from None
    return _outcome(request, request_document(request, office.word(request)) | batch_document(office, request))


async def advice(_caller: Operator, office: Office, day: date) -> dict[str, Any]:
    """A day's advice beside the own book."""
    try:
        return advice_document(await office.advice(day))
    except GatewayUnreachable as error:
        said = Message("the gateway gives no advice at the moment ({reason}); ask again a little later", reason=error)
        raise Problem(503, "gateway-unreachable", said) from None
    except ProtocolError as error:
        raise _cannot_judge(error) from None


def _cannot_judge(error: ProtocolError) -> Problem:
    said = Message("what the gateway answered does not hold: {code}", code=error.code.protocol_name)
    return Problem(502, "gateway-answer-refused", said, clause=error.check)


def _order(office: MoneyOffice, xid: str) -> bytes:
    key = bytes.fromhex(xid) if _XID.fullmatch(xid) else b""
    if office.book.orders.find(key) is None:
        raise Problem(404, "unknown-xid", Message("this merchant has no order of that XID (40 hexadecimal digits)"))
    return key


def _outcome(request: Request, document: dict[str, Any]) -> Response:
    return JSONResponse(document, 202 if request.state is RequestState.OPEN else 200)


# --- documents --------------------------------------------------------------------------------------------------------


def standing_document(standing: Standing) -> dict[str, Any]:
    """A `Standing` for programs: rial, hashes in hexadecimal."""
    return {
        "state": money_state(standing).value,
        "approved": standing.approved.amount,
        "authorised": standing.authorised,
        "captured": standing.captured,
        "refunded": standing.refunded,
        "sale": standing.sale is not None,
        "open": standing.open_rrpid is not None,
        "captures": [
            {
                "id": each.h_answer.hex(),
                "amount": each.amount,
                "refunded": standing.refunded_of(each.h_answer),
                "settled": each.settled,
            }
            for each in standing.captures
        ],
        "refunds": [
            {
                "id": each.h_answer.hex(),
                "of": each.h_capture.hex(),
                "amount": each.amount,
                "settled": each.settled,
            }
            for each in standing.credits
        ],
    }


def request_document(request: Request, word: str | None) -> dict[str, Any]:
    """A request for programs; `word` says why an open one is open, `code` and `clause` how it ended."""
    document: dict[str, Any] = {
        "wish": request.wish,
        "state": request.state.value,
        "code": request.code,
        "clause": request.clause,
        "word": word,
        "at": request.created_at.isoformat(),
        "changed_at": request.changed_at.isoformat(),
    }
    if request.content_type == CT_BATCH_ADMIN_REQ:
        asked = read_signed(BatchAdminReqTBS, CT_BATCH_ADMIN_REQ, request.der).body
        return document | {"operation": f"batch {asked.operation.name.lower()}", "batch": asked.batch_id}
    body = read_request(request.content_type, request.der).body
    return document | {
        "operation": _OPERATIONS[request.content_type].value,
        "amount": body.amount.amount,
        "of": body.h_answer.hex(),
    }


def batch_document(office: MoneyOffice, request: Request) -> dict[str, Any]:
    """What the gateway's answer says of a batch, beside the own book; empty while there is none."""
    if request.state is not RequestState.APPROVED or request.answer is None:
        return {}
    body = read_signed(BatchAdminResTBS, CT_BATCH_ADMIN_RES, request.answer).body
    begins = instant(body.begins) if body.begins is not None else None
    view = office.view(begins, instant(body.until))
    return {
        "status": body.status.name.lower(),
        "begins": _iso(begins),
        "until": _iso(view.until),
        "agrees": view.totals == body.totals,
        "net": view.totals.net,
        "gateway_net": body.totals.net,
        "totals": [
            {
                "kind": kind_name(each.kind),
                "count": each.own_count,
                "amount": each.own_amount,
                "gateway_count": each.gateway_count,
                "gateway_amount": each.gateway_amount,
            }
            for each in compared(view.totals, body.totals)
        ],
    }


def advice_document(report: AdviceReport) -> dict[str, Any]:
    """An advice beside the own book, for programs."""
    own = {each.h_answer: each for each in report.ledger}
    first = report.parts[0].body
    return {
        "day": report.day.isoformat(),
        "parts": first.parts,
        "iban": first.iban,
        "net": report.net,
        "fees": report.fees,
        "expected": report.expected,
        "agrees": not report.differences,
        "lines": [
            {
                "kind": kind_name(line.kind),
                "xid": line.xid.hex(),
                "id": line.h_answer.hex(),
                "amount": line.amount,
                "fee": line.fee,
            }
            for part in report.parts
            for line in part.body.lines
        ],
        "differences": [
            {
                "kind": each.kind.value,
                "id": None if each.h_answer is None else each.h_answer.hex(),
                "xid": _xid_of(each.h_answer, own, report),
                "expected": each.expected,
                "advised": each.advised,
            }
            for each in report.differences
        ],
    }


def _xid_of(h_answer: bytes | None, own: dict[bytes, LedgerEntry], report: AdviceReport) -> str | None:
    """The purchase that a difference is about."""
    if h_answer is None:
        return None
    advised = {line.h_answer: line.xid for part in report.parts for line in part.body.lines}
    return (own[h_answer].xid if h_answer in own else advised[h_answer]).hex()


def kind_name(kind: EntryKind) -> str:
    """A kind of entry as documents spell it."""
    return kind.name.lower().replace("_", "-")


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
